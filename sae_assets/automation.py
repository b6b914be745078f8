"""Automation: when a partition should be made, said declaratively per asset, and one switch per data set.

A partition is requested when it was never made or when the content of what it reads has changed, once its inputs are
there and nothing is in progress. Switches (automation sensors) ship stopped: opening the UI must not start work.
"""

from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.stages import FROZEN_STAGES, STAGES

AC = dg.AutomationCondition

# `missing` alone would ask again on every tick, `newly_missing` never for partitions that were there at the first one.
NEVER_MADE = AC.missing().newly_true().since(AC.newly_requested() | AC.newly_updated())
# A rerun that gives the same content (data version) asks for nothing after it.
CHANGED: dg.AutomationCondition = (
    AC.any_deps_updated().replace("newly_updated", AC.newly_updated() & AC.data_version_changed()).since_last_handled()  # type: ignore[misc]
)
# Inputs, and what they are made from, must be at rest: otherwise chunks would be filtered by a mapping that is about to
# change, and thresholds fitted on chunks of two mappings.
BUSY = AC.missing() | AC.in_progress() | AC.will_be_requested()
QUIET = ~AC.any_deps_match(BUSY) & ~AC.any_deps_match(AC.any_deps_match(BUSY)) & ~AC.in_progress()

LONGEST_INTERVAL = 30  # seconds between two evaluations


def condition_of(stage: str, entry: Dataset) -> dg.AutomationCondition:
    """When a stage of this data set is to be made; a frozen one only where it never was."""
    if STAGES[stage].level == "dataset-chunk":
        return (NEVER_MADE & ~AC.in_progress()).with_label("registered and never made")
    if entry.calibration == "freeze" and stage in FROZEN_STAGES:
        return (NEVER_MADE & QUIET).with_label("never made (frozen)")
    return ((NEVER_MADE | CHANGED) & QUIET).with_label("never made, or its inputs' content changed")


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
