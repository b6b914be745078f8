"""Registering newly arrived examples as chunks: for the command line at once, for the UI by a sensor per data set.

Nothing is computed here. Which examples may be registered is decided in ``datasets.arrivals``, manifests are written
by ``storage.manifests``. Sensors ship stopped: opening the UI must not start work.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.errors import DatasetError
from sae_assets.partitions import chunk_partitions, chunks_name
from sae_assets.resources import StoreResource

if TYPE_CHECKING:
    from sae_assets.datasets.arrivals import Arrived


@dataclass(frozen=True)
class Registered:
    """All registered chunk keys, and what still waits."""

    keys: list[str]
    unsettled: int
    tail: int
    missing: str = ""

    @property
    def waiting(self) -> str:
        """What waits, in words; empty if nothing does."""
        young = f"{self.unsettled} example(s) still being written"
        gap = f"{self.unsettled} example(s) from one on that is not there yet ({self.missing})"
        parts = [gap if self.missing else young] if self.unsettled else []
        parts += [f"{self.tail} in a chunk that is not full"] if self.tail else []
        return " and ".join(parts)


def register(
    dataset: str, entry: Dataset, store: StoreResource, *, close_tail: bool = True, limit: int | None = None
) -> Registered:
    """Cut examples that no chunk holds yet into chunks and write their manifests.

    Args:
        close_tail: also what does not fill a chunk or may still be written (a person asked for it).
        limit: most new chunks.

    Raises:
        DatasetError: the data set is not laid out as its catalog entry says, or files of examples that are to be
            registered are not there (by the rules of ``arrivals`` these wait).
    """
    from sae_assets.datasets import expect_files, open_dataset
    from sae_assets.datasets.arrivals import arrived
    from sae_assets.storage.manifests import read_manifests, register_chunks

    root, reader = store.store.root, open_dataset(dataset, entry)
    held = [example for manifest in read_manifests(root, dataset) for example in manifest.example_ids]
    found: Arrived = arrived(reader, entry, held, time.time(), close_tail=close_tail)
    if close_tail:
        expect_files(reader, found.ready)
    manifests = register_chunks(
        root, dataset, found.ready, entry.chunk_size,
        hashes=reader.hashes, keep_splits=reader.places_split, limit=limit,
    )  # fmt: skip
    return Registered([manifest.key for manifest in manifests], found.unsettled, found.tail, found.missing)


def announce(dataset: str, keys: list[str], instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster of registered chunks it does not know; the new ones are returned."""
    known = set(instance.get_dynamic_partitions(chunks_name(dataset)))
    fresh = [key for key in keys if key not in known]
    if fresh:
        instance.add_dynamic_partitions(chunks_name(dataset), fresh)
    return fresh


def _sensor(dataset: str, entry: Dataset) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"register_{dataset}_chunks",
        description=f"Registers new examples of {dataset} as chunks (partitions). Computes nothing.",
        minimum_interval_seconds=entry.arrivals.check_every_seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
        asset_selection=dg.AssetSelection.assets(dg.AssetKey([dataset, "examples"])),
    )
    def sensor(context: dg.SensorEvaluationContext, artifact_store: StoreResource):
        from sae_assets.datasets.arrivals import table_changed

        # A look costs one stat while the table stays as it was and nothing waits.
        looked = json.loads(context.cursor or "{}")
        seen = {"table": table_changed(entry.root) if entry.root.exists() else None, "waiting": False}
        known = set(context.instance.get_dynamic_partitions(chunks_name(dataset)))
        if looked == {**seen, "known": len(known)}:
            return dg.SkipReason(f"No new examples in {dataset}; {len(known)} chunks are registered.")
        try:
            found = register(dataset, entry, artifact_store, close_tail=False, limit=entry.arrivals.chunks_per_tick)
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
