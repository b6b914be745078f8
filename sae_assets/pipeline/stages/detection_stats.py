"""``detection_stats``: confusion counts of every (concept, kept unit, tail fraction)."""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.options import ScoringOptions
from sae_assets.pipeline.plots import plot_detection
from sae_assets.pipeline.scoring import gather_scores, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage


def _make(work: Pass) -> Made:
    cutoffs = work.artifact("thresholds")
    scores, _ = gather_scores(work, cutoffs.concepts, "filtered_activations", len(cutoffs.kept_units))
    stats = ops.detection_stats.count_detections(scores, cutoffs)
    return DETECTION_STATS.only(work, Result(stats, plot=lambda: plot_detection(stats)))


def _counts(artifact: Any) -> dict[str, Any]:
    return {"triples": artifact.true_positives[0].numel(), "units": len(artifact.kept_units)}


DETECTION_STATS = Stage(
    name="detection_stats",
    level="model",
    description="Confusion counts of every (concept, unit, tail fraction) on cal and test.",
    make=_make,
    chunk_inputs=("filtered_activations", "labels"),
    model_inputs=("thresholds",),
    code_version="2",
    settings=scoring_settings,
    options=ScoringOptions,
    file_offset=400,
    splits=("cal", "test"),
    counts=_counts,
    glance=glances.glance_at_detection,
)
