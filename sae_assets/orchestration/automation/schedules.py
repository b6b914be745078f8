"""Schedules of every data set: backfills of what is missing or stale, repair of what failed, and a look at old files.

All ship stopped; their times and limits stand in the catalog (``backfills``). A tick launches at most one backfill per
data set and none while another is running, so nothing is made twice.
"""

from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.automation.backfills import (
    active_backfill,
    busy_partitions,
    failed_partitions,
    launch,
    may_go_now,
    merged,
    partition_keys,
    plan_backfill,
)
from sae_assets.orchestration.automation.sensors import announce
from sae_assets.orchestration.history import partitions_with_failed_checks
from sae_assets.orchestration.resources import StoreResource


def _backfill(catalog: Catalog, dataset: str, kind: str, cron: str, description: str) -> dg.ScheduleDefinition:
    entry = catalog.datasets[dataset]

    @dg.schedule(
        name=f"{kind}_{dataset}",
        cron_schedule=cron,
        description=description,
        # Its place in the UI; a job has one partitions definition, so it cannot name every asset that a tick fills.
        target=dg.AssetSelection.assets(dg.AssetKey([dataset, "examples"])),
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def schedule(context: dg.ScheduleEvaluationContext, artifact_store: StoreResource):
        from sae_assets.chunks.manifests import read_manifests

        instance = context.instance
        running = active_backfill(instance, dataset)
        if running:
            return dg.SkipReason(f"Backfill {running} of {dataset} is still running.")
        try:
            store = artifact_store.store
            chunks = [manifest.key for manifest in read_manifests(store.root, dataset)]
            announce(dataset, chunks, instance)
            leave_out = busy_partitions(instance, dataset)
            again = partitions_with_failed_checks(instance, partition_keys(instance, catalog, dataset))
            if kind == "backfill":  # what failed would fail again at every tick; a repair tries it
                failed = failed_partitions(instance, catalog, dataset)
                again_now = may_go_now(instance, failed)
                held = {key: names - again_now.get(key, set()) for key, names in failed.items()}
                leave_out = merged(leave_out, held)
            limit = entry.backfills.partitions_per_tick
            work = plan_backfill(catalog, store, dataset, chunks, limit=limit, leave_out=leave_out, again=again)
        except SaeAssetsError as error:
            return dg.SkipReason(str(error))
        if not work.partitions:
            behind = f"; {work.held} partitions failed before or are in progress" if work.held else ""
            return dg.SkipReason(f"Nothing of {dataset} can be made now ({len(chunks)} chunks){behind}.")
        assert context.repository_def is not None
        # The id follows from the tick: a tick that is tried again launches nothing new.
        backfill_id = f"{kind}-{dataset}-{context.scheduled_execution_time:%Y%m%dT%H%M}"
        graph = context.repository_def.asset_graph
        if not launch(instance, graph, dataset, work, backfill_id=backfill_id, kind=kind):
            return dg.SkipReason(f"Backfill {backfill_id} was launched before.")
        later = f"; {work.left} more chunk partitions wait for the next tick" if work.left else ""
        later += f"; {work.held} that failed before or are in progress are left out" if work.held else ""
        return dg.SkipReason(f"Launched backfill {backfill_id} of {work.size} partitions (wave {work.wave}){later}.")

    return schedule


def build_schedules(catalog: Catalog) -> Iterator[dg.ScheduleDefinition]:
    """Backfill and repair of every data set."""
    for dataset, entry in catalog.datasets.items():
        yield _backfill(
            catalog, dataset, "backfill", entry.backfills.cron,
            f"Launches a backfill of exactly the partitions of {dataset} that are missing or stale.",
        )  # fmt: skip
        yield _backfill(
            catalog, dataset, "repair", entry.backfills.repair_cron,
            f"Launches a backfill of the partitions of {dataset} that failed or were missed.",
        )  # fmt: skip
