"""Encoded rows in the forms that the tests of encoders compare: pairs per row, equal bits, parts joined again."""

import dataclasses
from itertools import pairwise

import torch

from sae_assets.ops.sparse_code import SparseCode


def rows_of(code: SparseCode) -> list[list[tuple[int, float]]]:
    ends = code.row_offsets.tolist()
    pairs = list(zip(code.unit_ids.tolist(), code.values.tolist(), strict=True))
    return [pairs[a:b] for a, b in pairwise(ends)]


def assert_bit_equal(code: SparseCode, other: SparseCode) -> None:
    for field in dataclasses.fields(SparseCode):
        one, two = getattr(code, field.name), getattr(other, field.name)
        assert one.dtype == two.dtype and torch.equal(one, two), field.name


def joined(codes: list[SparseCode]) -> SparseCode:
    columns = {name: torch.cat([getattr(code, name) for code in codes]) for name in
               ("unit_ids", "values", "l0", "row_mass", "row_dropped")}  # fmt: skip
    lengths = torch.cat([code.row_offsets.diff() for code in codes])
    return SparseCode(row_offsets=torch.nn.functional.pad(lengths.cumsum(0), (1, 0)), **columns)
