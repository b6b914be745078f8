"""The stages, one per module, in the order of the pipeline: an input always stands before what reads it.

A new stage is a module here with its ``Stage`` object, and a line in ``STAGES``.
"""

from sae_assets.catalog import match_name
from sae_assets.errors import CatalogError
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Stage
from sae_assets.pipeline.stages.best_pairs import BEST_PAIRS
from sae_assets.pipeline.stages.detection_stats import DETECTION_STATS
from sae_assets.pipeline.stages.examples import EXAMPLES
from sae_assets.pipeline.stages.filtered_activations import FILTERED_ACTIVATIONS
from sae_assets.pipeline.stages.ground_truth import GROUND_TRUTH
from sae_assets.pipeline.stages.labels import LABELS
from sae_assets.pipeline.stages.sparse_activations import SPARSE_ACTIVATIONS
from sae_assets.pipeline.stages.thresholds import THRESHOLDS
from sae_assets.pipeline.stages.unit_mapping import UNIT_MAPPING
from sae_assets.pipeline.stages.unit_stats import UNIT_STATS

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        EXAMPLES,
        LABELS,
        GROUND_TRUTH,
        SPARSE_ACTIVATIONS,
        UNIT_STATS,
        UNIT_MAPPING,
        FILTERED_ACTIVATIONS,
        THRESHOLDS,
        DETECTION_STATS,
        BEST_PAIRS,
    )
}
ORDER = tuple(STAGES)


def stage_range(first: str | None, last: str | None) -> tuple[str, ...]:
    """Stage names from ``first`` to ``last``, both included; None means the ends.

    Raises:
        CatalogError: an unknown stage, or a first one that comes after the last.
    """
    start = ORDER.index(match_name(first, ORDER, "stage")) if first else 0
    stop = ORDER.index(match_name(last, ORDER, "stage")) if last else len(ORDER) - 1
    if start > stop:
        raise CatalogError(f"Stage {ORDER[start]!r} comes after {ORDER[stop]!r}; the order is {', '.join(ORDER)}.")
    return ORDER[start : stop + 1]


def options_kinds() -> list[type[Options]]:
    """Every kind of options that some stage takes."""
    return list(dict.fromkeys(stage.options for stage in STAGES.values()))
