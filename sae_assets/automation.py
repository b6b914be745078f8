"""Sensors: one per data set, which registers newly arrived examples as chunks. Nothing is computed by them.

All ship stopped: opening the UI must not start work.
"""

from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.errors import DatasetError
from sae_assets.partitions import chunk_partitions, chunks_name
from sae_assets.resources import StoreResource


def register(dataset: str, entry: Dataset, store: StoreResource) -> list[str]:
    """Cut examples that no chunk holds yet into chunks, write their manifests; all registered keys are returned.

    Raises:
        DatasetError: the data set is not laid out as its catalog entry says.
    """
    from sae_assets.datasets import open_dataset
    from sae_assets.storage.manifests import register_chunks

    records = open_dataset(dataset, entry).records
    return [manifest.key for manifest in register_chunks(store.store.root, dataset, records, entry.chunk_size)]


def _sensor(dataset: str, entry: Dataset) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"register_{dataset}_chunks",
        description=f"Registers new examples of {dataset} as chunks (partitions). Computes nothing.",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        asset_selection=dg.AssetSelection.assets(dg.AssetKey([dataset, "examples"])),
    )
    def sensor(context: dg.SensorEvaluationContext, artifact_store: StoreResource):
        try:
            keys = register(dataset, entry, artifact_store)
        except DatasetError as error:
            return dg.SkipReason(str(error))
        known = set(context.instance.get_dynamic_partitions(chunks_name(dataset)))
        fresh = [key for key in keys if key not in known]
        if not fresh:
            return dg.SkipReason(f"No new examples in {dataset}; {len(known)} chunks are registered.")
        return dg.SensorResult(dynamic_partitions_requests=[chunk_partitions(dataset).build_add_request(fresh)])

    return sensor


def build_sensors(catalog: Catalog) -> Iterator[dg.SensorDefinition]:
    """The registering sensor of every data set."""
    for dataset, entry in catalog.datasets.items():
        yield _sensor(dataset, entry)
