"""``unit_stats``: statistics of every unit over the calibration rows of all chunks of a model."""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.options import AggregateOptions
from sae_assets.pipeline.plots import plot_unit_stats
from sae_assets.pipeline.stage import Made, Pass, Rereadable, Result, Stage


def _make(work: Pass) -> Made:
    chunks = work.inputs["sparse_activations"]
    rows = Rereadable(lambda: ((sparse, labels.in_split("cal")) for sparse, labels in work.pairs("sparse_activations")))
    n_units = int(chunks.header(next(iter(chunks))).scalars["n_units"])
    artifact = ops.unit_stats.compute_unit_stats(rows, n_units, device=work.device, memory_budget=work.memory_budget)
    return UNIT_STATS.only(work, Result(artifact, plot=lambda: plot_unit_stats(artifact)))


def _some_active(artifact: Any, _expected: Expected) -> Outcome:
    active = int((artifact.n_active > 0).sum())
    return Outcome(active > 0, {"active_units": active, "units": artifact.n_active.numel()})


def _counts(artifact: Any) -> dict[str, Any]:
    active = int((artifact.n_active > 0).sum())
    return {
        "cal_rows": artifact.n_rows,
        "units": artifact.n_units,
        "active_units": active,
        "coverage": active / artifact.n_units,
        "l0": int(artifact.n_active.sum()) / artifact.n_rows,
    }


UNIT_STATS = Stage(
    name="unit_stats",
    level="model",
    description="Count, mean, max, p95, p99, density and selectivity of every unit on cal rows.",
    make=_make,
    chunk_inputs=("sparse_activations", "labels"),
    code_version="2",
    options=AggregateOptions,
    seconds_offset=700,
    frozen=True,
    checks=(Check("some_units_active", "At least one unit fires on calibration rows.", _some_active),),
    counts=_counts,
    glance=glances.glance_at_unit_stats,
)
