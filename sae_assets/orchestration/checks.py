"""Dagster's part of the asset checks: their specs, and their results over the file that was just written.

What is checked stands with each stage (``pipeline.stages``). Each check reads what is in the store, not what was in
memory; one that blocks stops what follows, one that warns does not.
"""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.internals import CheckResult
from sae_assets.orchestration.metadata import short
from sae_assets.pipeline.checks import READABLE, READABLE_DESCRIPTION, Expected, Outcome
from sae_assets.pipeline.stage import Stage

if TYPE_CHECKING:
    from sae_assets.storage.address import Address
    from sae_assets.storage.store import ArtifactStore

# Preview in Dagster 1.13; without it only the last partition's result shows, and a bad chunk hides behind a good one.
warnings.filterwarnings("ignore", message=r".*partitions_def on an AssetCheckSpec.*")


def blocking_checks(stage: Stage) -> tuple[str, ...]:
    """Return names of a stage's checks whose failure blocks what follows."""
    return (READABLE, *(check.name for check in stage.checks if check.blocking))


def specs(stage: Stage, key: dg.AssetKey, partitions: dg.PartitionsDefinition) -> Iterator[dg.AssetCheckSpec]:
    """Yield the check specs of one asset: that its file reads back, and the stage's own; one result per partition."""
    yield dg.AssetCheckSpec(
        READABLE, asset=key, description=READABLE_DESCRIPTION, blocking=True, partitions_def=partitions
    )
    for check in stage.checks:
        yield dg.AssetCheckSpec(
            check.name, asset=key, description=check.description, blocking=check.blocking, partitions_def=partitions
        )


def evaluate(
    stage: Stage, key: dg.AssetKey, store: "ArtifactStore", address: "Address", expected: Expected
) -> Iterator[dg.AssetCheckResult]:
    """Read the file back and run the stage's checks on it; a file that cannot be read fails them all."""
    try:
        artifact = store.read(address, hashed=True).artifact
    except SaeAssetsError as error:
        artifact, problem = None, {"problem": str(error)}
    else:
        problem = {}
    yield CheckResult(passed=not problem, check_name=READABLE, asset_key=key, metadata=problem)
    for check in stage.checks:
        outcome = Outcome(False, problem) if problem else check.test(artifact, expected)
        yield CheckResult(
            passed=outcome.passed,
            check_name=check.name,
            asset_key=key,
            severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
            metadata={name: short(value) for name, value in outcome.metadata.items()},
        )
