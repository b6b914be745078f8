"""``<dataset>__follow``: makes each artifact as soon as it is to be made and what it reads is there and at rest.

A sensor that submits what the plan says is ready; Dagster's declarative conditions, which know of its own versions
alone, would see neither an edited catalog nor a changed SAE, and the rule of who waits for whom would stand twice.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.catalog.names import name_of
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.automation.backfills import DATASET_TAG, left_behind, look_at_files, n_partitions
from sae_assets.orchestration.history import history_of
from sae_assets.orchestration.internals import newest_event
from sae_assets.orchestration.marker import tell
from sae_assets.orchestration.partitions import asset_key, keys_of, partition_key
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.switches import FOLLOW
from sae_assets.pipeline.planning import Batch, Outlook, Scope
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.staleness import Staleness
from sae_assets.storage.atomic import remove_leftovers
from sae_assets.storage.provenance import digest

BY_TAG = "sae_assets/by"
LONGEST_INTERVAL = 30  # seconds between two looks
LONGEST_REST = 300  # seconds for which a look that found nothing holds: a deleted run, for one, leaves no event
JOBS = {"dataset-chunk": "chunks", "chunk": "activations", "model": "aggregates"}  # one per kind of partitions


def job_name(dataset: str, level: str) -> str:
    """Name of the job that makes what has partitions of a level."""
    return name_of(dataset, f"make_{JOBS[level]}")


def _jobs(catalog: Catalog, dataset: str) -> list[Any]:
    keys: dict[str, list[dg.AssetKey]] = {}
    for key, stage in keys_of(catalog.datasets[dataset]):
        keys.setdefault(stage.level, []).append(key)
    return [
        dg.define_asset_job(
            job_name(dataset, level),
            dg.AssetSelection.assets(*members),
            description=f"Assets of {dataset} that have the same partitions ({JOBS[level]}).",
        )
        for level, members in keys.items()
    ]


def _request(batch: Batch, level: str) -> dg.RunRequest:
    return dg.RunRequest(
        job_name=job_name(batch.dataset, level),
        asset_selection=[asset_key(address) for address in batch.addresses],
        partition_key=partition_key(batch.addresses[0]),
        tags={DATASET_TAG: batch.dataset, BY_TAG: "follow"},
    )


def _digest(newest: int, scope: Scope, staleness: Staleness) -> str:
    """Return all that a look depends on: Dagster's newest event, and why each artifact is to be made."""
    applicable = filter(staleness.applies, scope.addresses())
    return digest([newest, *((str(address), staleness.reason(address)) for address in applicable)])


def _rested(cursor: str | None, seen: str) -> str:
    """Return what the last look said, if it found nothing to request and nothing has changed since; else empty."""
    last = json.loads(cursor or "{}")
    return last["said"] if last.get("seen") == seen and time.time() - last["at"] < LONGEST_REST else ""


def _sensor(catalog: Catalog, dataset: str) -> dg.SensorDefinition:
    entry = catalog.datasets[dataset]

    @dg.sensor(
        name=FOLLOW.name(dataset),
        jobs=_jobs(catalog, dataset),
        description=FOLLOW.description,
        minimum_interval_seconds=min(LONGEST_INTERVAL, entry.arrivals.check_every_seconds),
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def sensor(context: dg.SensorEvaluationContext, artifact_store: StoreResource):
        try:
            newest = newest_event(context.instance)  # before the look: what happens meanwhile is seen by the next
            files = look_at_files(catalog, artifact_store.store, context.instance, dataset)
            seen = _digest(newest, *files)
            if rested := _rested(context.cursor, seen):
                return dg.SkipReason(rested)
            outlook = Outlook(*files, history_of(context.instance, entry))
            plan = outlook.plan(limit=entry.backfills.partitions_per_tick)
        except SaeAssetsError as error:
            return dg.SkipReason(str(error))
        assert context.repository_def is not None
        tell(context.instance, context.repository_def.asset_graph, outlook)
        if not plan.ready:
            reason = "; ".join(filter(None, (f"Nothing of {dataset} can be made now", left_behind(plan))))
            context.update_cursor(json.dumps({"seen": seen, "at": time.time(), "said": reason}))
            return dg.SkipReason(reason)
        remove_leftovers(artifact_store.store.root / dataset)  # no command comes by that would
        context.log.info(f"{n_partitions(plan.ready)} of {len(plan.addresses)} partitions to be made are requested")
        return [_request(batch, STAGES[batch.stages[0]].level) for batch in plan.ready]

    return sensor


def build_follow(catalog: Catalog) -> Iterator[dg.SensorDefinition]:
    """Yield the switch of every data set."""
    for dataset in catalog.datasets:
        yield _sensor(catalog, dataset)
