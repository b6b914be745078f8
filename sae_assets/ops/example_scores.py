"""Scores of examples: an example's largest activation of a unit over its rows, or another of ``ops.pooling``.

Gathered here, in one pass over the chunks. They stay sparse and are sorted once per unit (``ops.sorted_scores``).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import Loops, loops_for
from sae_assets.ops.key_runs import KeyRuns
from sae_assets.ops.pooling import MAXIMUM, Pooling, pool_rows
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import ScratchColumn
from sae_assets.ops.segments import BITS, cut_blocks, pack_descending, positions, sort_tagged
from sae_assets.ops.sorted_scores import EVALUATED, SCORES_ENOUGH, ExampleScores

ENTRIES_AT_ONCE = 2**17  # whose largest values are looked for together
SCORE_BYTES = 64  # of a score while it is put in order


@dataclass(frozen=True)
class LabelledChunk:
    """A chunk's activations, filtered or not, with its examples' splits and labels."""

    activations: SparseRows
    splits: tuple[str, ...]
    labels: Bool[Tensor, "examples concepts"]


class GatheredScores:
    """Example scores of cal and test, of chunks that were gone through once.

    Attributes:
        labels: by split bool [n_examples, n_concepts], the example-level truth.
    """

    def __init__(
        self,
        runs: KeyRuns,
        counts: Int[Tensor, "2 units"],
        labels: dict[str, Bool[Tensor, "examples concepts"]],
        device: torch.device | str,
    ):
        """
        Args:
            runs: keys of ``pack_descending``, tagged with the position of the example within its split, and which that
                is; counts: of each split and unit.
        """
        self.labels, self._runs, self._counts, self._device = labels, runs, counts, device

    def blocks(self) -> "Iterator[tuple[int, dict[str, ExampleScores]]]":
        """Return the first of some units, and their scores, units numbered from 0: so many units as there is memory
        for.

        In the order of the units, once only.
        """
        for first, keys, tags, starts in self.tagged():
            counts = self._counts[:, first : first + len(starts) - 1]
            scores = {}
            for number, split in enumerate(EVALUATED):
                mine = positions(tags & 1 == number)
                starts = offsets_of(counts[number]).to(self._device)
                example = (tags.index_select(0, mine) >> 1).long()
                scores[split] = ExampleScores(keys.index_select(0, mine), starts, example, self.labels[split])
                del mine, example
            del keys, tags
            yield first, scores
            del scores

    def tagged(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Yield the same, of both splits together: the first unit, keys, tags and the run of each unit.

        By example where unit and value are the same. A tag is twice the position of the example within its split, plus
        the number of that in ``EVALUATED``.
        """
        for block in self._runs.blocks(self._counts.sum(0)):
            keys, tags = sort_tagged(block.keys.to(self._device), block.tags.to(self._device))
            first, starts = block.start, offsets_of(self._counts[:, block.start : block.stop].sum(0)).to(self._device)
            del block
            yield first, keys, tags, starts
            del keys, tags, starts

    @plain_arithmetic()
    def whole(self) -> dict[str, ExampleScores]:
        """Return all of them, 16 bytes each: on the CPU in files, from which the system reads what it has no room to
        hold."""
        sizes = self._counts.sum(1).tolist()
        columns = [[ScratchColumn(n, torch.int64, self._device) for _ in range(2)] for n in sizes]
        for first, scores in self.blocks():
            for (keys, example), part in zip(columns, scores.values(), strict=True):
                keys.append(part.keys + (first << BITS))
                example.append(part.example)
            del part, scores  # before the next ones
        return {
            split: ExampleScores(keys.tensor(), offsets_of(n).to(self._device), example.tensor(), self.labels[split])
            for split, (keys, example), n in zip(EVALUATED, columns, self._counts, strict=True)
        }


@plain_arithmetic()
def gather_scores(
    chunks: Iterable[LabelledChunk],
    *,
    n_units: int,
    pooling: Pooling = MAXIMUM,
    device: torch.device | str = "cpu",
    memory_budget: int = 256 * 2**20,
) -> GatheredScores:
    """Return example scores of the calibration and the test split, in one pass over the chunks.

    Args:
        memory_budget: bytes for scores while they are put in order, ``SCORE_BYTES`` each, beside one chunk; what does
            not fit, or is more than ``SCORES_ENOUGH``, goes through a temporary file. At least one unit's are held.

    Raises:
        ArtifactError: no chunks, a chunk of another width, or with other numbers of examples, splits or concepts.
    """
    most = memory_budget // SCORE_BYTES
    runs = KeyRuns(min(most, SCORES_ENOUGH) if torch.device(device).type == "cpu" else most)
    # Tensors of their own, which stay, between those of chunks, which go, would leave memory in pieces.
    labels = [bytearray() for _ in EVALUATED]
    counts = torch.zeros(len(EVALUATED), n_units, dtype=torch.int64, device="cpu")
    n_examples, n_concepts, n_entries = [0] * len(EVALUATED), None, 0
    for chunk in chunks:
        rows = chunk.activations
        if n_concepts not in (None, chunk.labels.shape[1]):
            raise ArtifactError(f"A chunk is labelled with {chunk.labels.shape[1]} concepts, others with {n_concepts}.")
        n_concepts = chunk.labels.shape[1]
        if rows.n_units != n_units or rows.n_examples != len(chunk.splits):
            raise ArtifactError(
                f"A chunk has {rows.n_units} units and {rows.n_examples} examples, expected {n_units} units and "
                f"{len(chunk.splits)} examples."
            )
        tag_of_example = torch.full((rows.n_examples,), -1, dtype=torch.int32, device="cpu")
        for number, split in enumerate(EVALUATED):
            inside = torch.tensor([name == split for name in chunk.splits], dtype=torch.bool, device="cpu")
            position = inside.cumsum(0, dtype=torch.int32) - 1 + n_examples[number]
            tag_of_example[inside] = (position << 1 | number)[inside]
            labels[number] += chunk.labels[inside].cpu().numpy().tobytes()
            n_examples[number] += int(inside.sum())
        n_entries += rows.n_entries
        loops = loops_for(n_entries, device) if pooling.name == "max" else None
        if loops:
            _add_largest(rows, tag_of_example, counts, runs, loops)
        else:
            runs.add(*_pooled(rows, tag_of_example, counts, pooling, device))
    if n_concepts is None:
        raise ArtifactError("There are no chunks to detect in.")
    truth = {}
    for split, content, n in zip(EVALUATED, labels, n_examples, strict=True):
        table = torch.frombuffer(content or bytearray(1), dtype=torch.bool)  # which takes nothing that is empty
        truth[split] = table[: n * n_concepts].view(n, n_concepts).to(device)
    return GatheredScores(runs, counts, truth, device)


def _pooled(
    rows: SparseRows,
    tag_of_example: Int[Tensor, " examples"],
    counts: Int[Tensor, "2 units"],
    pooling: Pooling,
    device: torch.device | str,
) -> tuple[Int[Tensor, " scores"], Int[Tensor, " scores"]]:
    """Return keys and tags of the scores of examples that have a tag, which are counted by split and unit."""
    unit, value, example = (column.cpu() for column in pool_rows(rows, pooling, device))
    tag = tag_of_example[example]
    inside = tag >= 0
    unit, tag = unit[inside], tag[inside]
    counts += torch.bincount((tag & 1) * counts.shape[1] + unit, minlength=counts.numel()).view_as(counts)
    return pack_descending(unit, value[inside]), tag


def _add_largest(
    rows: SparseRows,
    tag_of_example: Int[Tensor, " examples"],
    counts: Int[Tensor, "2 units"],
    runs: KeyRuns,
    loops: Loops,
) -> None:
    """The same of the maximum, which are added, some examples at a time, by a compiled loop."""
    ends = rows.row_offsets[rows.example_offsets]
    for start, stop in cut_blocks(ends.diff(), ENTRIES_AT_ONCE):
        n = int(ends[stop] - ends[start])
        room = runs.room(n, tagged=True)
        keys, tags = room or (torch.empty(n, dtype=each, device="cpu") for each in (torch.int64, torch.int32))
        columns = rows.row_offsets, rows.unit_ids, rows.values.view(torch.int32), tag_of_example[start:stop]
        n = loops.detection.gather_largest(
            *(column.numpy() for column in (rows.example_offsets[start : stop + 1], *columns, keys, tags, counts))
        )
        if room:
            runs.filled(int(n))
        else:
            runs.add(keys[:n], tags[:n])


def score_examples(chunks: Iterable[LabelledChunk], **how: Any) -> dict[str, ExampleScores]:
    """Return all example scores of both splits at once. Arguments and errors: as :func:`gather_scores`."""
    return gather_scores(chunks, **how).whole()
