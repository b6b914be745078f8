"""``localization``: where in its examples each concept is, by the unit that detects it."""

from typing import Any

from sae_assets import ops
from sae_assets.artifacts.localization import METHODS
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.freezing import frozen_settings, kept_choice
from sae_assets.pipeline.options import LocalizationOptions
from sae_assets.pipeline.plots import plot_localization
from sae_assets.pipeline.scoring import Unlocated, pooling_of, read_rows, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target
from sae_assets.pipeline.stages.thresholds import fractions_settings


def _make(work: Pass) -> Made:
    assert isinstance(work.options, LocalizationOptions)
    best, unlocated = work.artifact("best_pairs"), Unlocated(work)
    chunks = work.inputs["sparse_activations"]
    rows = ops.chunk_spool.ChunkSpool(read_rows(work, best.concepts, unlocated))
    # Under cls a row is the whole example: there is nothing to localise.
    located = unlocated.none & (work.target.token_kind != "cls")
    artifact = ops.localization.localize(
        rows,
        concepts=best.concepts,
        unit_ids=best.unit_ids,
        thresholds=best.thresholds,
        located=located,
        n_units=int(chunks.header(next(iter(chunks))).scalars["n_units"]),
        pooling=pooling_of(work.target, work.options),
        memory_budget=work.memory_budget,
        earlier=kept_choice(work, LOCALIZATION),
        **fractions_settings(work.target, work.options),
    )
    return LOCALIZATION.only(work, Result(artifact, plot=lambda: plot_localization(artifact)))


def _settings(target: Target, options: Any) -> dict[str, Any]:
    return {**fractions_settings(target, options), **scoring_settings(target, options), **frozen_settings(target)}


def _localized(artifact: Any, _expected: Expected) -> Outcome:
    """Return concepts with row figures on test; there are none where nothing is located."""
    f1, whole = artifact.rate("f1")[:, 1], artifact.whole_rate("f1")[1].tolist()
    best = f1[1:].nan_to_num(-1).amax(0).tolist()
    compared = [number for number, value in enumerate(whole) if value == value and best[number] >= 0]
    names = [f"{artifact.concepts[n]} (row F1 {best[n]:.3g}, whole examples {whole[n]:.3g})" for n in compared
             if best[n] <= whole[n]]  # fmt: skip
    shown = {"concepts_compared": len(compared), "not_localized": len(names)}
    return Outcome(not names, {**shown, "names": ", ".join(names[:MOST_NAMED])} if names else shown)


def _counts(artifact: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {"superactivators": int(artifact.n_superactivators.sum())}
    for number, method in enumerate(METHODS):
        for rate in ("f1", "iou"):
            values = artifact.rate(rate)[number, 1].tolist()
            named = zip(artifact.concepts, values, strict=True)
            figures |= {f"{method}_test_{rate}[{name}]": value for name, value in named}
    return {name: value for name, value in figures.items() if value == value}  # one that does not exist is not shown


LOCALIZATION = Stage(
    name="localization",
    level="model",
    description="Which rows of detected examples show the concept, by the unit's values and by what these rows share.",
    make=_make,
    code_version="3",
    chunk_inputs=("sparse_activations", "ground_truth", "labels"),
    model_inputs=("best_pairs",),
    settings=_settings,
    options=LocalizationOptions,
    splits=("train", "cal", "test"),
    checks=(
        Check(
            "rows_localized",
            "The marked rows match each located concept better than all rows of the detected examples do, by F1.",
            _localized,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_localization,
)
