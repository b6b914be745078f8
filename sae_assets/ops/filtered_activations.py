"""Filtered activations: entries of kept units only, renumbered; values and their order untouched (numerics 4)."""

import torch

from sae_assets.artifacts import FilteredActivations, SparseActivations, UnitMapping
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import positions


@plain_arithmetic()
def filter_activations(
    chunk: SparseActivations, mapping: UnitMapping, *, device: torch.device | str = "cpu"
) -> FilteredActivations:
    """Look-up and stable compaction: a row already sorted stays sorted when entries drop out.

    Raises:
        ArtifactError: the mapping was made for another number of units.
    """
    if chunk.n_units != mapping.n_original:
        raise ArtifactError(f"The chunk has {chunk.n_units} units, but the mapping covers {mapping.n_original}.")
    index = mapping.kept_index.int().to(device).index_select(0, chunk.unit_ids.to(device))
    keeps = index >= 0
    kept = positions(keeps)
    before = torch.nn.functional.pad(keeps.cumsum(0), (1, 0))
    return FilteredActivations(
        first_example=chunk.first_example,
        example_offsets=chunk.example_offsets,
        row_offsets=before.index_select(0, chunk.row_offsets.to(device)).cpu(),
        unit_ids=index.index_select(0, kept).cpu(),
        values=chunk.values.to(device).index_select(0, kept).cpu(),
        n_units=mapping.n_filtered,
        n_original=mapping.n_original,
    )
