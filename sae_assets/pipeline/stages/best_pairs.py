"""``best_pairs``: per concept the (unit, threshold) chosen on cal, from the pass that counts detections."""

from typing import Any

from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.options import DetectionOptions
from sae_assets.pipeline.stage import Stage
from sae_assets.pipeline.stages.detection_stats import (
    CHUNK_INPUTS,
    DETECTION_STATS,
    MODEL_INPUTS,
    SHARED_PASS,
    SPLITS,
    count_and_choose,
    detection_settings,
)


def _concepts_have_positives(artifact: Any, _expected: Expected) -> Outcome:
    names = {
        split: [name for name, count in zip(artifact.concepts, counts, strict=True) if count == 0]
        for split, counts in zip(SPLITS, artifact.n_positive.tolist(), strict=True)
    }
    shown = {f"concepts_without_{split}_positives": ", ".join(lacking) or "none" for split, lacking in names.items()}
    return Outcome(not any(names.values()), shown)


def _counts(artifact: Any) -> dict[str, Any]:
    f1 = artifact.rate("f1")[1]
    figures: dict[str, Any] = {
        "weighted_test_f1": artifact.weighted(f1),
        "weighted_always_positive_f1": artifact.weighted(artifact.always_positive_f1[1]),
        "weighted_null_f1": float(artifact.weighted_null[0]),
        "weighted_null_f1_p95": float(artifact.weighted_null[1]),
    }
    figures |= {f"test_f1[{name}]": value for name, value in zip(artifact.concepts, f1.tolist(), strict=True)}
    return {name: value for name, value in figures.items() if value == value}  # one that does not exist is not shown


BEST_PAIRS = Stage(
    name="best_pairs",
    level="model",
    description="Per concept the pair chosen on cal, its test figures, chance level and interval.",
    make=count_and_choose,
    chunk_inputs=CHUNK_INPUTS,
    model_inputs=MODEL_INPUTS,
    code_version="2",
    settings=detection_settings,
    options=DetectionOptions,
    splits=SPLITS,
    shared=SHARED_PASS,
    after=DETECTION_STATS.name,
    checks=(
        Check(
            "concepts_have_positives",
            "Every concept has positive examples on cal and on test; figures of others are null.",
            _concepts_have_positives,
            blocking=False,
        ),
    ),
    counts=_counts,
)
