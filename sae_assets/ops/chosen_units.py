"""Candidates of a row are stored by their exact values, and make its code."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.ops.compiled import Loops, in_threads
from sae_assets.ops.dot_products import Pairs, rounded_products
from sae_assets.ops.segments import added_up, pack_descending
from sae_assets.ops.sparse_code import SparseCode


@dataclass(frozen=True)
class ChosenUnits:
    """Each row has the units whose exact values exceed their least, and of these the largest.

    Args:
        columns: float32 [units, d]; norms: theirs, float64; bias: float64, added to products.
        least: float32, 0 at least; most: how many units a row stores at most.
        memory_budget: bytes that exact products may hold at once.
    """

    columns: Float[Tensor, "units d"]
    norms: Float[Tensor, " units"]
    bias: Float[Tensor, " units"]
    least: Float[Tensor, " units"]
    most: int
    memory_budget: int

    def among(
        self,
        loops: Loops | None,
        centred: Float[Tensor, "rows d"],
        norm: Float[Tensor, " rows"],
        starts: Int[Tensor, " rows_plus_1"],
        units: Int[Tensor, " n"],
    ) -> SparseCode:
        """Return the code of rows from their candidates.

        Args:
            loops: compiled ones, where they pay.
            centred: float64; norm: of each row, float64.
            starts: where the candidates of each row stand; units: int64, by row, then unit.
        """
        if loops is not None:
            return self._among_by(loops, centred, norm, starts, units)
        n_rows = len(centred)
        rows = torch.repeat_interleave(torch.arange(n_rows, device=starts.device), starts.diff())
        pairs = Pairs(self.columns, centred, units, rows)
        values = rounded_products(pairs, self.norms, self.bias, norm, self.memory_budget)
        rows, units, values = where(values > self.least[units], rows, units, values)
        # A stable sort by value leaves ties in the order of their units.
        order = pack_descending(rows, values).sort(stable=True).indices
        rows, units, values = rows[order], units[order], values[order]
        rank = torch.arange(len(rows), device=rows.device) - starts_of(rows, n_rows)[rows]
        rows, units, values = where(rank < self.most, rows, units, values)
        row_offsets, values = starts_of(rows, n_rows).cpu(), values.cpu()
        l0 = row_offsets.diff()
        nothing = torch.zeros(n_rows, dtype=torch.float64, device="cpu")
        mass = added_up(values.double(), l0)
        return SparseCode(row_offsets, units.int().cpu(), values, l0.int(), mass, nothing)

    def _among_by(self, loops: Loops, centred: Tensor, norm: Tensor, starts: Tensor, candidates: Tensor) -> SparseCode:
        n_rows, counts = len(centred), starts.diff()
        units = torch.empty(len(candidates), dtype=torch.int32, device="cpu")
        values = torch.empty_like(units, dtype=torch.float32)
        l0 = torch.empty(n_rows, dtype=torch.int32, device="cpu")
        mass, nothing = torch.zeros((2, n_rows), dtype=torch.float64, device="cpu")
        of_units = candidates, self.least, self.columns, self.norms, self.bias

        def choose(starts: Tensor, stops: Tensor, centred: Tensor, norm: Tensor, *filled: Tensor) -> None:
            if len(starts):
                arrays = (each.numpy() for each in (starts, stops, *of_units, centred, norm))
                loops.encoding.choose(*arrays, self.most, *(each.numpy() for each in (units, values, *filled)))

        in_threads(choose, len(candidates) * centred.shape[1], starts[:-1], starts[1:], centred, norm, l0, mass)
        rank = torch.arange(len(candidates), device="cpu") - torch.repeat_interleave(starts[:-1], counts)
        stored = rank < torch.repeat_interleave(l0, counts)
        return SparseCode(offsets_of(l0), units[stored], values[stored], l0, mass, nothing)

    def largest_by(
        self,
        loops: Loops,
        screened: Float[Tensor, "rows places"],
        largest: Float[Tensor, "rows tiles"],
        floor: Float[Tensor, " rows"],
        steps: tuple[int, int],
        centred: Float[Tensor, "rows d"],
        norm: Float[Tensor, " rows"],
    ) -> tuple[SparseCode, int]:
        """Return what :meth:`among` gives of all units that are screened at each row's ``floor`` or above, by compiled
        loops, and how many products were computed for it. Their least is 0, and the most are few.

        Args:
            largest: screened value of each tile; unit ``t * steps[0] + i * steps[1]`` is in tile t.
        """
        n_rows, d = centred.shape
        units = torch.empty(n_rows, self.most, dtype=torch.int32, device="cpu")
        values = torch.empty_like(units, dtype=torch.float32)
        l0 = torch.empty(n_rows, dtype=torch.int32, device="cpu")
        mass, nothing = torch.zeros((2, n_rows), dtype=torch.float64, device="cpu")
        weights, taken = (self.columns, self.norms, self.bias), []

        def choose(screened: Tensor, largest: Tensor, floor: Tensor, *by_row: Tensor) -> None:
            columns = screened, largest, floor, *weights, *by_row
            taken.append(loops.encoding.choose_largest(*(each.numpy() for each in columns), *steps))

        in_threads(choose, units.numel() * d, screened, largest, floor, centred, norm, units, values, l0, mass)
        stored = torch.arange(self.most, device="cpu") < l0[:, None]
        return SparseCode(offsets_of(l0), units[stored], values[stored], l0, mass, nothing), sum(taken)


def where(chosen: Bool[Tensor, " n"], *columns: Tensor) -> tuple[Tensor, ...]:
    """Return where ``chosen``, of each column; the device is asked once how many that are."""
    (index,) = chosen.nonzero(as_tuple=True)
    return tuple(column[index] for column in columns)


def starts_of(rows: Int[Tensor, " n"], n_rows: int) -> Int[Tensor, " rows_plus_1"]:
    """Return where each row begins among ascending ones, and where the last ends."""
    return torch.searchsorted(rows, torch.arange(n_rows + 1, device=rows.device))
