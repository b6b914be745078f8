"""``<dataset>__follow``: makes each artifact as soon as it is to be made and what it reads is there and at rest.

A sensor that submits what the plan says is ready; Dagster's declarative conditions, which know of its own versions
alone, would see neither an edited catalog nor a changed SAE, and the rule of who waits for whom would stand twice.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.catalog.names import name_of
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.automation.backfills import DATASET_TAG, left_behind, look, n_partitions
from sae_assets.orchestration.marker import tell
from sae_assets.orchestration.partitions import asset_key, keys_of, partition_key
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.switches import FOLLOW
from sae_assets.pipeline.planning import Batch
from sae_assets.pipeline.stages import STAGES

BY_TAG = "sae_assets/by"
LONGEST_INTERVAL = 30  # seconds between two looks
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
            outlook = look(catalog, artifact_store.store, context.instance, dataset)
            plan = outlook.plan(limit=entry.backfills.partitions_per_tick)
        except SaeAssetsError as error:
            return dg.SkipReason(str(error))
        assert context.repository_def is not None
        tell(context.instance, context.repository_def.asset_graph, outlook)
        if not plan.ready:
            return dg.SkipReason("; ".join(filter(None, (f"Nothing of {dataset} can be made now", left_behind(plan)))))
        context.log.info(f"{n_partitions(plan.ready)} of {len(plan.addresses)} partitions to be made are requested")
        return [_request(batch, STAGES[batch.stages[0]].level) for batch in plan.ready]

    return sensor


def build_follow(catalog: Catalog) -> Iterator[dg.SensorDefinition]:
    """The switch of every data set."""
    for dataset in catalog.datasets:
        yield _sensor(catalog, dataset)
