"""Dot products of named (unit, row) pairs in float64, added up by one fixed tree: the same bits everywhere.

What is stored of one is rounded to float32, and nearly always any other order of additions rounds to the same. So on a
CPU products are first added up in the order that is fastest there, and by the tree only where the two could differ.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.segments import FEW, LEAST, REACH, positions, tree_sums

CACHE_BYTES = 3 * 2**21  # at once on a CPU: what its cache holds while halves of products are added to halves
TERMS_PER_ROW = 2**15  # of candidates of a row on average, from which a product of matrix and vector pays for each row

Fold = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # columns, rows, unit and row of each pair to its terms


@dataclass(frozen=True)
class Pairs:
    """Pairs of a unit and a row, whose products are asked for.

    Args:
        columns: float32 [units, d]; rows: float64 [rows, d].
        unit, row: int64 [pairs], of each pair; rows ascend.
    """

    columns: Float[Tensor, "units d"]
    rows: Float[Tensor, "rows d"]
    unit: Int[Tensor, " pairs"]
    row: Int[Tensor, " pairs"]

    def __len__(self) -> int:
        return len(self.unit)

    def at(self, index: Int[Tensor, " n"]) -> "Pairs":
        """Return those at these places."""
        return replace(self, unit=self.unit[index], row=self.row[index])


def dot_products(pairs: Pairs, memory_budget: int) -> Float[Tensor, " pairs"]:
    """``columns[unit] · rows[row]``, float64: products first, then halves of them added until one is left.

    Args:
        memory_budget: bytes held at once beside the result; one pair always fits.
    """
    columns, rows, unit, row = pairs.columns, pairs.rows, pairs.unit, pairs.row
    fold, terms = fold_of(columns)
    limit = memory_budget if columns.device.type == "cuda" else min(memory_budget, CACHE_BYTES)
    at_once = max(1, min(limit // (24 * terms), len(unit)))
    if columns.device.type == "cpu":
        fold = products_in_place(columns, rows, at_once)
    parts = [torch.zeros(0, dtype=torch.float64, device=rows.device)]
    for u, r in zip(unit.split(at_once), row.split(at_once), strict=True):
        parts.append(tree_sums(fold(columns, rows, u, r)).clone())
    return torch.cat(parts)


def rounded_products(
    pairs: Pairs,
    norms: Float[Tensor, " units"],
    bias: Float[Tensor, " units"],
    norm: Float[Tensor, " rows"],
    memory_budget: int,
) -> Float[Tensor, " pairs"]:
    """``dot_products(…) + bias[unit]``, rounded to float32: the same bits everywhere.

    With q a product in any order and t that of the tree, ``|q - t| <= 2γ |x| |w|`` (Higham 2002, eq. 3.5). Rounding is
    monotone: where both ends of an interval around q + bias that holds t + bias round to one float32, t + bias does.

    Args:
        norms: of columns; norm: of rows; bias: of units; float64.
        memory_budget: as of :func:`dot_products`.
    """
    unit = pairs.unit
    if pairs.columns.device.type == "cuda":  # where a kernel adds by the tree as fast
        return (dot_products(pairs, memory_budget) + bias[unit]).float()
    if not len(pairs):
        return torch.zeros(0, dtype=torch.float32, device="cpu")
    total = quick_products(pairs, memory_budget) + bias[unit]
    reach = pairs.columns.shape[1] * REACH * norms[unit] * norm[pairs.row] + FEW * total.abs() + LEAST
    values = (total - reach).float()
    open_ones = positions(values != (total + reach).float())
    values[open_ones] = (dot_products(pairs.at(open_ones), memory_budget) + bias[unit[open_ones]]).float()
    return values


def quick_products(pairs: Pairs, memory_budget: int) -> Float[Tensor, " pairs"]:
    """Return :func:`dot_products` on a CPU, added up in any order."""
    columns, rows, unit, row = pairs.columns, pairs.rows, pairs.unit, pairs.row
    (n_rows, d), n_pairs = rows.shape, len(unit)
    out = torch.empty(n_pairs, dtype=torch.float64, device="cpu")
    limit = min(memory_budget, CACHE_BYTES)
    if n_pairs * d < TERMS_PER_ROW * n_rows:
        at_once = max(1, limit // (24 * d))
        fold = products_in_place(columns, rows, min(at_once, n_pairs))
        for some, u, r in zip(out.split(at_once), unit.split(at_once), row.split(at_once), strict=True):
            torch.sum(fold(columns, rows, u, r), dim=1, out=some)
        return out
    at_once = max(1, limit // (12 * d))
    narrow = torch.empty((at_once, d), dtype=torch.float32, device="cpu")
    wide = torch.empty_like(narrow, dtype=torch.float64)
    starts = torch.searchsorted(row, torch.arange(n_rows + 1, device="cpu")).tolist()
    for number, (first, last) in enumerate(itertools.pairwise(starts)):
        for start in range(first, last, at_once):
            stop = min(start + at_once, last)
            torch.index_select(columns, 0, unit[start:stop], out=narrow[: stop - start])
            terms = wide[: stop - start].copy_(narrow[: stop - start])  # exact
            torch.mv(terms, rows[number], out=out[start:stop])
    return out


def products_in_place(columns: Float[Tensor, "units d"], rows: Float[Tensor, "rows d"], most: int) -> Fold:
    """Return :func:`products` of at most so many pairs, each time in the same memory: new one would take as long."""
    shape = most, columns.shape[1]
    narrow = torch.empty(shape, dtype=columns.dtype, device="cpu")
    terms, factors = (torch.empty(shape, dtype=torch.float64, device="cpu") for _ in range(2))
    return partial(_products_in, narrow, terms, factors)


def _products_in(narrow: Tensor, terms: Tensor, factors: Tensor, columns: Tensor, rows: Tensor, unit: Tensor,
                 row: Tensor) -> Tensor:  # fmt: skip
    n = len(unit)
    torch.index_select(columns, 0, unit, out=narrow[:n])
    torch.index_select(rows, 0, row, out=factors[:n])
    return terms[:n].copy_(narrow[:n]).mul_(factors[:n])  # widened first, which is exact


def products(
    columns: Float[Tensor, "units d"], rows: Float[Tensor, "rows d"], unit: Int[Tensor, " n"], row: Int[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """Return of each pair the products that are to be added up."""
    terms = rows.index_select(0, row)
    terms *= columns.index_select(0, unit)  # widened on the way, which is exact
    return terms


def fold_of(columns: Float[Tensor, "units d"]) -> tuple[Fold, int]:
    """Return what gives a pair's terms, and how many: :func:`products`, or on a GPU a kernel that adds most of them
    up."""
    d = columns.shape[1]
    if columns.device.type != "cuda":
        return products, d
    try:
        from sae_assets.ops.folded_products import folded, terms_left  # noqa: PLC0415 (Triton loads for seconds)
    except ImportError:  # no Triton for this platform
        return products, d
    left = terms_left(d)
    return (folded, left) if left is not None else (products, d)
