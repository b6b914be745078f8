"""The exact search by torch: hits of all blocks first, then the scores of those that may hold the best pair."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from sae_assets.ops.scratch import zeros
from sae_assets.ops.search_blocks import BLOCK, GROUP, Blocks, lower_float32, packed_truths

ROWS_AT_ONCE = 2048  # blocks whose hits stay in the processor's cache
LINE = 128
CELLS_AT_ONCE = 2**24  # (block, truth) cells in hand, a byte each up to 255 positives and two or four beyond
ENTRIES_AT_ONCE = 2**19  # scores walked together, about 40 bytes each


@dataclass(frozen=True)
class Choices:
    """Each truth gets the best pair of a unit and a length, the number of its examples that count as detected.

    Attributes:
        units: int64 [n_truths], −1 where no pair has enough support.
        lengths: int64 [n_truths], examples of the split that the pair detects; 0 without a pair.
        hits: int64 [n_truths], true ones among them.
    """

    units: Int[Tensor, " truths"]
    lengths: Int[Tensor, " truths"]
    hits: Int[Tensor, " truths"]

    def f1(self, n_positive: Int[Tensor, " truths"]) -> Float[Tensor, " truths"]:
        """Return F1 on the split that was searched, float64; 0 without a pair."""
        return 2 * self.hits.double() / (self.lengths + n_positive).clamp(min=1)


class BlockSearch:
    """Finds the pairs of ``ops.exact_search``.

    Hits are added up in blocks; within a block, F1 is at most ``2h / (max(h, L₀ + 1) + K)`` with h the hits up to its
    end and L₀ the scores before it. Only blocks whose bound reaches the F1 of the truth's most promising block are
    walked score by score. Examples of blocks are held in another order too, 4 bytes per score.
    """

    def __init__(self, blocks: Blocks, min_support: int):
        self.blocks, self.min_support = blocks, min_support
        self._columns = blocks.examples.T.contiguous()
        # Of one search after another: that the system gives memory anew takes as long as to fill it.
        self._room = torch.empty(0, dtype=torch.uint8, device=blocks.examples.device)
        at_once = CELLS_AT_ONCE / max(1, len(blocks))  # in whole lines of the processor's cache, two truths to a byte
        self.truths_at_once = max(32, round(at_once / LINE) * LINE)

    def best(
        self,
        truths: Bool[Tensor, "examples truths"],
        n_positive: Int[Tensor, " truths"],
        reached: Float[Tensor, " truths"],
    ) -> Choices:
        """Return unit, length and hits of each truth's best pair.

        Args:
            n_positive, reached: as ``ExactSearch.best`` takes them.
        """
        n_truths, device = truths.shape[1], truths.device
        nothing = torch.full((n_truths,), -1, device=device, dtype=torch.int64)
        if not len(self.blocks) or not n_truths:
            return Choices(nothing, nothing + 1, nothing + 1)
        truth = torch.nn.functional.pad(truths.to(torch.uint8), (0, n_truths % 2, 0, 1))
        n_positive = torch.nn.functional.pad(n_positive, (0, n_truths % 2))
        least = torch.nn.functional.pad(lower_float32(reached), (0, n_truths % 2))
        running, bound, least = self._running(truth, n_positive, least)
        group, column = ((bound >= least) & (bound > 0)).nonzero(as_tuple=True)
        rows = group[:, None] * GROUP + torch.arange(GROUP, device=device)
        hits = _at(running, rows, column[:, None])
        near = self._bound(hits, self.blocks.first[rows], n_positive[column][:, None]) >= least[column][:, None]
        near &= hits >= self.min_support
        which, _ = near.nonzero(as_tuple=True)
        best = self._choose(rows[near], column[which], truth, running, n_positive)
        return Choices(best.units[:n_truths], best.lengths[:n_truths], best.hits[:n_truths])

    def _running(
        self,
        truth: Integer[Tensor, "examples_1 truths"],
        n_positive: Int[Tensor, " truths"],
        least: Float[Tensor, " truths"],
    ) -> tuple[Integer[Tensor, "2 rows half"], Float[Tensor, "groups truths"], Float[Tensor, " truths"]]:
        """Return hits of a unit up to the end of each of its blocks, bounds of groups, and F1 that a truth surely
        reaches."""
        packed, half, device = packed_truths(truth), truth.shape[1] // 2, truth.device
        most = int(n_positive.max())
        kind = torch.uint8 if most < 2**8 else torch.int16 if most < 2**15 else torch.int32
        n = 2 * len(self.blocks) * half * kind.itemsize
        if len(self._room) < n:
            self._room = zeros(n, dtype=torch.uint8, device=device)
        running = self._room[:n].view(kind).view(2, len(self.blocks), half)
        bounds: list[Tensor] = []
        looked, n_slabs = 0, len(self.blocks.bounds) - 1
        while looked < n_slabs:
            before, looked = looked, min(n_slabs, max(2, 3 * looked))
            self._add_up(packed, before, looked, running)
            # F1 of a list of L examples is at most 2K / (L + K): what was reached says where lists may be left.
            start, stop = self.blocks.bounds[before], self.blocks.bounds[looked]
            groups = _largest(running[:, start:stop].view(2, -1, GROUP, half))
            bounds.append(self._bound(torch.cat([*groups], 1), self.blocks.first[start:stop:GROUP, None], n_positive))
            least = torch.maximum(least, self._reached(bounds[-1], start, truth, running, n_positive))
            if not bool((2 * n_positive.float() / (looked * BLOCK + 1 + n_positive).float() >= least).any()):
                break
        return running, torch.cat(bounds), least

    def _add_up(
        self,
        packed: Integer[Tensor, "examples_1 half"],
        first_slab: int,
        stop_slab: int,
        running: Integer[Tensor, "2 rows half"],
    ) -> None:
        """Fill in the hits of the blocks of some slabs, those of the slab before being there."""
        sums, products = (
            torch.empty(ROWS_AT_ONCE, packed.shape[1], dtype=torch.uint8, device=packed.device) for _ in "ab"
        )
        for slab in range(first_slab, stop_slab):
            start, stop = self.blocks.bounds[slab : slab + 2]
            before = self.blocks.bounds[slab - 1] - start if slab else 0
            for first in range(start, stop, ROWS_AT_ONCE):
                rows = slice(first, min(stop, first + ROWS_AT_ONCE))
                n = rows.stop - first
                torch.index_select(packed, 0, self._columns[0, rows], out=sums[:n])
                for column in self._columns[1:]:
                    sums[:n] += torch.index_select(packed, 0, column[rows], out=products[:n])
                low = torch.bitwise_and(sums[:n], 15, out=products[:n])
                for number, hits in enumerate((low, sums[:n].bitwise_right_shift_(4))):
                    if slab:
                        torch.add(hits, running[number, first + before : rows.stop + before], out=running[number, rows])
                    else:
                        running[number, rows] = hits

    def _reached(
        self,
        bound: Float[Tensor, "groups truths"],
        start: int,
        truth: Integer[Tensor, "examples_1 truths"],
        running: Integer[Tensor, "2 rows half"],
        n_positive: Int[Tensor, " truths"],
    ) -> Float[Tensor, " truths"]:
        """Return what each truth reaches in the most promising of these groups, a float32 below it."""
        every = torch.arange(len(n_positive), device=bound.device)
        rows = start + bound.argmax(0)[:, None] * GROUP + torch.arange(GROUP, device=bound.device)
        # The eight with most hits are enough to try: any F1 that is reached will do.
        rows = rows.gather(1, _at(running, rows, every[:, None]).int().topk(8, 1).indices)
        reached = self._walk(rows.flatten(), every.repeat_interleave(8), truth, running, n_positive)[0]
        return lower_float32(reached.view(-1, 8).amax(1))

    def _bound(self, hits: Shaped[Tensor, "*n"], first: Int[Tensor, "*#n"], n_positive: Int[Tensor, "*#n"]) -> Tensor:
        """Return what F1 can be within a block, float32; 0 where support lacks."""
        count = hits.float()
        bound = 2 * count / (torch.maximum(count, (first + 1).float()) + n_positive)
        return torch.where(hits >= self.min_support, bound, 0.0)

    def _walk(
        self,
        rows: Int[Tensor, " n"],
        column: Int[Tensor, " n"],
        truth: Integer[Tensor, "examples_1 truths"],
        running: Integer[Tensor, "2 rows half"],
        n_positive: Int[Tensor, " truths"],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n block"], Int[Tensor, "n block"]]:
        """Return best F1 of each (block, truth), F1 at each score of it, and the hits up to there; −1 is no
        threshold."""
        hit = truth.view(-1)[self.blocks.examples[rows].long() * truth.shape[1] + column[:, None]].int()
        hits = hit.cumsum(1) + (_at(running, rows, column) - hit.sum(1))[:, None]
        lengths = self.blocks.first[rows][:, None] + torch.arange(1, BLOCK + 1, device=rows.device)
        f1 = 2 * hits.double() / (lengths + n_positive[column][:, None])
        f1 = torch.where(self.blocks.ends[rows] & (hits >= self.min_support), f1, -1.0)
        return f1.amax(1), f1, hits

    def _choose(
        self,
        rows: Int[Tensor, " n"],
        column: Int[Tensor, " n"],
        truth: Integer[Tensor, "examples_1 truths"],
        running: Integer[Tensor, "2 rows half"],
        n_positive: Int[Tensor, " truths"],
    ) -> Choices:
        """Return unit, length and hits of the best pair among these blocks, by the rule of ties."""
        best = torch.zeros(len(n_positive), dtype=torch.float64, device=rows.device)
        parts = []
        at_once = ENTRIES_AT_ONCE // BLOCK
        for some, truths in zip(rows.split(at_once), column.split(at_once), strict=True):
            top, f1, hits = self._walk(some, truths, truth, running, n_positive)
            best.scatter_reduce_(0, truths, top, "amax")
            row, offset = ((f1 == best[truths][:, None]) & (f1 > 0)).nonzero(as_tuple=True)
            parts.append((truths[row], some[row], offset, hits[row, offset].long(), f1[row, offset]))
        units, lengths, hits_of = (torch.full_like(n_positive, fill) for fill in (-1, 0, 0))
        if not parts:
            return Choices(units, lengths, hits_of)
        truths, row, offset, hits, f1 = (torch.cat(each) for each in zip(*parts, strict=True))
        unit, length = self.blocks.unit[row], self.blocks.first[row] + offset + 1
        value = self.blocks.scores.values_at(unit, length)
        keep = f1 == best[truths]
        for rank in (hits.double(), value.double(), -unit.double()):
            # Each rule in turn leaves, of every truth, the pairs that are best by it.
            top = torch.full_like(best, -torch.inf)
            top.scatter_reduce_(0, truths[keep], rank[keep], "amax")
            keep &= rank == top[truths]
        units[truths[keep]], lengths[truths[keep]], hits_of[truths[keep]] = unit[keep], length[keep], hits[keep]
        return Choices(units, lengths, hits_of)


def _largest(groups: Integer[Tensor, "2 groups blocks half"]) -> Integer[Tensor, "2 groups half"]:
    """Return the largest of each group, by halves: torch's own takes up to ten times as long for rows of odd
    lengths."""
    while (size := groups.shape[2]) > 1:
        groups = torch.maximum(groups[:, :, : size // 2], groups[:, :, size // 2 :])
    return groups[:, :, 0]


def _at(
    running: Integer[Tensor, "2 rows half"], rows: Int[Tensor, "*n"], column: Int[Tensor, "*#n"]
) -> Int[Tensor, "*n"]:
    """Return hits of these blocks under these truths, whose halves lie one behind the other; int64."""
    _, n_rows, half = running.shape
    return running.view(-1)[(column // half * n_rows + rows) * half + column % half].long()
