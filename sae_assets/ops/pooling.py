"""Scores of examples from activations of their rows: maximum, mean, mean of the largest, or the last row (numerics 9).

And what the number of rows says by itself: the longer an example, the larger its maximum over rows tends to be.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import BITS, pack, pack_descending, positions, sort_keys, unpack, unpack_descending
from sae_assets.ops.sparse_activations import Encoder
from sae_assets.ops.sparse_code import SparseCode, joined

MOST_GROUPS = 2**31  # that keys of 64 bits tell apart beside a value
POOLINGS = ("max", "mean", "topk_mean", "last")


@dataclass(frozen=True)
class Pooling:
    """Pooling makes the rows of an example one score of a unit.

    Attributes:
        name: ``max``; ``mean``, the sum over the example's number of rows; ``topk_mean``, the sum of the k largest over
            k, where rows that are not stored or do not exist count as 0; ``last``, the value of the last row.
        k: of ``topk_mean``.
    """

    name: str = "max"
    k: int = 1

    @property
    def label(self) -> str:
        """Return the name, with k where it plays a part."""
        return f"{self.name}({self.k})" if self.name == "topk_mean" else self.name

    def __post_init__(self) -> None:
        if self.name not in POOLINGS:
            raise ArtifactError(f"Unknown pooling {self.name!r}, expected one of {', '.join(POOLINGS)}.")
        if self.k < 1:
            raise ArtifactError(f"k of pooling is {self.k}, expected at least 1.")


MAXIMUM = Pooling("max")


@plain_arithmetic()
def pool_rows(
    rows: SparseRows, pooling: Pooling, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, " scores"], Float[Tensor, " scores"], Int[Tensor, " scores"]]:
    """Return unit (int64), score (float32, > 0) and example (int64, position in the chunk), by unit, then example.

    Sums are float64, added row after row (``topk_mean``: from the largest down) and rounded once; a score that rounds
    to 0 is left out, as one of 0 is.
    """
    row = rows.row_of_entry()
    example, unit, value = (
        rows.example_of_row()[row].to(device),
        rows.unit_ids.long().to(device),
        rows.values.to(device),
    )
    if pooling.name == "last":
        last = (row.to(device) == (rows.example_offsets[1:] - 1).to(device)[example]).nonzero().flatten()
        example, unit, value = example[last], unit[last], value[last]
    pair = unit * rows.n_examples + example
    if pooling.name in ("max", "last") and rows.n_units * rows.n_examples < MOST_GROUPS:
        keys = sort_keys(pack(pair, value))  # a third of the time of what follows; the largest of a pair comes last
        ends = torch.ones_like(keys, dtype=torch.bool)
        ends[:-1] = keys[1:] >> BITS != keys[:-1] >> BITS
        pair, score = unpack(keys.index_select(0, positions(ends)))
        return pair // rows.n_examples, score, pair % rows.n_examples
    pairs, inverse = pair.unique(return_inverse=True)
    example, unit = pairs % rows.n_examples, pairs // rows.n_examples
    if pooling.name in ("max", "last"):
        score = torch.zeros(len(pairs), device=device, dtype=torch.float32).scatter_reduce_(0, inverse, value, "amax")
        return unit, score, example
    total = torch.zeros(len(pairs), dtype=torch.float64, device=device)
    if pooling.name == "mean":
        total.index_add_(0, inverse, value.double())
        total /= rows.example_offsets.diff().to(device)[example]
    else:
        pair, value = unpack_descending(pack_descending(inverse, value).sort().values)
        starts = offsets_of(torch.bincount(pair, minlength=len(pairs)))
        top = torch.arange(len(pair), device=device) - starts[pair] < pooling.k
        total.index_add_(0, pair[top], value[top].double())
        total /= pooling.k
    score = total.float()
    some = score > 0
    return unit[some], score[some], example[some]


@plain_arithmetic()
def pool_codes(code: SparseCode, example: Int[Tensor, " rows"], n_examples: int) -> SparseCode:
    """Return one row per example: the largest value of each unit over the example's rows.

    Args:
        code: whole, so that nothing is missing from the maximum; example: of each row, int64.
    """
    if not len(code.unit_ids):
        nothing = torch.zeros(n_examples, dtype=torch.float64, device="cpu")
        offsets = torch.zeros(n_examples + 1, dtype=torch.int64, device="cpu")
        return SparseCode(offsets, code.unit_ids, code.values, nothing.int(), nothing, nothing)
    width = int(code.unit_ids.max()) + 1
    of_entry = example.repeat_interleave(code.row_offsets.diff())
    pairs, inverse = (of_entry * width + code.unit_ids).unique(return_inverse=True)
    values = torch.zeros(len(pairs), dtype=torch.float32, device="cpu").scatter_reduce_(0, inverse, code.values, "amax")
    example, units = pairs // width, pairs % width
    order = pack_descending(example, values).sort(stable=True).indices  # ties stay in the order of their units
    counts = torch.bincount(example, minlength=n_examples)
    mass = torch.zeros(n_examples, dtype=torch.float64, device="cpu")
    return SparseCode(
        row_offsets=offsets_of(counts),
        unit_ids=units[order].int(),
        values=values[order],
        l0=counts.int(),
        row_mass=mass.index_add(0, example, values[order].double()),  # sorted by example already
        row_dropped=mass,
    )


def encode_pooled(
    encoder: Encoder, x: Float[Tensor, "rows d"], example: Int[Tensor, " rows"], n_examples: int
) -> SparseCode:
    """Return the pooled codes (:func:`pool_codes`) of rows that are encoded in blocks, so that no more of them is
    held."""
    pooled = [pool_codes(encoder.encode(x[:0]), example[:0], n_examples)]
    for block, of_block in zip(x.split(encoder.rows_at_once), example.split(encoder.rows_at_once), strict=True):
        pooled = [merge_pooled([*pooled, pool_codes(encoder.encode(block), of_block, n_examples)])]
    return pooled[0]


def encode_scores(
    encoder: Encoder, x: Float[Tensor, "rows d"], lengths: Int[Tensor, " examples"], poolings: Collection[Pooling]
) -> dict[Pooling, tuple[Int[Tensor, " scores"], Float[Tensor, " scores"], Int[Tensor, " scores"]]]:
    """Return unit, score and example, as :func:`pool_rows` gives them, by pooling, of rows that are encoded once.

    Whole codes of all rows are held, but for the maximum alone.

    Args:
        lengths: int64, rows of each example, which stand one behind the other.
    """
    n_examples = len(lengths)
    if set(poolings) == {MAXIMUM}:
        example = torch.arange(n_examples, device="cpu").repeat_interleave(lengths)
        code, offsets = encode_pooled(encoder, x, example, n_examples), torch.arange(n_examples + 1, device="cpu")
    else:
        code, offsets = joined([encoder.encode(block) for block in x.split(encoder.rows_at_once)]), offsets_of(lengths)
    rows = SparseRows(0, offsets, code.row_offsets, code.unit_ids, code.values, encoder.n_units)
    return {pooling: pool_rows(rows, pooling) for pooling in poolings}


def merge_pooled(parts: Sequence[SparseCode]) -> SparseCode:
    """Return one row per example from parts that have one each, of other rows of the same examples."""
    if len(parts) == 1:
        return parts[0]
    n_examples = len(parts[0].l0)
    example = torch.arange(n_examples, device="cpu").repeat(len(parts))
    return pool_codes(joined(parts), example, n_examples)


@plain_arithmetic()
def length_auroc(
    lengths: Int[Tensor, " examples"], labels: Bool[Tensor, "examples concepts"]
) -> Float[Tensor, " concepts"]:
    """Return AUROC of the number of rows alone, float64: what a score that grows with length reaches without any
    content.

    By ranks, ties counted half (Mann & Whitney 1947). NaN where a concept has no positives or no negatives. Below 1/2
    the shorter examples are the positive ones.
    """
    _, inverse, counts = lengths.unique(return_inverse=True, return_counts=True)
    stops = counts.cumsum(0)
    both = (2 * stops - counts)[inverse]  # shorter ones twice, and those of the same length once
    n_positive, truth = labels.sum(0).double(), labels.double()
    n_negative = len(labels) - n_positive
    won = (truth * both[:, None]).sum(0) - n_positive**2
    exists = (n_positive > 0) & (n_negative > 0)
    return torch.where(exists, won / (2 * n_positive * n_negative), torch.nan)
