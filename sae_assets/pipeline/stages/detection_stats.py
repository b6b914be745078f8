"""``detection_stats``: confusion counts of every (concept, unit, tail fraction); one pass makes best pairs too."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from sae_assets import ops
from sae_assets.errors import MismatchError
from sae_assets.pipeline.options import DetectionOptions
from sae_assets.pipeline.plots import plot_detection
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target

SPLITS = ("cal", "test")


def detection_settings(target: Target, options: Any) -> dict[str, Any]:
    """Shuffles, resamples, folds and seed: as set for one run, else as the data set's catalog entry says."""
    assert isinstance(options, DetectionOptions)
    names = ("n_permutations", "n_bootstrap", "n_folds", "seed")
    overrides = {name: getattr(options, name) for name in names}
    return {name: getattr(target.dataset.detection, name) if each is None else each for name, each in overrides.items()}


def count_and_choose(run: Pass) -> Made:
    """Score every example once, count every triple, and choose each concept's pair on cal."""
    cutoffs = run.artifact("thresholds")

    def labelled() -> Iterator[ops.detection_stats.LabelledChunk]:
        for activations, labels in run.pairs("filtered_activations"):
            if labels.concepts != cutoffs.concepts:  # as many in another order would count for each other
                what = f"Labels are of concepts {list(labels.concepts)}, thresholds of {list(cutoffs.concepts)}"
                raise MismatchError(f"{what}. Materialize the thresholds again.")
            yield ops.detection_stats.LabelledChunk(activations, labels.splits, labels.labels)

    scores = ops.detection_stats.score_examples(labelled(), n_units=len(cutoffs.kept_units), device=run.device)
    stats = ops.detection_stats.count_detections(scores, cutoffs)
    best = ops.best_pairs.choose_best_pairs(stats, cutoffs, scores, **detection_settings(run.target, run.options))
    kind, plot = run.target.token_kind, cache(partial(plot_detection, stats, best))  # drawn once, shown at both
    return {("detection_stats", kind): Result(stats, plot=plot), ("best_pairs", kind): Result(best, plot=plot)}


def _counts(artifact: Any) -> dict[str, Any]:
    return {"triples": artifact.true_positives[0].numel(), "units": len(artifact.kept_units)}


DETECTION_STATS = Stage(
    name="detection_stats",
    level="model",
    description="Confusion counts of every (concept, unit, tail fraction) on cal and test.",
    make=count_and_choose,
    chunk_inputs=("filtered_activations", "labels"),
    model_inputs=("thresholds",),
    code_version="2",
    settings=detection_settings,
    options=DetectionOptions,
    splits=SPLITS,
    shared="detection",
    counts=_counts,
)
