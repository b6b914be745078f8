"""Filtered activations: entries of kept units only, renumbered; values and their order untouched (numerics 4)."""

import torch

from sae_assets.artifacts import FilteredActivations, SparseActivations, UnitMapping
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import SLICE, cut_blocks, positions


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
    index = mapping.kept_index.int().to(device)
    on_cpu, n_entries = index.device.type == "cpu", chunk.row_offsets.diff()
    unit_ids, values, n_kept = [], [], [n_entries.new_zeros(1)]
    # Some rows at a time: what is made of all of them, the system would give memory for page by page.
    for start, stop in cut_blocks(n_entries, SLICE if on_cpu else max(1, chunk.n_entries)):
        offsets = chunk.row_offsets[start : stop + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        some = index.index_select(0, chunk.unit_ids[entries].to(device))
        indices = positions(some >= 0)
        unit_ids.append(some.index_select(0, indices).cpu())
        values.append(chunk.values[entries].to(device).index_select(0, indices).cpu())
        n_kept.append(torch.searchsorted(indices, (offsets[1:] - offsets[0]).to(device)).cpu() + n_kept[-1][-1])
    return FilteredActivations(
        first_example=chunk.first_example,
        example_offsets=chunk.example_offsets,
        row_offsets=torch.cat(n_kept),
        unit_ids=torch.cat([chunk.unit_ids[:0], *unit_ids]),
        values=torch.cat([chunk.values[:0], *values]),
        n_units=mapping.n_filtered,
        n_original=mapping.n_original,
        examined=True,  # as rows that hold their invariants do when entries drop out and kept units keep their order
    )
