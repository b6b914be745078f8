"""``best_pairs``: what each concept's chosen pair is worth on test, beside chance and with intervals."""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.options import DetectionOptions
from sae_assets.pipeline.plots import plot_best_pairs
from sae_assets.pipeline.scoring import Unlocated, catalog_or, read_rows, score_examples, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target

SPLITS = ("cal", "test")
NAMES = ("n_permutations", "seed")


def _settings(target: Target, options: DetectionOptions) -> dict[str, Any]:
    return {**scoring_settings(target, options), **catalog_or(target, options, NAMES)}


def _make(work: Pass) -> Made:
    assert isinstance(work.options, DetectionOptions)
    chosen, unlocated = work.artifact("chosen_pairs"), Unlocated(work)
    scores, lengths = score_examples(work, chosen.concepts, unlocated=unlocated)
    rows = ops.row_chance.rows_of_pairs(
        read_rows(work, chosen.concepts), chosen.unit_ids, chosen.row_thresholds, unlocated.none
    )
    settings = catalog_or(work.target, work.options, NAMES)
    artifact = ops.best_pairs.figure_pairs(chosen, scores, lengths, rows, **settings)
    return BEST_PAIRS.only(work, Result(artifact, plot=lambda: plot_best_pairs(artifact)))


def _concepts_have_both(artifact: Any, _expected: Expected) -> Outcome:
    n_positive, n_examples = artifact.n_positive, artifact.n_examples
    names = {}
    for index, split in enumerate(SPLITS):
        for what, counts in (("positives", n_positive[index]), ("negatives", (n_examples - n_positive)[index])):
            names[f"concepts_without_{split}_{what}"] = [
                name for name, count in zip(artifact.concepts, counts.tolist(), strict=True) if count == 0
            ]
    shown = {key: ", ".join(lacking[:MOST_NAMED]) or "none" for key, lacking in names.items()}
    return Outcome(not any(names.values()), shown)


def _better_than_chance(artifact: Any, _expected: Expected) -> Outcome:
    """A concept that lacks a class on test has no figure to compare; one that no unit stands for is no better."""
    figures = zip(
        artifact.concepts,
        artifact.two_classes[1].tolist(),
        artifact.rate("f1")[1].tolist(),
        artifact.null_f1[1, :, 1].tolist(),
        artifact.always_positive_f1[1].tolist(),
        artifact.chance_f1.tolist(),
        strict=True,
    )
    compared, beaten = 0, []
    for name, exists, f1, null, always, bar in figures:
        compared += exists
        if exists and not f1 > bar:
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
        "weighted_p": float(artifact.weighted_null[2]),
    }
    figures |= {f"test_f1[{name}]": value for name, value in zip(artifact.concepts, f1.tolist(), strict=True)}
    figures |= {f"test_q[{name}]": value for name, value in zip(artifact.concepts, artifact.q[1].tolist(), strict=True)}
    figures |= {f"row_q[{name}]": q for name, q in zip(artifact.concepts, artifact.row_q.tolist(), strict=True)}
    return {name: value for name, value in figures.items() if value == value}  # one that does not exist is not shown


BEST_PAIRS = Stage(
    name="best_pairs",
    level="model",
    description="What each concept's chosen pair is worth on test, beside chance and with intervals.",
    make=_make,
    chunk_inputs=("sparse_activations", "ground_truth", "labels"),
    model_inputs=("chosen_pairs",),
    code_version="10",
    settings=_settings,
    options=DetectionOptions,
    seconds_offset=450,
    splits=SPLITS,
    checks=(
        Check(
            "concepts_have_both_classes",
            "Every concept has positive and negative examples on cal and on test; figures of others are null.",
            _concepts_have_both,
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
    glance=glances.glance_at_best_pairs,
)
