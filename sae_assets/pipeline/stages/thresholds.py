"""``thresholds``: detection cut-offs of every (concept, unit), from calibration rows alone."""

from collections.abc import Iterator
from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.options import ThresholdOptions
from sae_assets.pipeline.stage import Made, Pass, Rereadable, Result, Stage, Target
from sae_assets.storage.ahead import chunk_by_chunk


def _make(work: Pass) -> Made:
    chunks, truth, labels = (work.inputs[name] for name in ("filtered_activations", "ground_truth", "labels"))

    def calibration() -> Iterator[ops.thresholds.CalibrationChunk]:
        for activations, positive, chunk_labels in chunk_by_chunk(chunks, truth, labels):
            cal = chunk_labels.in_split("cal")
            if bool(cal.any()):
                yield ops.thresholds.CalibrationChunk(activations, positive, cal)

    artifact = ops.thresholds.calibrate_thresholds(
        Rereadable(calibration),
        kept_units=work.artifact("unit_mapping").kept_units,
        device=work.device,
        memory_budget=work.memory_budget,
        **_settings(work.target, work.options),
    )
    return THRESHOLDS.only(work, Result(artifact))


def fractions_settings(target: Target, options: Any) -> dict[str, Any]:
    """Return tail fractions: as set for one run, else as the data set's catalog entry says."""
    assert isinstance(options, ThresholdOptions)
    fractions = target.dataset.detection.tail_fractions if options.tail_fractions is None else options.tail_fractions
    return {"tail_fractions": list(fractions)}


def _settings(target: Target, options: Any) -> dict[str, Any]:
    return {**fractions_settings(target, options), "concepts": list(target.dataset.concepts)}


def _counts(artifact: Any) -> dict[str, Any]:
    pairs = artifact.n_positive[:-1]
    return {"pairs": pairs.numel(), "valid_pairs": int((pairs > 0).sum()), "units": len(artifact.kept_units)}


THRESHOLDS = Stage(
    name="thresholds",
    level="model",
    description="Detection cut-offs: exact quantiles of positive cal values per concept and unit.",
    make=_make,
    chunk_inputs=("filtered_activations", "ground_truth", "labels"),
    model_inputs=("unit_mapping",),
    settings=_settings,
    options=ThresholdOptions,
    seconds_offset=100,
    frozen=True,
    counts=_counts,
    glance=glances.glance_at_thresholds,
)
