"""Dot products of named (unit, row) pairs in float64, added up by one fixed tree: the same bits everywhere."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.compiled import in_threads
from sae_assets.ops.segments import tree_sums

CACHE_BYTES = 3 * 2**21  # at once on a CPU: what its cache holds while halves of products are added to halves

Fold = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # columns, rows, unit and row of each pair to its terms


def dot_products(
    columns: Float[Tensor, "units d"],
    rows: Float[Tensor, "rows d"],
    unit: Int[Tensor, " pairs"],
    row: Int[Tensor, " pairs"],
    memory_budget: int,
    loops: Any = None,
) -> Float[Tensor, " pairs"]:
    """``columns[unit] · rows[row]``, float64: products first, then halves of them added until one is left.

    Args:
        columns: float32; rows: float64.
        memory_budget: bytes held at once beside the result; one pair always fits.
        loops: compiled ones (``compiled.loops_for``), which give the same bits.
    """
    if loops and len(unit):
        return _by_loops(loops, columns, rows, unit, row)
    fold, terms = fold_of(columns)
    limit = memory_budget if columns.device.type == "cuda" else min(memory_budget, CACHE_BYTES)
    at_once = max(1, min(limit // (24 * terms), len(unit)))
    if columns.device.type == "cpu":
        fold = products_in_place(columns, rows, at_once)
    parts = [torch.zeros(0, dtype=torch.float64, device=rows.device)]
    for u, r in zip(unit.split(at_once), row.split(at_once), strict=True):
        parts.append(tree_sums(fold(columns, rows, u, r)).clone())
    return torch.cat(parts)


def _by_loops(loops: Any, columns: Tensor, rows: Tensor, unit: Tensor, row: Tensor) -> Tensor:
    out = torch.empty(len(unit), dtype=torch.float64, device="cpu")

    def fold(*pairs: Tensor) -> None:
        loops.fold(columns.numpy(), rows.numpy(), *(each.numpy() for each in pairs))

    in_threads(fold, len(unit) * columns.shape[1], unit, row, out)
    return out


def products_in_place(columns: Float[Tensor, "units d"], rows: Float[Tensor, "rows d"], most: int) -> Fold:
    """:func:`products` of at most so many pairs, each time in the same memory: new one would take as long."""
    shape = most, columns.shape[1]
    narrow = torch.empty(shape, dtype=columns.dtype, device="cpu")
    terms, factors = (torch.empty(shape, dtype=torch.float64, device="cpu") for _ in range(2))

    def fold(columns: Tensor, rows: Tensor, unit: Tensor, row: Tensor) -> Tensor:
        n = len(unit)
        torch.index_select(columns, 0, unit, out=narrow[:n])
        torch.index_select(rows, 0, row, out=factors[:n])
        return terms[:n].copy_(narrow[:n]).mul_(factors[:n])  # widened first, which is exact

    return fold


def products(
    columns: Float[Tensor, "units d"], rows: Float[Tensor, "rows d"], unit: Int[Tensor, " n"], row: Int[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """Of each pair the products that are to be added up."""
    terms = rows.index_select(0, row)
    terms *= columns.index_select(0, unit)  # widened on the way, which is exact
    return terms


def fold_of(columns: Float[Tensor, "units d"]) -> tuple[Fold, int]:
    """What gives a pair's terms, and how many: :func:`products`, or on a GPU a kernel that adds most of them up."""
    d = columns.shape[1]
    if columns.device.type != "cuda":
        return products, d
    try:
        from sae_assets.ops.folded_products import folded, terms_left  # noqa: PLC0415 (Triton loads for seconds)
    except ImportError:  # no Triton for this platform
        return products, d
    left = terms_left(d)
    return (folded, left) if left is not None else (products, d)
