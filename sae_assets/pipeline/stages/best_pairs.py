"""``best_pairs``: per concept the (unit, threshold) chosen on cal, from the pass that counts detections."""

from dataclasses import replace
from typing import Any

from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.stages.detection_stats import DETECTION_STATS, SPLITS


def _concepts_have_positives(artifact: Any, _expected: Expected) -> Outcome:
    names = {
        split: [name for name, count in zip(artifact.concepts, counts, strict=True) if count == 0]
        for split, counts in zip(SPLITS, artifact.n_positive.tolist(), strict=True)
    }
    shown = {f"concepts_without_{split}_positives": ", ".join(lacking) or "none" for split, lacking in names.items()}
    return Outcome(not any(names.values()), shown)


def _better_than_chance(artifact: Any, _expected: Expected) -> Outcome:
    """A concept without positives on test has no figure to compare; one that no unit stands for is no better."""
    figures = zip(
        artifact.concepts,
        artifact.n_positive[1].tolist(),
        artifact.rate("f1")[1].tolist(),
        artifact.null_f1[1, :, 1].tolist(),
        artifact.always_positive_f1[1].tolist(),
        strict=True,
    )
    compared, beaten = 0, []
    for name, positives, f1, null, always in figures:
        compared += positives > 0
        if positives and not (f1 > always and not f1 <= null):  # a null that was not drawn is nan
            beaten.append(f"{name} (test F1 {f1:.3g}, shuffled labels {null:.3g}, always positive {always:.3g})")
    shown = {"concepts_compared": compared, "no_better_than_chance": len(beaten)}
    return Outcome(not beaten, {**shown, "concepts": ", ".join(beaten[:MOST_NAMED])} if beaten else shown)


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


# The same pass, so the same inputs, settings and splits.
BEST_PAIRS = replace(
    DETECTION_STATS,
    name="best_pairs",
    description="Per concept the pair chosen on cal, its test figures, chance level and interval.",
    code_version="3",
    after=DETECTION_STATS.name,
    checks=(
        Check(
            "concepts_have_positives",
            "Every concept has positive examples on cal and on test; figures of others are null.",
            _concepts_have_positives,
            blocking=False,
        ),
        Check(
            "better_than_chance",
            "Every concept's test F1 is above the 95 % point of shuffled labels and that of calling all positive.",
            _better_than_chance,
            blocking=False,
        ),
    ),
    counts=_counts,
)
