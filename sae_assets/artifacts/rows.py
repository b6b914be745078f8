"""Sparse and filtered activations of a chunk, as compressed sparse rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sae_assets.artifacts.base import HASHED_IF_GIVEN, Artifact, bad_offsets, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from sae_assets.artifacts.fit import FitSums

ENTRIES_AT_ONCE = 2**15  # that a processor's cache holds with what is made of them
INFINITY_BITS = 0x7F800000  # of float32; NaN lies above, negative numbers are negative
FLOAT16 = "float16"
FLOAT16_CUT = 13  # low bits of float32 that are 0 in a number of float16's 11 significant bits


@dataclass(frozen=True, eq=False)
class SparseRows(Artifact):
    """Rows of (unit, value) pairs, value descending and unit ascending among equal values; compressed sparse rows.

    Attributes:
        first_example: position of the chunk's first example in the data set.
        example_offsets: int64 [n_examples + 1], rows of each example.
        row_offsets: int64 [n_rows + 1], entries of each row.
        unit_ids: int32 [n_entries]; values: float32 [n_entries], finite and > 0.
        n_units: width of the space that ``unit_ids`` lives in.
    """

    first_example: int
    example_offsets: Int[Tensor, " examples_plus_1"]
    row_offsets: Int[Tensor, " rows_plus_1"]
    unit_ids: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]
    n_units: int

    @property
    def n_rows(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def n_examples(self) -> int:
        return len(self.example_offsets) - 1

    @property
    def n_entries(self) -> int:
        return len(self.values)

    @property
    def dense_bytes(self) -> int:
        """Return bytes of the same activations as a dense float32 matrix [n_rows, n_units]."""
        return 4 * self.n_rows * self.n_units

    def entries_per_row(self) -> Int[Tensor, " rows"]:
        return self.row_offsets[1:] - self.row_offsets[:-1]

    def row_of_entry(self) -> Int[Tensor, " entries"]:
        import torch

        return torch.repeat_interleave(torch.arange(self.n_rows, device="cpu"), self.entries_per_row())

    def example_of_row(self) -> Int[Tensor, " rows"]:
        import torch

        return torch.repeat_interleave(
            torch.arange(self.n_examples, device="cpu"), self.example_offsets[1:] - self.example_offsets[:-1]
        )

    def active_units(self) -> Int[Tensor, " active"]:
        """Return units that fire on some row, int64, ascending; counted, as sorting all ids takes ten times as long."""
        import torch

        return torch.bincount(self.unit_ids, minlength=self.n_units).nonzero().flatten()

    def problems(self) -> Iterator[str]:
        structure = [
            *expect_tensor(self.example_offsets, "example_offsets", "int64", (None,)),
            *expect_tensor(self.row_offsets, "row_offsets", "int64", (None,)),
            *expect_tensor(self.unit_ids, "unit_ids", "int32", (self.n_entries,)),
            *expect_tensor(self.values, "values", "float32", (None,)),
        ]
        if not structure:
            structure += bad_offsets(self.example_offsets, "example_offsets", self.n_rows)
            structure += bad_offsets(self.row_offsets, "row_offsets", self.n_entries)
        yield from structure
        if not structure:
            yield from self._bad_entries()

    def _bad_entries(self) -> Iterator[str]:
        import torch

        if self.n_entries == 0:
            return
        # Floats above 0 order as their bit patterns do, also where the process takes subnormal numbers for 0.
        ids, bits = self.unit_ids.numpy(), self.values.view(torch.int32).numpy()
        low, high = int(ids.min()), int(ids.max())
        outside = low < 0 or high >= self.n_units
        if outside:
            yield f"unit ids span {low}..{high}, expected 0..{self.n_units - 1}"
        if int(bits.min()) <= 0 or int(bits.max()) >= INFINITY_BITS:
            yield "values must be finite and > 0: an inactive pair is not stored"
        rises, starts = bits[1:] >= bits[:-1], self.row_offsets.numpy()
        lengths = starts[1:] - starts[:-1]
        width = int(lengths[0]) if (lengths == lengths[0]).all() else None
        if width is not None:  # entries of two rows are in any order
            rises[width - 1 :: width] = False
        else:
            rises[starts[(starts > 0) & (starts < self.n_entries)] - 1] = False
        if rises.any():  # most often nowhere: equal values are rare
            at = rises.nonzero()[0]
            wrong = at[(bits[at + 1] > bits[at]) | (ids[at + 1] <= ids[at])]
            if len(wrong):
                row = int(starts.searchsorted(wrong[0], side="right")) - 1
                yield f"row {row} is not sorted by value descending, then unit ascending"
        twice = self._names_a_unit_twice if width is None else lambda: _names_twice(ids.reshape(-1, width))
        if not outside and twice():
            yield "a row names the same unit twice"

    def _names_a_unit_twice(self) -> bool:
        """Return whether a row does: sorted by numpy, which takes a tenth of torch's time for short rows."""
        import torch

        lengths, offsets = self.entries_per_row(), self.row_offsets.contiguous()
        first = 0
        while first < self.n_rows:
            limit = offsets[first : first + 1] + ENTRIES_AT_ONCE
            stop = max(first + 1, int(torch.searchsorted(offsets, limit, right=True)) - 1)
            units = self.unit_ids[offsets[first] : offsets[stop]]
            # Rows of any length together, which takes longer.
            kind = torch.int32 if (stop - first) * self.n_units < 2**31 else torch.int64
            row = torch.arange(stop - first, dtype=kind, device="cpu").repeat_interleave(lengths[first:stop])
            keys = (row * self.n_units + units).numpy()
            keys.sort()
            if (keys[1:] == keys[:-1]).any():
                return True
            first = stop
        return False


def _names_twice(rows: Any) -> bool:
    """Return whether a row of a NumPy array [rows, width] does, of rows of one length."""
    at_once = max(1, ENTRIES_AT_ONCE // rows.shape[1])
    for first in range(0, len(rows), at_once):
        block = rows[first : first + at_once].copy()
        block.sort(axis=1)
        # All of it as one row, which takes half the time, also holds the end of a row against the next one's start.
        flat = block.ravel()
        if (flat[1:] == flat[:-1]).any() and (block[:, 1:] == block[:, :-1]).any():
            return True
    return False


@dataclass(frozen=True, eq=False)
class SparseActivations(SparseRows):
    """One chunk's SAE activations, in original unit ids.

    Attributes:
        l0: int32 [n_rows], active units of each row before truncation to ``k_stored``.
        k_stored: entries kept per row at most; None kept all.
        total_mass, dropped_mass: sum of all active values, and of those not stored.
        n_cut_examples, n_cut_tokens: texts longer than the model's ``max_tokens``, and the tokens left out of them.
        fit: how well the SAE reconstructs the rows from all their active units, before truncation; None where no
            decoder was read, of imported files, and of files of earlier versions.
        stored_values: ``float16`` where values were rounded to its 11 significant bits; masses, ``l0`` and ``fit`` are
            those before. None: as they were encoded.
    """

    kind: ClassVar[str] = "sparse_activations"
    l0: Int[Tensor, " rows"]
    k_stored: int | None
    total_mass: float
    dropped_mass: float
    n_cut_examples: int = 0
    n_cut_tokens: int = 0
    fit: FitSums | None = field(default=None, metadata=HASHED_IF_GIVEN)
    stored_values: str | None = field(default=None, metadata=HASHED_IF_GIVEN)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.fit is not None:
            yield from self.fit.problems()
            if self.fit.n_rows > self.n_rows:
                yield f"the fit is of {self.fit.n_rows} rows, more than the {self.n_rows} there are"
        if self.stored_values not in (None, FLOAT16):
            yield f"values are stored as {self.stored_values!r}, expected {FLOAT16!r} or nothing"
        elif self.stored_values is not None and self._has_more_bits_than_float16():
            yield "a value has more significant bits than float16"
        yield from expect_tensor(self.l0, "l0", "int32", (self.n_rows,))
        offsets, active = self.row_offsets.numpy(), self.l0.numpy()  # torch takes several times as long for so little
        stored = offsets[1:] - offsets[:-1]
        expected = active if self.k_stored is None else active.clip(max=self.k_stored)
        if len(stored) == len(expected) and (stored != expected).any():
            yield "a row must store min(l0, k_stored) entries"
        if not 0 <= self.dropped_mass <= self.total_mass:
            yield f"dropped mass {self.dropped_mass} is not within 0..{self.total_mass}"
        if not 0 <= self.n_cut_examples <= self.n_examples or self.n_cut_tokens < self.n_cut_examples:
            yield f"{self.n_cut_tokens} tokens of {self.n_cut_examples} examples cannot have been cut"

    def _has_more_bits_than_float16(self) -> bool:
        import torch

        return bool((self.values.view(torch.int32) & ((1 << FLOAT16_CUT) - 1)).any())

    @property
    def summary(self) -> dict[str, float]:
        """Return a few figures that chunks are compared by; one that does not exist (no row, no entry) is left out."""
        lengths, active = self.example_offsets.diff(), int(self.l0.sum())
        figures = {"median_rows_per_example": float(lengths.median())} if len(lengths) else {}
        figures |= {"mean_l0": active / self.n_rows} if self.n_rows else {}
        stored = self.total_mass - self.dropped_mass  # not added up anew: the last bits would depend on threads
        return figures | ({"mean_value": stored / self.n_entries} if self.n_entries else {})

    @property
    def n_truncated_rows(self) -> int:
        return int((self.entries_per_row() < self.l0).sum())

    @property
    def n_dropped_entries(self) -> int:
        return int(self.l0.sum()) - self.n_entries


@dataclass(frozen=True, eq=False)
class FilteredActivations(SparseRows):
    """One chunk's activations of the kept units only; ``unit_ids`` are kept indices (0..n_filtered - 1)."""

    kind: ClassVar[str] = "filtered_activations"
    n_original: int

    @property
    def dense_bytes(self) -> int:
        """Return bytes of the unfiltered activations as a dense float32 matrix: what this file stands for."""
        return 4 * self.n_rows * self.n_original
