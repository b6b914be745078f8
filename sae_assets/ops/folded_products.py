"""A GPU kernel for products whose halves are added up to where their number is odd: terms never leave the chip.

In plain torch each halving reads and writes all terms again: for 65,536 units that takes longer than the screen
(``benchmarks/gpu.py``). Loaded by ``dot_products`` alone; runs on the CPU under ``TRITON_INTERPRET=1``.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

MOST_HALVINGS = 10  # 1,024 terms of each place are held by one program
WHILE_LOADING = 3  # halvings that are made while terms are loaded, eight at a time


def terms_left(d: int) -> int | None:
    """Return how many of ``d`` terms the kernel leaves, which halves them while their number is even; None: not for
    this d."""
    times = min((d & -d).bit_length() - 1, MOST_HALVINGS)
    return d >> times if times >= WHILE_LOADING else None


def folded(
    columns: Float[Tensor, "units d"], rows: Float[Tensor, "rows d"], unit: Int[Tensor, " n"], row: Int[Tensor, " n"]
) -> Float[Tensor, "n left"]:
    """Return what the fixed tree has left of each pair's products when :func:`terms_left` remain.

    Args:
        columns: float32; rows: float64; both contiguous.
    """
    d = columns.shape[1]
    left = terms_left(d)
    assert left is not None
    times = (d // left).bit_length() - 1
    out = torch.empty((len(unit), left), dtype=torch.float64, device=rows.device)
    if len(unit):
        _fold[(len(unit),)](
            columns, rows, unit, row, out, d, left, triton.next_power_of_2(left), times, num_warps=4,
            enable_fp_fusion=False,  # a fused multiply-add would not round the product
        )  # fmt: skip
    return out


@triton.jit
@no_type_check  # what it names are pointers and constants of the kernel
def _eighth(columns, rows, start, at, inside):
    w = tl.load(columns + start + at, mask=inside, other=0.0)
    return w.to(tl.float64) * tl.load(rows + start + at, mask=inside, other=0.0)


@triton.jit
@no_type_check
def _fold(columns, rows, unit, row, out, d, left: tl.constexpr, places: tl.constexpr, times: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    columns += tl.load(unit + pair) * d
    rows += tl.load(row + pair) * d
    n: tl.constexpr = 1 << (times - 3)
    step = n * left
    column = tl.arange(0, places)[None, :]
    at = tl.arange(0, n)[:, None] * left + column
    inside = (column < left) & (at >= 0)
    a = _eighth(columns, rows, 0 * step, at, inside) + _eighth(columns, rows, 4 * step, at, inside)
    c = _eighth(columns, rows, 2 * step, at, inside) + _eighth(columns, rows, 6 * step, at, inside)
    total = a + c
    a = _eighth(columns, rows, 1 * step, at, inside) + _eighth(columns, rows, 5 * step, at, inside)
    c = _eighth(columns, rows, 3 * step, at, inside) + _eighth(columns, rows, 7 * step, at, inside)
    total += a + c
    for k in tl.static_range(times - 3):
        low, high = tl.split(tl.permute(tl.reshape(total, (2, 1 << (times - 4 - k), places)), (1, 2, 0)))
        total = low + high
    at = tl.arange(0, places)
    tl.store(out + pair * left + at, tl.reshape(total, (places,)), mask=at < left)
