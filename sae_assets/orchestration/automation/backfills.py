"""Schedules and switches look at a data set, and launch what is due as one ordinary backfill.

What is to be made and who waits for whom is ``pipeline.planning``'s; when to look is said in ``schedules`` and
``follow``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.chunks.manifests import read_manifests
from sae_assets.orchestration.automation.sensors import announce
from sae_assets.orchestration.history import history_of
from sae_assets.orchestration.internals import launch_backfill
from sae_assets.orchestration.partitions import asset_key, partition_key, partitions_of
from sae_assets.pipeline.planning import Batch, Outlook, Plan, Scope
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.staleness import Staleness
from sae_assets.storage.snapshot import StoreSnapshot
from sae_assets.wording import counted

if TYPE_CHECKING:
    from sae_assets.storage.store import ArtifactStore

DATASET_TAG, KIND_TAG = "sae_assets/dataset", "sae_assets/backfill"


def look_at_files(
    catalog: Catalog, store: "ArtifactStore", instance: dg.DagsterInstance, dataset: str
) -> tuple[Scope, Staleness]:
    """Return what a data set's artifacts are now, as far as files tell; Dagster is told of chunks that it does not
    know.

    Raises:
        SaeAssetsError: manifests that cannot be read.
    """
    from sae_assets.orchestration.instance.engines import keep_engines  # noqa: PLC0415 - loads sqlalchemy

    keep_engines()  # a look is hundreds of queries, in a server that launches nothing
    chunks = [manifest.key for manifest in read_manifests(store.root, dataset)]
    announce(dataset, chunks, instance)
    return Scope.whole(catalog, dataset, chunks), Staleness(catalog, StoreSnapshot(store), {dataset: chunks})


def look(catalog: Catalog, store: "ArtifactStore", instance: dg.DagsterInstance, dataset: str) -> Outlook:
    """Return what a data set's artifacts are now, as files and history tell.

    Raises:
        SaeAssetsError: manifests that cannot be read.
    """
    files = look_at_files(catalog, store, instance, dataset)
    return Outlook(*files, history_of(instance, catalog.datasets[dataset]))


def launch(
    instance: dg.DagsterInstance, catalog: Catalog, batches: Sequence[Batch], *, backfill_id: str, kind: str
) -> bool:
    """Launch these runs as one backfill; False if one of this id was launched before (a tick that was tried twice)."""
    dataset = batches[0].dataset
    partitions: dict[dg.AssetKey, tuple[dg.PartitionsDefinition, list[str]]] = {}
    for batch in batches:
        for address in batch.addresses:
            definition = partitions_of(STAGES[address.stage], catalog.datasets[dataset])
            partitions.setdefault(asset_key(address), (definition, []))[1].append(partition_key(address))
    return launch_backfill(
        instance,
        partitions,
        backfill_id=backfill_id,
        title=f"{kind} of {dataset}",
        description=f"{counted(n_partitions(batches), 'partition')} missing or stale",
        tags={DATASET_TAG: dataset, KIND_TAG: kind},
    )


def n_partitions(batches: Sequence[Batch]) -> int:
    """Return how many artifacts these runs make."""
    return sum(len(batch.addresses) for batch in batches)


def left_behind(plan: Plan) -> str:
    """Return what a plan does not make now, in words; empty if it makes everything."""
    later = plan.addresses - {address for batch in plan.in_sequence for address in batch.addresses}
    parts = [f"{len(later)} wait for what is made first"] if later else []
    parts += [f"{plan.over_limit} chunk partitions are over the limit of one tick"] if plan.over_limit else []
    parts += [f"{len(plan.left_out)} failed before, were interrupted or are in progress"] if plan.left_out else []
    return "; ".join(parts)
