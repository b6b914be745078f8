"""The stages, one per module, in the order of the pipeline: an input always stands before what reads it.

A new stage is a module here with its ``Stage`` object, named as the module in capitals; the order follows from inputs.
"""

import importlib
import pkgutil
from collections.abc import Iterable

from sae_assets.catalog import Dataset, match_name
from sae_assets.errors import CatalogError
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Stage


def in_order(stages: Iterable[Stage]) -> dict[str, Stage]:
    """Return stages by name, inputs first; of those that could be next, one of the same level as the last (by name) is.

    Stages of one level that follow each other go in one run, so this also makes few runs.

    Raises:
        ValueError: stages that wait for each other, or for a stage that there is not.
    """
    waiting, ordered, level = {stage.name: stage for stage in stages}, dict[str, Stage](), ""
    while waiting:
        ready = [
            stage for stage in waiting.values() if not {*stage.inputs, *filter(None, [stage.after])} - set(ordered)
        ]
        if not ready:
            raise ValueError(f"Stages {', '.join(waiting)} wait for each other, or for a stage that there is not.")
        chosen = min(ready, key=lambda stage: (stage.level != level, stage.name))
        ordered[chosen.name], level = waiting.pop(chosen.name), chosen.level
    return ordered


STAGES: dict[str, Stage] = in_order(
    getattr(importlib.import_module(f"{__name__}.{module.name}"), module.name.upper())
    for module in pkgutil.iter_modules(__path__)
)
ORDER = tuple(STAGES)


def stage_range(first: str | None, last: str | None) -> tuple[str, ...]:
    """Return stage names from ``first`` to ``last``, both included; None means the ends.

    Raises:
        CatalogError: an unknown stage, or a first one that comes after the last.
    """
    start = ORDER.index(match_name(first, ORDER, "stage")) if first else 0
    stop = ORDER.index(match_name(last, ORDER, "stage")) if last else len(ORDER) - 1
    if start > stop:
        raise CatalogError(f"Stage {ORDER[start]!r} comes after {ORDER[stop]!r}; the order is {', '.join(ORDER)}.")
    return ORDER[start : stop + 1]


def stages_of(dataset: Dataset, among: Iterable[str] = ORDER) -> tuple[str, ...]:
    """Return those of these stages that a data set has."""
    return tuple(name for name in among if STAGES[name].applies(dataset))


def options_kinds() -> list[type[Options]]:
    """Return every kind of options that some stage takes."""
    return list(dict.fromkeys(stage.options for stage in STAGES.values()))
