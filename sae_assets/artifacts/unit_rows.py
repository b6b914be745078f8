"""The activations of a model by unit: on which rows each unit fires, and how strongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, bad_offsets, expect_tensor
from sae_assets.artifacts.rows import INFINITY_BITS

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

BLOCK = 2**22  # entries that are looked at together


@dataclass(frozen=True, eq=False)
class UnitRows(Artifact):
    """Entries of all chunks, by unit, then example, then position. Tensors may be mapped from a file.

    Attributes:
        unit_offsets: int64 [n_units + 1], entries of each unit, by original id.
        examples: int32 [n_entries], position of each row's example in the data set; positions: int32, of the row in it.
        values: float32 [n_entries], finite and > 0.
        n_rows: rows there are, with entries or without.
    """

    kind: ClassVar[str] = "unit_rows"
    unit_offsets: Int[Tensor, " units_plus_1"]
    examples: Int[Tensor, " entries"]
    positions: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]
    n_rows: int

    @property
    def n_units(self) -> int:
        return len(self.unit_offsets) - 1

    @property
    def n_entries(self) -> int:
        return len(self.values)

    def problems(self) -> Iterator[str]:
        structure = [
            *expect_tensor(self.unit_offsets, "unit_offsets", "int64", (None,)),
            *expect_tensor(self.examples, "examples", "int32", (self.n_entries,)),
            *expect_tensor(self.positions, "positions", "int32", (self.n_entries,)),
            *expect_tensor(self.values, "values", "float32", (None,)),
        ]
        if not structure:
            structure += bad_offsets(self.unit_offsets, "unit_offsets", self.n_entries)
        yield from structure
        if structure:
            return
        if self.n_entries and int(self.unit_offsets.diff().max()) > self.n_rows:
            yield f"a unit has more entries than the {self.n_rows} rows there are"
        for start in range(0, self.n_entries, BLOCK):
            yield from self._bad_block(start, min(start + BLOCK, self.n_entries))

    def _bad_block(self, start: int, stop: int) -> Iterator[str]:
        """Yield what is wrong with entries ``start`` to ``stop``, and with their order to the entry after them."""
        import torch

        bits = self.values[start:stop].view(torch.int32)
        if not bool(((bits > 0) & (bits < INFINITY_BITS)).all()):
            yield "values must be finite and > 0: an inactive pair is not stored"
        example, position = self.examples[start : stop + 1], self.positions[start : stop + 1]
        if bool((example < 0).any()) or bool((position < 0).any()):
            yield "examples and positions must not be negative"
        ascends = (example[1:] > example[:-1]) | ((example[1:] == example[:-1]) & (position[1:] > position[:-1]))
        begins = self.unit_offsets[(self.unit_offsets > start) & (self.unit_offsets <= start + len(ascends))]
        ascends[begins - start - 1] = True
        if not bool(ascends.all()):
            yield "the rows of a unit must ascend by example and position, each once"
