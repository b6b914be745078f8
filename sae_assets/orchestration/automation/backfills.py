"""Backfills of exactly what is missing or stale: planned from fingerprints, launched as ordinary Dagster backfills.

Two waves. The first makes chunks and what is fitted on them up to the mapping; the second what reads the mapping.
Together they would filter some chunks by the old mapping and some by the new one. Schedules that launch them live in
``schedules``; whether a partition is up to date is ``freshness``'s to say.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.orchestration.history import partitions_with_failed_checks, with_history
from sae_assets.orchestration.partitions import (
    chunk_partitions,
    model_chunk_partitions,
    model_partitions,
    multi_key,
    parts_of,
)
from sae_assets.orchestration.runs import asset_key
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.staleness import Freshness, Options
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from sae_assets.storage.store import ArtifactStore

DATASET_TAG, KIND_TAG = "sae_assets/dataset", "sae_assets/backfill"
FIRST_WAVE = ("examples", "labels", "ground_truth", "sparse_activations", "unit_stats", "unit_mapping")
ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
          dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]  # fmt: skip


@dataclass(frozen=True)
class Work:
    """Partitions to make, by asset key.

    Attributes:
        wave: 1 or 2; left: chunk partitions over the limit; held: partitions that should be made and were to be left
            out (a run is at it, or they failed before).
    """

    partitions: Mapping[dg.AssetKey, Sequence[str]]
    wave: int
    left: int
    held: int = 0

    @property
    def size(self) -> int:
        return sum(len(keys) for keys in self.partitions.values())


def partition_of(address: Address) -> str:
    if address.model and address.chunk:
        return multi_key(address.model, address.chunk)
    return address.model or address.chunk or ""


def addresses(catalog: Catalog, dataset: str, chunks: Sequence[str], stages: Sequence[str]) -> Iterator[Address]:
    """Every artifact that a data set's registered chunks should have, of these stages, inputs first."""
    entry = catalog.datasets[dataset]
    for stage in stages:
        level = STAGES[stage].level
        if level == "dataset-chunk":
            yield from (Address(dataset, stage, chunk=chunk) for chunk in chunks)
            continue
        keys: Sequence[str | None] = chunks if level == "chunk" else [None]
        for kind in entry.token_kinds:
            for model in entry.models:
                yield from (Address(dataset, stage, kind, model, key) for key in keys)


def plan_backfill(
    catalog: Catalog, store: "ArtifactStore", dataset: str, chunks: Sequence[str], *, limit: int,
    leave_out: Mapping[dg.AssetKey, Collection[str]] | None = None,
    again: Mapping[dg.AssetKey, Collection[str]] | None = None,
) -> Work:  # fmt: skip
    """What is missing or stale and can be made now.

    Args:
        limit: most chunk-level partitions; the first ones by chunk are taken.
        leave_out: partitions that are not to be made now (a run is at it, or it failed before); what is made from one
            of them is left out too.
        again: partitions that are to be made whatever their fingerprint says (a check of them failed).
    """
    from sae_assets.storage.snapshot import StoreSnapshot

    freshness = Freshness(catalog, StoreSnapshot(store), Options(), {dataset: chunks})
    later = [name for name in STAGES if name not in FIRST_WAVE]
    out = merged(leave_out or {})  # and what is made from it
    behind: dict[dg.AssetKey, set[str]] = {}  # what should be made and is not made now
    left = held = 0
    for wave, stages in ((1, FIRST_WAVE), (2, later)):
        wanted: dict[dg.AssetKey, list[str]] = {}
        for address in addresses(catalog, dataset, chunks, stages):
            key, partition = asset_key(address), partition_of(address)
            current = freshness.is_current(address)
            if current and partition not in (again or {}).get(key, ()):
                continue
            wanted.setdefault(key, []).append(partition)
            held += partition in (leave_out or {}).get(key, ())
            if (freshness.is_imported(address) and not current) or any(
                partition_of(made) in out.get(asset_key(made), ()) for made in _inputs(address)
            ):
                out.setdefault(key, set()).add(partition)
        kept, over = _within(wanted, limit, out, behind, freshness)
        left += over
        if kept:
            return Work(kept, wave, left, held)
        # What is fitted and still to come holds up what reads it. Where it stands (of another model, frozen, or no
        # calibration row is in what is held), the rest need not wait.
        out = merged(out, {key: names for key, names in wanted.items() if _is_fitted(key)})
    return Work({}, 2, left, held)


def _is_fitted(key: dg.AssetKey) -> bool:
    return STAGES[key.path[-1]].level == "model"


def _inputs(address: Address) -> Iterator[Address]:
    """What an artifact is made from, one by one: aggregates of its model, and of a chunk-level one its own chunk."""
    here = STAGES[address.stage]
    for stage in here.model_inputs:
        yield Address(address.dataset, stage, address.token_kind, address.model)
    for stage in here.chunk_inputs if here.level != "model" else ():
        if STAGES[stage].level == "dataset-chunk":
            yield Address(address.dataset, stage, chunk=address.chunk)
        else:
            yield Address(address.dataset, stage, address.token_kind, address.model, address.chunk)


def _within(
    wanted: Mapping[dg.AssetKey, Sequence[str]], limit: int, out: Mapping[dg.AssetKey, Collection[str]],
    behind: dict[dg.AssetKey, set[str]], freshness: Freshness,
) -> tuple[dict[dg.AssetKey, Sequence[str]], int]:  # fmt: skip
    """What can be made of ``wanted`` (inputs first), and how many chunk partitions are over the limit.

    An aggregate over chunks that are still to come would fail, or be made twice. What is not made now goes to
    ``behind``.
    """
    kept: dict[dg.AssetKey, Sequence[str]] = {}
    left, room = 0, limit
    for key, partitions in wanted.items():
        free = [partition for partition in partitions if partition not in out.get(key, ())]
        if _is_fitted(key):
            free = [model for model in free if not _waits(key, model, wanted, behind, freshness)]
        else:
            left += max(0, len(free) - room)
            free, room = free[:room], max(0, room - len(free))
        behind[key] = set(partitions) - set(free)
        if free:
            kept[key] = free
    return kept, left


def _waits(
    key: dg.AssetKey, model: str, wanted: Mapping[dg.AssetKey, Sequence[str]],
    behind: Mapping[dg.AssetKey, Collection[str]], freshness: Freshness,
) -> bool:  # fmt: skip
    """Whether an aggregate of a model reads something that is still to come."""
    stage = STAGES[key.path[-1]]
    labels = dg.AssetKey([key.path[0], "labels"])
    if behind.get(labels):  # which splits these chunks hold is not known
        return True
    if any(model in behind.get(dg.AssetKey([*key.path[:-1], name]), ()) for name in stage.model_inputs):
        return True
    new = set(wanted.get(labels, ()))  # their splits may be others than the file there says
    for name in stage.chunk_inputs:
        for partition in behind.get(dg.AssetKey([*key.path[:-1], name]), ()):
            of, chunk = parts_of(partition)
            if of == model and (chunk in new or freshness.has_any(key.path[0], chunk, stage.splits)):
                return True
    return False


def failed_partitions(instance: dg.DagsterInstance, catalog: Catalog, dataset: str) -> dict[dg.AssetKey, set[str]]:
    """Partitions of a data set's assets whose last attempt, or a blocking check of it, failed: by Dagster's history."""
    found: dict[dg.AssetKey, set[str]] = {}
    known = partition_keys(instance, catalog, dataset)
    definitions = partitions_by_asset(catalog, dataset)
    for key in with_history(instance, definitions):
        definition = definitions[key]
        states = instance.get_status_by_partition(key, known[key], definition) or {}
        failed = {name for name, state in states.items() if state == dg.AssetPartitionStatus.FAILED}
        if failed:
            found[key] = failed
    return merged(found, partitions_with_failed_checks(instance, known))


def may_go_now(
    instance: dg.DagsterInstance, failed: Mapping[dg.AssetKey, Collection[str]]
) -> dict[dg.AssetKey, set[str]]:
    """Failed partitions of aggregates that read something that was made since they were tried."""
    found: dict[dg.AssetKey, set[str]] = {}
    for key, partitions in failed.items():
        if not _is_fitted(key):
            continue
        stage = STAGES[key.path[-1]]
        read = [dg.AssetKey([*key.path[:-1], name]) for name in (*stage.chunk_inputs, *stage.model_inputs)]
        read.append(dg.AssetKey([key.path[0], "labels"]))
        made = [instance.get_latest_materialization_event(each) for each in read]
        for partition in partitions:
            last = _last_failed_run(instance, key, partition)
            if last and any(one and one.run_id != last[0] and one.timestamp > last[1] for one in made):
                found.setdefault(key, set()).add(partition)
    return found


def _last_failed_run(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> tuple[str, float] | None:
    """Id and start (seconds since the epoch) of the last failed run that was to make a partition."""
    wanted = dg.RunsFilter(tags={"dagster/partition": partition}, statuses=[dg.DagsterRunStatus.FAILURE])
    for record in instance.get_run_records(wanted, limit=50):
        if key in (record.dagster_run.asset_selection or ()):
            return record.dagster_run.run_id, record.start_time or record.create_timestamp.timestamp()
    return None


def partition_keys(instance: dg.DagsterInstance, catalog: Catalog, dataset: str) -> dict[dg.AssetKey, Sequence[str]]:
    """Every asset of a data set with the partitions that Dagster knows."""
    definitions = partitions_by_asset(catalog, dataset).items()
    return {key: each.get_partition_keys(dynamic_partitions_store=instance) for key, each in definitions}


def partitions_by_asset(catalog: Catalog, dataset: str) -> dict[dg.AssetKey, dg.PartitionsDefinition]:
    """Every asset of a data set with its partitions."""
    entry = catalog.datasets[dataset]
    by_level: dict[str, dg.PartitionsDefinition] = {
        "dataset-chunk": chunk_partitions(dataset),
        "chunk": model_chunk_partitions(dataset, entry),
        "model": model_partitions(entry),
    }
    return {
        dg.AssetKey([part for part in (dataset, kind, stage.name) if part]): by_level[stage.level]
        for stage in STAGES.values()
        for kind in ((None,) if stage.level == "dataset-chunk" else entry.token_kinds)
    }


def merged(*parts: Mapping[dg.AssetKey, Collection[str]]) -> dict[dg.AssetKey, set[str]]:
    """Union of partitions, asset by asset."""
    found: dict[dg.AssetKey, set[str]] = {}
    for part in parts:
        for key, partitions in part.items():
            found.setdefault(key, set()).update(partitions)
    return found


def busy_partitions(instance: dg.DagsterInstance, dataset: str) -> dict[dg.AssetKey, set[str]]:
    """Partitions of a data set's assets that queued or running runs are making."""
    found: dict[dg.AssetKey, set[str]] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE)):
        partition = run.tags.get("dagster/partition")
        for key in run.asset_selection or ():
            if key.path[0] == dataset and partition:
                found.setdefault(key, set()).add(partition)
    return found


def active_backfill(instance: dg.DagsterInstance, dataset: str) -> str | None:
    """Id of a backfill of this data set that has not ended, whoever launched it."""
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

    statuses = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=statuses)):
        if any(key.path[0] == dataset for key in backfill.asset_selection or ()):
            return backfill.backfill_id
    return None


def launch(
    instance: dg.DagsterInstance, asset_graph: Any, dataset: str, work: Work, *, backfill_id: str, kind: str
) -> bool:
    """Launch the work as one backfill; False if one of this id was launched before (a tick that was tried twice)."""
    # No public call makes a backfill from Python; this is what the UI's dialog and the automation daemon call.
    from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
    from dagster._core.execution.backfill import PartitionBackfill

    if instance.get_backfill(backfill_id) is not None:
        return False
    subsets = {}
    for key, partitions in work.partitions.items():
        definition = asset_graph.get(key).partitions_def
        subsets[key] = definition.subset_with_partition_keys(partitions)
    instance.add_backfill(
        PartitionBackfill.from_asset_graph_subset(
            backfill_id=backfill_id,
            backfill_timestamp=time.time(),
            tags={DATASET_TAG: dataset, KIND_TAG: kind},
            dynamic_partitions_store=instance,
            asset_graph_subset=AssetGraphSubset(partitions_subsets_by_asset_key=subsets),  # type: ignore[call-arg]
            title=f"{kind} of {dataset}, wave {work.wave}",
            description=f"{work.size} partitions that were missing or stale",
            run_config=None,
        )
    )
    return True
