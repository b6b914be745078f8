"""Rows of cal and test as they are read for row figures: truth by sets of concepts, values unit by unit in order.

What is counted on them is decided elsewhere (``ops.row_alignment``, ``ops.row_chance``, protocols); the walk over true
incidences is that of ``ops.incidences``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import GroundTruth, SparseRows, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.incidences import (
    ENTRIES_AT_ONCE,
    VALUE_BITS,
    RankedValues,
    Walk,
    pack_values,
    tag_bits,
    tagged,
    units_at_once,
)
from sae_assets.ops.key_runs import Block, KeyRuns
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import SLICE, cut_blocks, positions, sort_keys
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets.ops.thresholds import expect_same_rows
from sae_assets.ops.truth_sets import TruthSets, contained, spread, truth_sets

VALUE_BYTES = 40  # of a value while it is put in order, with the number of its row
MOST_ROWS = 2**30  # of a split, whose number shares 31 bits with which split it is


@dataclass(frozen=True)
class RowChunk:
    """A chunk's activations, filtered or not, with its row-level truth and the splits of its examples."""

    activations: SparseRows
    truth: GroundTruth
    splits: tuple[str, ...]

    def __post_init__(self) -> None:
        expect_same_rows(self.activations, self.truth)
        if len(self.splits) != self.activations.n_examples:
            raise ArtifactError(
                f"The chunk holds {self.activations.n_examples} examples, but {len(self.splits)} splits were given."
            )

    def examples_in(self, split: str) -> Bool[Tensor, " examples"]:
        return torch.tensor([name == split for name in self.splits], dtype=torch.bool, device="cpu")

    def rows_in(self, split: str) -> Bool[Tensor, " rows"]:
        """Return rows of the split's examples."""
        return self.examples_in(split)[self.activations.example_of_row()]


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split have these counts before any value is looked at.

    Attributes:
        truth: concepts of its rows, which are numbered as the chunks come.
        n_stored: int64 [n_units], stored values of each unit.
        work: int64 [n_units], these and their true incidences.
    """

    truth: TruthSets
    n_stored: Int[Tensor, " units"]
    work: Int[Tensor, " units"]


class GatheredRows:
    """Truth and stored values of the rows of cal and of test, of chunks that were gone through once.

    Attributes:
        splits: what is known of cal and of test.
    """

    def __init__(self, splits: dict[str, SplitRows], runs: KeyRuns, device: torch.device | str):
        """
        Args:
            runs: values by unit, largest first, tagged with the number of the row within its split, and which that is.
        """
        self.splits, self._runs, self._device = splits, runs, device

    def walks(self, entries_at_once: int = ENTRIES_AT_ONCE) -> Iterator[tuple[Walk, Walk]]:
        """Yield walks over cal and over test of all units, a few units at a time, in their order; once only.

        Args:
            entries_at_once: bound on the values and incidences in hand, about 150 bytes each; one unit at least.
        """
        cal, test = (self.splits[name] for name in EVALUATED)
        most_units = min(units_at_once(split.truth.n_sets) for split in (cal, test))
        for block in self._runs.blocks(cal.n_stored + test.n_stored):
            for begin in range(block.start, block.stop, most_units):
                end = min(begin + most_units, block.stop)
                ranked = [self._ranked(block, begin, end, index) for index in range(len(EVALUATED))]
                if end == block.stop:
                    del block  # before what is made of it
                for low, high in cut_blocks((cal.work + test.work)[begin:end], entries_at_once):
                    here = Walk(ranked[0].block(low, high), cal.truth)
                    yield here, Walk(ranked[1].block(low, high), test.truth)
                del ranked, here  # before the next ones

    @plain_arithmetic()
    def _ranked(self, block: Block, begin: int, end: int, index: int) -> RankedValues:
        """The values of units ``begin`` to ``end - 1`` on one split, renumbered from 0."""
        split = self.splits[EVALUATED[index]]
        counts, bits = split.n_stored[begin:end], tag_bits(split.truth.n_sets)
        sets, shift = split.truth.set_of_row.cpu(), begin - block.start
        ranked = torch.empty(int(counts.sum()), dtype=torch.int64, device="cpu")
        filled = 0
        for keys, tags in zip(block.keys.split(SLICE), block.tags.split(SLICE), strict=True):
            unit = (keys >> VALUE_BITS) - shift
            mine = (tags & 1 == index) & (unit >= 0) & (unit < end - begin)
            part = tagged(keys[mine] - (shift << VALUE_BITS), sets[tags[mine].long() >> 1], bits)
            ranked[filled : filled + len(part)] = part
            filled += len(part)
        return RankedValues(sort_keys(ranked.to(self._device)), bits, offsets_of(counts).to(self._device))


@plain_arithmetic()
def gather_rows(
    chunks: Iterable[RowChunk],
    *,
    concepts: Sequence[str],
    n_units: int,
    device: torch.device | str = "cpu",
    memory_budget: int = 256 * 2**20,
) -> GatheredRows:
    """Return truth and stored values on cal and on test, in one pass over the chunks.

    Args:
        memory_budget: bytes for the values while they are put in order, ``VALUE_BYTES`` each, beside one chunk; what
            does not fit goes through a temporary file. At least one unit's values are held. The truth of all rows
            (about 12 bytes and 4 for each concept of a row) comes on top.

    Raises:
        ArtifactError: no chunks, chunks of another width or of other concepts, or more than 2^30 rows in a split.
    """
    per_row: dict[str, list[Tensor]] = {split: [] for split in EVALUATED}
    members: dict[str, list[Tensor]] = {split: [] for split in EVALUATED}
    totals = {split: torch.zeros(2, n_units, dtype=torch.int64, device="cpu") for split in EVALUATED}
    runs, n_rows = KeyRuns(memory_budget // VALUE_BYTES, VALUE_BITS), dict.fromkeys(EVALUATED, 0)
    seen = False
    for chunk in chunks:
        rows, truth, seen = chunk.activations, chunk.truth, True
        if rows.n_units != n_units:
            raise ArtifactError(f"A chunk has {rows.n_units} units, expected {n_units}.")
        if truth.concepts != tuple(concepts):
            raise ArtifactError(f"Ground truth is of concepts {list(truth.concepts)}, expected {list(concepts)}.")
        concepts_per_row = truth.row_offsets.diff()
        tag_of_row = torch.full((rows.n_rows,), -1, dtype=torch.int64, device="cpu")
        for index, split in enumerate(EVALUATED):
            inside = chunk.rows_in(split)
            per_row[split].append(concepts_per_row[inside].int())
            members[split].append(truth.concept_ids[torch.repeat_interleave(inside, concepts_per_row)])
            each = torch.where(inside, concepts_per_row + 1, 0)
            work = torch.repeat_interleave(each, rows.entries_per_row())
            totals[split][0] += torch.bincount(rows.unit_ids[work > 0], minlength=n_units)
            totals[split][1] += torch.bincount(rows.unit_ids, weights=work.double(), minlength=n_units).long()
            numbers = torch.arange(n_rows[split], n_rows[split] + int(inside.sum()), device="cpu")
            tag_of_row[inside] = numbers << 1 | index
            n_rows[split] += len(numbers)
        if max(n_rows.values()) > MOST_ROWS:
            raise ArtifactError(f"There are more than {MOST_ROWS:,} rows in one split. Use fewer examples.")
        tag = torch.repeat_interleave(tag_of_row, rows.entries_per_row())
        mine = tag >= 0
        runs.add(pack_values(rows.unit_ids[mine], rows.values[mine]), tag[mine].int())
    if not seen:
        raise ArtifactError("There are no chunks to align rows in.")
    splits = {
        split: SplitRows(
            truth_sets(
                offsets_of(torch.cat(per_row[split])).to(device), torch.cat(members[split]).to(device), len(concepts)
            ),
            *totals[split],
        )
        for split in EVALUATED
    }
    return GatheredRows(splits, runs, device)


@plain_arithmetic()
def count_per_example(
    chunk: RowChunk,
    units: Int[Tensor, " pairs"],
    concepts: Int[Tensor, " pairs"],
    thresholds: Float[Tensor, " pairs"],
) -> Int[Tensor, "pairs examples 3"]:
    """Return TP, FP and FN rows of chosen pairs in every example of a chunk, int64.

    Rows of an example depend on each other, so an interval of a row figure comes from a bootstrap over examples: these
    counts are resampled and added up. A pair whose threshold is null (NaN) predicts nothing.
    """
    rows, truth = chunk.activations, chunk.truth
    n_pairs, n_examples, n_concepts = len(units), rows.n_examples, len(truth.concepts)
    example_of_row = rows.example_of_row()
    counts = torch.zeros(n_pairs, n_examples, 3, dtype=torch.int64, device="cpu")
    positive_row = truth.row_of_positive()
    positives = positive_row * n_concepts + truth.concept_ids
    cells = torch.bincount(
        example_of_row[positive_row] * n_concepts + truth.concept_ids, minlength=n_examples * n_concepts
    )
    per_concept = cells.view(n_examples, n_concepts).T[concepts]
    pair, entry = entries_of_pairs(rows, units)
    row = rows.row_of_entry()[entry]
    reached = rows.values[entry].double() >= thresholds[pair]
    pair, row = pair[reached], row[reached]
    true = contained(positives, row * n_concepts + concepts[pair])
    cell = pair * n_examples + example_of_row[row]
    for column, chosen in enumerate((true, ~true)):
        counts[..., column] = torch.bincount(cell[chosen], minlength=n_pairs * n_examples).view(n_pairs, n_examples)
    counts[..., 2] = per_concept - counts[..., 0]
    return counts


@plain_arithmetic()
def shared_pixels(
    chunk: RowChunk,
    split: str,
    thresholds: Float[Tensor, "units concepts"],
    entries_at_once: int = ENTRIES_AT_ONCE,
) -> tuple[Int[Tensor, "units concepts"], Int[Tensor, " concepts"]]:
    """Return pixels of a split's patches that show the concept and on which the unit reaches the threshold; and all
    that do.

    Both int64. A threshold that is null (NaN) is reached nowhere.

    Args:
        chunk: whose truth has pixels.
        entries_at_once: bound on pairs of a value and a concept in hand; one row at least.
    """
    rows, truth = chunk.activations, chunk.truth
    offsets, concepts, pixels = truth.cover_offsets, truth.cover_ids, truth.cover_pixels
    if offsets is None or concepts is None or pixels is None:
        raise ArtifactError("The chunk does not say which pixels of its patches show a concept.")
    inside, n_concepts = chunk.rows_in(split), thresholds.shape[1]
    covers, entries = torch.where(inside, offsets.diff(), 0), rows.entries_per_row()
    shown = inside[truth.row_of_cover()]
    area = torch.bincount(concepts[shown], pixels[shown].double(), n_concepts)
    shared = torch.zeros(thresholds.numel(), dtype=torch.float64, device="cpu")  # whole numbers below 2^53
    row_of_entry, least = rows.row_of_entry(), thresholds.flatten()
    for first, stop in cut_blocks(covers * entries, entries_at_once):
        low, high = rows.row_offsets[[first, stop]].tolist()
        row = row_of_entry[low:high]
        cover, entry = spread(offsets[row], covers[row])
        cell = rows.unit_ids[low + entry].long() * n_concepts + concepts[cover]
        reached = rows.values[low + entry].double() >= least[cell]
        shared += torch.bincount(cell[reached], pixels[cover[reached]].double(), len(shared))
    return shared.long().view(thresholds.shape), area.long()


def entries_of_pairs(rows: SparseRows, units: Int[Tensor, " pairs"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return (pair, entry) of every stored value of the pairs' units; pairs may share a unit, or have none (-1)."""
    pairs = (units >= 0).nonzero().flatten()
    pairs = pairs[units[pairs].sort(stable=True).indices]
    counts = torch.bincount(units[pairs], minlength=rows.n_units)
    starts = offsets_of(counts)
    entry = positions((counts > 0).index_select(0, rows.unit_ids))  # few of all
    unit = rows.unit_ids[entry].long()
    position, segment = spread(starts[unit], counts[unit])
    return pairs[position], entry[segment]
