"""Schedules of every data set: backfills of what is missing or stale, and repair of what failed.

All ship stopped; their times and limits stand in the catalog (``backfills``). A tick plans; if there is something to
make it requests one run of a job that launches the backfill, so that the tick and its run tell what was launched. None
is launched while another of the data set is running, so nothing is made twice.
"""

from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.catalog.names import name_of
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration import switches
from sae_assets.orchestration.automation.backfills import KIND_TAG, launch, left_behind, look, n_partitions
from sae_assets.orchestration.history import active_backfill
from sae_assets.orchestration.marker import tell
from sae_assets.orchestration.resources import StoreResource
from sae_assets.storage.atomic import remove_leftovers
from sae_assets.wording import counted

BACKFILL, REPAIR = "backfill", "repair"


class LaunchConfig(dg.Config):
    """A tick names the backfill that it asked for."""

    backfill_id: str


def _launcher(catalog: Catalog, dataset: str, kind: str) -> dg.JobDefinition:
    entry = catalog.datasets[dataset]

    @dg.op(name=name_of(dataset, f"plan_and_launch_{kind}"), description=f"Plans and launches the {kind} of {dataset}.")
    def launch_planned(context: dg.OpExecutionContext, config: LaunchConfig, artifact_store: StoreResource) -> None:
        plan = look(catalog, artifact_store.store, context.instance, dataset).plan(
            limit=entry.backfills.partitions_per_tick, hold_failed=kind == BACKFILL
        )
        batches = plan.in_sequence
        if not batches or active_backfill(context.instance, dataset):
            context.log.info(f"Nothing of {dataset} is to be launched any more.")
            return
        remove_leftovers(artifact_store.store.root / dataset)
        launched = launch(context.instance, catalog, batches, backfill_id=config.backfill_id, kind=kind)
        if launched:
            what = f"Launched backfill {config.backfill_id} of {counted(n_partitions(batches), 'partition')}"
            context.log.info("; ".join(filter(None, (what, left_behind(plan)))))
        else:
            context.log.info(f"Backfill {config.backfill_id} was launched before.")

    @dg.job(
        name=name_of(dataset, f"launch_{kind}"),
        description=f"Launches one {kind} of {dataset}: what is missing or stale"
        + (", and what failed before." if kind == REPAIR else "."),
        executor_def=dg.in_process_executor,
        tags={KIND_TAG: kind},
    )
    def launch_job() -> None:
        launch_planned()

    return launch_job


def _schedule(catalog: Catalog, dataset: str, kind: str, cron: str, switch: switches.Switch) -> dg.ScheduleDefinition:
    entry = catalog.datasets[dataset]
    job = _launcher(catalog, dataset, kind)

    @dg.schedule(
        name=switch.name(dataset),
        cron_schedule=cron,
        description=switch.description,
        job=job,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(context: dg.ScheduleEvaluationContext, artifact_store: StoreResource):
        instance = context.instance
        running = active_backfill(instance, dataset)
        if running:
            return dg.SkipReason(f"Backfill {running} of {dataset} is still running.")
        try:
            outlook = look(catalog, artifact_store.store, instance, dataset)
            plan = outlook.plan(limit=entry.backfills.partitions_per_tick, hold_failed=kind == BACKFILL)
        except SaeAssetsError as error:
            return dg.SkipReason(str(error))
        assert context.repository_def is not None
        tell(instance, context.repository_def.asset_graph, outlook)
        if not plan.in_sequence:
            nothing = f"Nothing of {dataset} can be made now ({counted(len(outlook.scope.chunks), 'chunk')})"
            return dg.SkipReason("; ".join(filter(None, (nothing, left_behind(plan)))))
        # The id follows from the tick: a tick that is tried again launches nothing new.
        backfill_id = f"{kind}-{dataset}-{context.scheduled_execution_time:%Y%m%dT%H%M}"
        config = {"ops": {name_of(dataset, f"plan_and_launch_{kind}"): {"config": {"backfill_id": backfill_id}}}}
        return dg.RunRequest(run_key=backfill_id, run_config=config)

    return schedule


def build_schedules(catalog: Catalog) -> Iterator[dg.ScheduleDefinition]:
    """Yield backfill and repair of every data set."""
    for dataset, entry in catalog.datasets.items():
        yield _schedule(catalog, dataset, BACKFILL, entry.backfills.cron, switches.BACKFILL)
        yield _schedule(catalog, dataset, REPAIR, entry.backfills.repair_cron, switches.REPAIR)
