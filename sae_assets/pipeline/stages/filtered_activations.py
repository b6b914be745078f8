"""``filtered_activations``: a chunk's activations of the kept units only, renumbered."""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.stage import Made, Pass, Result, Stage
from sae_assets.pipeline.stages.sparse_activations import sparse_counts


def _make(work: Pass) -> Made:
    sparse, mapping = work.artifact("sparse_activations"), work.artifact("unit_mapping")
    artifact = ops.filtered_activations.filter_activations(sparse, mapping, device=work.device)
    return FILTERED_ACTIVATIONS.only(work, Result(artifact))


def _kept_units_fire(artifact: Any, _expected: Expected) -> Outcome:
    return Outcome(artifact.n_entries > 0, {"entries": artifact.n_entries, "kept_units": artifact.n_units})


FILTERED_ACTIVATIONS = Stage(
    name="filtered_activations",
    level="chunk",
    description="The activations of kept units only, renumbered.",
    make=_make,
    chunk_inputs=("sparse_activations",),
    model_inputs=("unit_mapping",),
    checks=(Check("kept_units_fire", "Some kept unit fires on some row.", _kept_units_fire, blocking=False),),
    counts=sparse_counts,
    glance=glances.glance_at_activations,
)
