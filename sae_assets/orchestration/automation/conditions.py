"""Automation: when a partition should be made, said declaratively per asset, and one switch per data set.

A partition is requested when it was never made or when the content of what it reads has changed, once its inputs are
there and nothing is in progress. Switches (automation sensors) ship stopped: opening the UI must not start work.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.pipeline.stages import FROZEN_STAGES, STAGES, Stage

AC = dg.AutomationCondition

# `missing` alone would ask again on every tick, `newly_missing` never for partitions that were there at the first one.
NEVER_MADE = AC.missing().newly_true().since(AC.newly_requested() | AC.newly_updated())
# A rerun that gives the same content (data version) asks for nothing after it.
CHANGED: dg.AutomationCondition = (
    AC.any_deps_updated().replace("newly_updated", AC.newly_updated() & AC.data_version_changed()).since_last_handled()  # type: ignore[misc]
)
# Inputs, and what they are made from, must be at rest: otherwise chunks would be filtered by a mapping that is about to
# change, and thresholds fitted on chunks of two mappings. An input whose own inputs have changed is about to be made;
# `will_be_requested` does not say so: it knows only of what can go in the same run.
ABOUT_TO_BE = AC.any_deps_match(AC.newly_updated() & AC.data_version_changed()).since_last_handled()
BUSY = AC.missing() | AC.in_progress()
BUSY_BEFORE = (AC.missing() & ~AC.will_be_requested()) | AC.in_progress()  # what the same run makes is there in time
LABEL = "never made, or its inputs' content changed"
LONGEST_INTERVAL = 30  # seconds between two evaluations


def at_rest(same_run: Sequence[dg.AssetKey], frozen: Sequence[dg.AssetKey]) -> dg.AutomationCondition:
    """Inputs are there, and neither being made nor about to be, nor are their own; of frozen ones a change is nothing.

    No inputs at all are not there: before the first chunk there is nothing to fit.

    Args:
        same_run: inputs that a run of this stage may make first.
    """
    same, fixed = dg.AssetSelection.assets(*same_run), dg.AssetSelection.assets(*frozen)
    moved = AC.any_deps_match(ABOUT_TO_BE).ignore(fixed | same)
    below = AC.any_deps_match(AC.any_deps_match(BUSY) | AC.any_deps_match(ABOUT_TO_BE).ignore(fixed))
    busy = AC.any_deps_match(BUSY).ignore(same) | AC.any_deps_match(BUSY_BEFORE).allow(same)
    return AC.any_deps_match(~AC.missing()) & ~busy & ~moved & ~below & ~AC.in_progress()


def condition_of(stage: str, entry: Dataset, key: Callable[[str], dg.AssetKey]) -> dg.AutomationCondition:
    """When a stage of this data set is to be made; a frozen one only where it never was.

    Args:
        key: of a stage, under the same token kind.
    """
    here = STAGES[stage]
    if here.level == "dataset-chunk" and not here.chunk_inputs:
        return (NEVER_MADE & ~AC.in_progress()).with_label("registered and never made")
    if here.level == "dataset-chunk":
        return ((NEVER_MADE | CHANGED) & ~AC.any_deps_match(BUSY_BEFORE) & ~AC.in_progress()).with_label(LABEL)
    frozen = [key(name) for name in FROZEN_STAGES] if entry.calibration == "freeze" else []
    if frozen and here.level == "chunk":  # the mapping stays, whatever becomes of other chunks
        moved = AC.any_deps_match(ABOUT_TO_BE).ignore(dg.AssetSelection.assets(*frozen))
        there = ~AC.any_deps_match(BUSY) & ~moved & ~AC.in_progress()
        return ((NEVER_MADE | CHANGED) & there).with_label(LABEL)
    rest = at_rest([key(name) for name in _in_the_same_run(here)], frozen)
    if frozen and stage in FROZEN_STAGES:
        return (NEVER_MADE & rest).with_label("never made (frozen)")
    return ((NEVER_MADE | CHANGED) & rest).with_label(LABEL)


def _in_the_same_run(stage: Stage) -> list[str]:
    """Aggregates that an aggregate reads with no chunk-level stage between: they have the same partitions."""
    between = {name for chunk in stage.chunk_inputs for name in STAGES[chunk].model_inputs}
    return [name for name in stage.model_inputs if stage.level == "model" and name not in between]


def build_automation(catalog: Catalog) -> Iterator[dg.SensorDefinition]:
    """One switch per data set: what follows from its new and changed chunks."""
    for dataset, entry in catalog.datasets.items():
        yield dg.AutomationConditionSensorDefinition(
            name=f"follow_{dataset}",
            target=dg.AssetSelection.groups(dataset),
            description=f"Makes what was never made or whose inputs changed, for every asset of {dataset}.",
            default_status=dg.DefaultSensorStatus.STOPPED,
            minimum_interval_seconds=min(LONGEST_INTERVAL, entry.arrivals.check_every_seconds),
            # A backfill's runs start with the next look of the backfill daemon and end with the one after: 30 s each.
            emit_backfills=False,
            run_tags={"sae_assets/dataset": dataset, "sae_assets/by": "automation"},
        )
