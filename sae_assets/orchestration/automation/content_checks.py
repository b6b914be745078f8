"""A look at files that were registered long ago: one asset check and one schedule per data set, both off by default.

``examples`` and ``labels`` check a chunk's files when they are made; this hashes all again whenever it is asked.
"""

from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.catalog.names import name_of
from sae_assets.chunks.contents import WHAT_TO_DO, changed_contents, changed_regions
from sae_assets.chunks.manifests import read_manifests
from sae_assets.datasets import open_registered
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.switches import CHECK_CONTENTS
from sae_assets.pipeline.checks import contents_outcome

NAME = "contents_still_as_registered"


def _check(entry: Dataset) -> dg.AssetChecksDefinition:
    dataset = entry.name
    spec = dg.AssetCheckSpec(
        NAME,
        asset=dg.AssetKey([dataset, "examples"]),
        description="Hashes every registered example again, with its masks or spans; names those that changed or "
        "vanished, and what to do.",
    )

    @dg.multi_asset_check(name=name_of(dataset, NAME), specs=[spec], can_subset=True)
    def check(context: dg.AssetCheckExecutionContext, artifact_store: StoreResource):
        if context.run.asset_selection:  # Dagster adds it to runs that make one chunk: all would be hashed each time
            context.log.info("Not asked for by itself: the registered examples are not hashed again.")
            return
        reader = open_registered(entry)
        changes: dict[str, str] = {}
        for manifest in read_manifests(artifact_store.store.root, dataset):
            chunk_changes = changed_regions(manifest, reader) | changed_contents(manifest, reader)
            changes |= {f"{manifest.key}/{example}": change for example, change in chunk_changes.items()}
        keys = ",".join(dict.fromkeys(name.split("/")[0] for name in changes))
        outcome = contents_outcome(changes, WHAT_TO_DO.format(dataset=dataset, chunk=keys))
        yield dg.AssetCheckResult(
            asset_key=spec.asset_key, check_name=NAME, passed=outcome.passed, metadata=outcome.metadata
        )

    return check


def build_content_checks(catalog: Catalog) -> Iterator[tuple[dg.AssetChecksDefinition, dg.ScheduleDefinition]]:
    """Yield the check of every data set with the schedule that runs it."""
    for dataset, entry in catalog.datasets.items():
        check = _check(entry)
        selection = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey([dataset, "examples"]), NAME))
        job = dg.define_asset_job(CHECK_CONTENTS.name(dataset), selection)
        yield (
            check,
            dg.ScheduleDefinition(
                name=CHECK_CONTENTS.name(dataset),
                job=job,
                cron_schedule=entry.backfills.check_cron,
                description=CHECK_CONTENTS.description,
                default_status=dg.DefaultScheduleStatus.STOPPED,
            ),
        )
