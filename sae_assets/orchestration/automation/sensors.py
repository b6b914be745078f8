"""A sensor per data set that registers newly arrived examples as chunks, and telling Dagster of chunks.

Nothing is computed here; ``chunks.registering`` decides and writes. Sensors ship stopped: opening the UI must
not start work.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.chunks.arrivals import table_changed
from sae_assets.chunks.registering import register
from sae_assets.errors import DatasetError
from sae_assets.orchestration.automation.switches import REGISTER
from sae_assets.orchestration.partitions import chunk_partitions, chunks_name
from sae_assets.orchestration.resources import StoreResource

if TYPE_CHECKING:
    pass


def announce(dataset: str, keys: list[str], instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster of registered chunks it does not know; the new ones are returned."""
    known = set(instance.get_dynamic_partitions(chunks_name(dataset)))
    fresh = [key for key in keys if key not in known]
    if fresh:
        instance.add_dynamic_partitions(chunks_name(dataset), fresh)
    return fresh


def _sensor(dataset: str, entry: Dataset) -> dg.SensorDefinition:
    @dg.sensor(
        name=REGISTER.name(dataset),
        description=REGISTER.description,
        minimum_interval_seconds=entry.arrivals.check_every_seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
        asset_selection=dg.AssetSelection.assets(dg.AssetKey([dataset, "examples"])),
    )
    def sensor(context: dg.SensorEvaluationContext, artifact_store: StoreResource):
        # A look costs one stat while the table stays as it was and nothing waits.
        looked = json.loads(context.cursor or "{}")
        seen = {"table": table_changed(entry.root) if entry.root.exists() else None, "waiting": False}
        known = set(context.instance.get_dynamic_partitions(chunks_name(dataset)))
        if looked == {**seen, "known": len(known)}:
            return dg.SkipReason(f"No new examples in {dataset}; {len(known)} chunks are registered.")
        try:
            found = register(entry, artifact_store.store.root, close_tail=False, limit=entry.arrivals.chunks_per_tick)
        except (DatasetError, OSError) as error:
            return dg.SkipReason(str(error))
        fresh = [key for key in found.keys if key not in known]
        waiting = bool(found.waiting) or len(fresh) >= entry.arrivals.chunks_per_tick
        cursor = json.dumps({**seen, "waiting": waiting, "known": len(known) + len(fresh)})
        if not fresh:
            held = f" Waiting: {found.waiting}." if found.waiting else ""
            context.update_cursor(cursor)
            return dg.SkipReason(f"No new chunks in {dataset}; {len(known)} are registered.{held}")
        request = chunk_partitions(dataset).build_add_request(fresh)
        return dg.SensorResult(dynamic_partitions_requests=[request], cursor=cursor)

    return sensor


def build_sensors(catalog: Catalog) -> Iterator[dg.SensorDefinition]:
    """The registering sensor of every data set."""
    for dataset, entry in catalog.datasets.items():
        yield _sensor(dataset, entry)
