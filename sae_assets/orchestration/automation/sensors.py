"""A sensor per data set that registers newly arrived examples as chunks, and telling Dagster of chunks.

Nothing is computed here; ``chunks.registering`` decides and writes. Sensors ship stopped: opening the UI must
not start work.
"""

import json
from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.chunks.arrivals import table_changed
from sae_assets.chunks.registering import register
from sae_assets.errors import DatasetError
from sae_assets.orchestration.partitions import chunk_partitions, chunks_name
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.switches import REGISTER
from sae_assets.wording import counted


def announce(dataset: str, keys: list[str], instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster of registered chunks it does not know; the new ones are returned."""
    partitions = set(instance.get_dynamic_partitions(chunks_name(dataset)))
    new_keys = [key for key in keys if key not in partitions]
    if new_keys:
        instance.add_dynamic_partitions(chunks_name(dataset), new_keys)
    return new_keys


def _sensor(entry: Dataset) -> dg.SensorDefinition:
    dataset = entry.name

    @dg.sensor(
        name=REGISTER.name(dataset),
        description=REGISTER.description,
        minimum_interval_seconds=entry.arrivals.check_every_seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
        asset_selection=dg.AssetSelection.assets(dg.AssetKey([dataset, "examples"])),
    )
    def sensor(context: dg.SensorEvaluationContext, artifact_store: StoreResource):
        # A look costs one stat while the table stays as it was and nothing waits.
        last_look = json.loads(context.cursor or "{}")
        this_look = {"table": table_changed(entry.root) if entry.root.exists() else None, "waiting": False}
        partitions = set(context.instance.get_dynamic_partitions(chunks_name(dataset)))
        if last_look == {**this_look, "known": len(partitions)}:
            return dg.SkipReason(f"No new examples in {dataset}; {counted(len(partitions), 'chunk')} registered.")
        try:
            limit = entry.arrivals.chunks_per_tick
            registered = register(entry, artifact_store.store.root, close_tail=False, limit=limit)
        except (DatasetError, OSError) as error:
            return dg.SkipReason(str(error))
        new_keys = [key for key in registered.keys if key not in partitions]
        waiting = bool(registered.waiting) or len(new_keys) >= limit
        cursor = json.dumps({**this_look, "waiting": waiting, "known": len(partitions) + len(new_keys)})
        if not new_keys:
            reason = f" Waiting: {registered.waiting}." if registered.waiting else ""
            context.update_cursor(cursor)
            return dg.SkipReason(f"No new chunks in {dataset}; {len(partitions)} are registered.{reason}")
        request = chunk_partitions(dataset).build_add_request(new_keys)
        return dg.SensorResult(dynamic_partitions_requests=[request], cursor=cursor)

    return sensor


def build_sensors(catalog: Catalog) -> Iterator[dg.SensorDefinition]:
    """Yield the registering sensor of every data set."""
    for entry in catalog.datasets.values():
        yield _sensor(entry)
