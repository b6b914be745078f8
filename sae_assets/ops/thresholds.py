"""Thresholds: exact quantiles of the positive calibration values, per concept and unit and per unit (numerics 5).

One pass collects the values of each unit, with the number of their row; those of as many units as fit the budget are
then sorted, and dealt out to the concepts of their rows, a few units at a time. Nothing of the test split is looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from sae_assets.artifacts import FilteredActivations, GroundTruth, SparseRows, Thresholds, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import loops_for
from sae_assets.ops.key_runs import KeyRuns
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import GrowingColumn, let_go, zeros
from sae_assets.ops.segments import (
    AT_ONCE,
    BITS,
    LARGEST,
    SLICE,
    cut_blocks,
    keys_within,
    linear_quantiles,
    positions,
    sort_keys,
    sort_tagged,
)
from sae_assets.ops.truth_sets import spread
from sae_assets.ops.unit_stats import collect_values, rows_of

TAIL_FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ENTRY_BYTES = 32  # of a value, its unit and the tag of its row's truth, while they are put in order
MOST_TAGS = 2**31 - 1
KEYS_AT_ONCE = 2**18


@plain_arithmetic()
def expect_same_rows(activations: SparseRows, truth: GroundTruth) -> None:
    """Refuse activations and ground truth of different chunks.

    Raises:
        ArtifactError: they start at different examples, or their examples have other numbers of rows.
    """
    if activations.first_example != truth.first_example:
        raise ArtifactError(
            f"Activations start at example {activations.first_example}, ground truth at {truth.first_example}: they "
            "are of different chunks."
        )
    if not torch.equal(activations.example_offsets, truth.example_offsets):
        raise ArtifactError(
            f"Activations have {activations.n_rows} rows over {activations.n_examples} examples, ground truth "
            f"{truth.n_rows} rows over {len(truth.example_offsets) - 1}: they must agree."
        )


@dataclass(frozen=True)
class CalibrationChunk:
    """A chunk's filtered activations, its row-level truth, and which of its examples are calibration examples."""

    activations: FilteredActivations
    truth: GroundTruth
    cal: Bool[Tensor, " examples"]

    def __post_init__(self) -> None:
        expect_same_rows(self.activations, self.truth)


@plain_arithmetic()
def calibrate_thresholds(
    chunks: Iterable[CalibrationChunk],
    *,
    concepts: Sequence[str],
    kept_units: Int[Tensor, " kept"],
    tail_fractions: Sequence[float] = TAIL_FRACTIONS,
    device: torch.device | str = "cpu",
    memory_budget: int = 256 * 2**20,
) -> Thresholds:
    """Return quantile (1 - p) of each (concept, unit)'s positive values on positive calibration rows, linear, exact.

    Args:
        chunks: gone through once.
        tail_fractions: shares p of the values to keep, each within (0, 1).
        memory_budget: bytes for the values while they are put in order, ``ENTRY_BYTES`` each, beside one chunk; what
            does not fit goes through a temporary file. At least one unit's are held. The truth of all rows, about a
            byte for each concept of a row, comes on top.

    Raises:
        ArtifactError: tail fractions outside (0, 1) or not ascending, no calibration rows, or widths that differ.
    """
    if not all(0 < p < 1 for p in tail_fractions) or list(tail_fractions) != sorted(set(tail_fractions)):
        raise ArtifactError(f"Tail fractions must ascend within (0, 1), found {list(tail_fractions)}.")
    n_kept, n_concepts = len(kept_units), len(concepts)
    runs = KeyRuns(keys_within(memory_budget * 8 // ENTRY_BYTES, device))
    rows = _collect(chunks, concepts, n_kept, runs)
    if rows.n == 0:
        raise ArtifactError("There are no calibration rows: the chunks hold no example of split 'cal'.")

    q = 1 - torch.tensor(tail_fractions, dtype=torch.float64, device=device)
    n_positive = torch.zeros(n_concepts + 1, n_kept, dtype=torch.int64, device="cpu")
    values = zeros(n_concepts + 1, n_kept, len(q), dtype=torch.float64)
    rows.truth.append(torch.zeros(AT_ONCE, dtype=torch.int64, device="cpu"))  # loops read so many beyond
    truth = rows.truth.tensor()
    loops, truth_there = loops_for(rows.steps, device), truth.to(device)
    examined = loops is not None
    for block in runs.blocks(rows.n_active):
        units = slice(block.start, block.stop)
        starts = offsets_of(rows.n_active[units])
        sorted_values = sort_tagged(block.keys.to(device), block.tags.to(device))
        del block  # before what is made of it
        if loops:
            columns = (*sorted_values, starts, truth, q, n_positive, values.view(-1))
            examined &= loops.values.quantiles_by_concept(*(column.numpy() for column in columns), units.start)
            del columns
        else:
            result = n_positive[:, units], values[:, units]
            _fill(*sorted_values, starts, truth_there, q, *result, keys_within(memory_budget, device))
        let_go(truth)
        del sorted_values  # before the next ones
    return Thresholds(
        concepts=tuple(concepts),
        kept_units=kept_units,
        tail_fractions=tuple(tail_fractions),
        n_positive=n_positive,
        values=values,
        examined=examined,
    )


class _Rows:
    """The calibration rows have these counts beside their values.

    Attributes:
        n: how many; n_active: int64 [n_kept], on how many of them each unit fires.
        truth: of each row with concepts how many, then which, from an even position on, half of which is the row's tag;
            first a 0, for rows without any. In the narrowest type that holds them, and no more, as it stays for all
            chunks.
        steps: values, and concepts of their rows, about.
    """

    def __init__(self, n_kept: int, n_concepts: int):
        self.n, self.steps, self._next_tag = 0, 0, 1
        self.n_active = torch.zeros(n_kept, dtype=torch.int64, device="cpu")
        types = torch.uint8, torch.int16, torch.int32
        self.truth = GrowingColumn(next(each for each in types if n_concepts <= torch.iinfo(each).max))
        self.truth.append(torch.zeros(2, dtype=torch.int64, device="cpu"))

    def add(self, chunk: CalibrationChunk) -> Int[Tensor, " rows"]:
        """Take in a chunk: the tag of each row, int32, -1 of rows of another split."""
        inside, truth = rows_of(chunk.activations, chunk.cal), chunk.truth
        self.n += int(inside.sum())
        tag_of_row = torch.where(inside, 0, -1).int()
        loops = loops_for(self.steps)
        if loops:
            part = torch.zeros(len(truth.concept_ids) + 2 * len(tag_of_row), dtype=self.truth.dtype, device="cpu")
            columns = (each.numpy() for each in (truth.row_offsets, truth.concept_ids))
            filled = loops.values.lay_out_truth(*columns, self._next_tag, tag_of_row.numpy(), part.numpy())
            part = part[:filled].clone()  # what is not filled does not stay
        else:
            part = self._lay_out(truth, tag_of_row)
        self.truth.append(part)
        self._next_tag += len(part) // 2
        if self._next_tag > MOST_TAGS:
            raise ArtifactError(f"Calibration rows have more than {MOST_TAGS:,} concepts in all. Use fewer examples.")
        return tag_of_row

    def _lay_out(self, truth: GroundTruth, tag_of_row: Int[Tensor, " rows"]) -> Int[Tensor, " n"]:
        """Return the chunk's part of ``truth``; fills in the tags of rows that are not below 0."""
        lengths = torch.where(tag_of_row < 0, 0, truth.row_offsets.diff())
        with_some = positions(lengths > 0)
        lengths = lengths.index_select(0, with_some)
        ends = (lengths // 2 + 1).cumsum(0)
        heads = torch.nn.functional.pad(ends, (1, 0))[:-1]
        part = torch.zeros(2 * int(ends[-1]) if len(ends) else 0, dtype=torch.int32, device="cpu")
        part[2 * heads] = lengths.int()
        members, row = spread(truth.row_offsets.index_select(0, with_some), lengths)
        shift = 2 * heads + 1 - (lengths.cumsum(0) - lengths)
        part[torch.arange(len(row), device="cpu") + shift.index_select(0, row)] = truth.concept_ids[members]
        tag_of_row[with_some] = (heads + self._next_tag).int()
        return part


def _collect(chunks: Iterable[CalibrationChunk], concepts: Sequence[str], n_kept: int, runs: KeyRuns) -> _Rows:
    """Return calibration rows, and each unit's positive values; its own function, so that no chunk outlives the
    pass."""
    rows = _Rows(n_kept, len(concepts))
    for chunk in chunks:
        activations = chunk.activations
        if activations.n_units != n_kept:
            raise ArtifactError(f"A chunk has {activations.n_units} kept units, the mapping {n_kept}.")
        if chunk.truth.concepts != tuple(concepts):
            raise ArtifactError(f"Ground truth is of concepts {list(chunk.truth.concepts)}, expected {list(concepts)}.")
        per_row = len(chunk.truth.concept_ids) / max(1, activations.n_rows)
        rows.steps += int(activations.n_entries * (1 + per_row))
        tag_of_row = rows.add(chunk)
        collect_values(activations, tag_of_row, rows.n_active, runs, loops_for(rows.steps), tagged=True)
    return rows


def _fill(
    keys: Int[Tensor, " n"],
    tags: Int[Tensor, " n"],
    starts: Int[Tensor, " units_plus_1"],
    truth: Integer[Tensor, " positions"],
    q: Float[Tensor, " fractions"],
    n_positive: Int[Tensor, "concepts_plus_1 units"],
    values: Float[Tensor, "concepts_plus_1 units fractions"],
    most: int,
) -> None:
    """Fill ``n_positive`` and ``values`` of units from their sorted values, with tags of their truth.

    Values are sorted once more with each concept of their row, those of some units at a time: at most ``most``.
    """
    n_concepts, on_cpu = len(n_positive) - 1, keys.device.type == "cpu"
    n_positive[-1] = starts.diff()
    values[-1] = linear_quantiles(keys, n_positive[-1].to(keys.device), q).cpu()
    work = torch.zeros(len(starts) - 1, dtype=torch.float64, device="cpu")
    for some, tag in zip(keys.split(SLICE), tags.split(SLICE), strict=True):
        lengths = truth.index_select(0, 2 * tag.long()).double()
        work += torch.bincount(some >> BITS, lengths, len(work)).cpu()
    for first, stop in cut_blocks(work.long(), min(most, KEYS_AT_ONCE) if on_cpu else most):
        block, filled = slice(int(starts[first]), int(starts[stop])), 0
        each = torch.empty(int(work[first:stop].sum()), dtype=torch.int64, device=keys.device)
        counts = torch.zeros((stop - first) * n_concepts, dtype=torch.int64, device=keys.device)
        for some, tag in zip(keys[block].split(SLICE), tags[block].split(SLICE), strict=True):
            position = 2 * tag.long()
            member, entry = spread(position + 1, truth.index_select(0, position).long())
            pair = ((some >> BITS) - first).index_select(0, entry) * n_concepts + truth.index_select(0, member)
            each[filled : filled + len(pair)] = pair << BITS | (some & LARGEST).index_select(0, entry)
            counts += torch.bincount(pair, minlength=len(counts))
            filled += len(pair)
        quantiles = linear_quantiles(sort_keys(each), counts, q)
        n_positive[:-1, first:stop] = counts.view(stop - first, n_concepts).T.cpu()
        values[:-1, first:stop] = quantiles.view(stop - first, n_concepts, len(q)).transpose(0, 1).cpu()
