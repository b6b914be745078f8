"""Encoded rows as encoders give them: compressed sparse rows, and what was left out of each; joined and truncated."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of


@dataclass(frozen=True)
class SparseCode:
    """Encoded rows as compressed sparse rows on the CPU; fields as in ``SparseActivations``.

    Attributes:
        row_mass, row_dropped: float64 [n_rows], sum of a row's active values, and of those not stored.
    """

    row_offsets: Int[Tensor, " rows_plus_1"]
    unit_ids: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]
    l0: Int[Tensor, " rows"]
    row_mass: Float[Tensor, " rows"]
    row_dropped: Float[Tensor, " rows"]


def joined(codes: Sequence[SparseCode]) -> SparseCode:
    """Return the rows of all codes, one after the other; none where there is no code."""
    if not codes:
        return _nothing()
    if len(codes) == 1:
        return codes[0]
    return SparseCode(
        row_offsets=offsets_of(torch.cat([code.row_offsets.diff() for code in codes])),
        unit_ids=torch.cat([code.unit_ids for code in codes]),
        values=torch.cat([code.values for code in codes]),
        l0=torch.cat([code.l0 for code in codes]),
        row_mass=torch.cat([code.row_mass for code in codes]),
        row_dropped=torch.cat([code.row_dropped for code in codes]),
    )


def truncated(code: SparseCode, k_stored: int | None) -> SparseCode:
    """Return a whole code, at most the ``k_stored`` largest entries of each row: what :meth:`Encoder.encode` gives with
    it."""
    lengths = code.row_offsets.diff()
    if k_stored is None or not bool((lengths > k_stored).any()):
        return code
    row = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
    is_stored = torch.arange(len(row), device="cpu") - code.row_offsets[row] < k_stored
    return SparseCode(
        row_offsets=offsets_of(lengths.clamp(max=k_stored)),
        unit_ids=code.unit_ids[is_stored],
        values=code.values[is_stored],
        l0=code.l0,
        row_mass=code.row_mass,
        row_dropped=torch.zeros_like(code.row_mass).index_add(0, row[~is_stored], code.values[~is_stored].double()),
    )


def _nothing() -> SparseCode:
    """Return the code of no row."""
    start = torch.zeros(1, dtype=torch.int64, device="cpu")
    nothing = start[:0]
    return SparseCode(start, nothing.int(), nothing.float(), nothing.int(), nothing.double(), nothing.double())
