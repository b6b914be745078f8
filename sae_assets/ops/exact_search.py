"""The exact threshold search: per concept the (unit, score) whose F1 on the examples of a split is the largest.

Many truths are searched at once, observed or shuffled (numerics 9). What the pairs are worth on another split stands in
``ops.found_pairs``, what a figure reached by such a search is worth in ``ops.significance``; the grid of tail fractions
has its own rule in ``ops.choice``.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.ops.compiled import Loops, loops_for
from sae_assets.ops.scratch import zeros
from sae_assets.ops.segments import BITS
from sae_assets.ops.sorted_scores import ExampleScores

BLOCK = 8  # scores of a unit whose hits are added up together; at most 15, for two truths share a byte
GROUP = 64  # units whose best hits are looked at together
ROWS_AT_ONCE = 2048  # blocks whose hits stay in the processor's cache
LINE = 128
TRUTHS_TOGETHER = 512  # that a compiled loop searches
LANES = 32  # bytes that a processor adds at once
MOST_NARROW = 2**16 - 1  # positives of a truth from which on 16 bits do not count them
TRUTHS_PER_STEP = 128  # whose hits at a score take as long to add up as a step of other loops takes
CELLS_AT_ONCE = 2**24  # (block, truth) cells in hand, a byte each up to 255 positives and two or four beyond
ENTRIES_AT_ONCE = 2**19  # scores walked together, about 40 bytes each


@dataclass(frozen=True)
class Choices:
    """It holds what a search chose, per truth.

    Attributes:
        units: int64 [n_truths], −1 where no pair has enough support.
        lengths: int64 [n_truths], examples of the split that the pair detects; 0 without a pair.
        hits: int64 [n_truths], true ones among them.
    """

    units: Int[Tensor, " truths"]
    lengths: Int[Tensor, " truths"]
    hits: Int[Tensor, " truths"]

    def f1(self, n_positive: Int[Tensor, " truths"]) -> Float[Tensor, " truths"]:
        """F1 on the split that was searched, float64; 0 without a pair."""
        return 2 * self.hits.double() / (self.lengths + n_positive).clamp(min=1)


class ExactSearch:
    """Finds, for many truths over one split, the unit and the score at which F1 is largest.

    Only a distinct score of a unit can be a threshold: equal scores are detected together, zeros never. Ties of F1:
    higher recall, then the higher threshold, then the lower unit. F1 of a list's first L examples with h hits is
    ``2h / (L + K)``, K the truth's positives, so a unit's scores are sorted once for all truths.

    The search is exhaustive and exact. Hits are added up in blocks of ``BLOCK`` scores; within a block, F1 is at most
    ``2h / (max(h, L₀ + 1) + K)`` with h the hits up to its end and L₀ the scores before it. Only blocks whose bound
    reaches the F1 of the truth's most promising block are walked score by score. A compiled loop goes unit by unit
    instead, and walks blocks whose bound reaches the best F1 so far (``ops.search_kernels``).
    """

    def __init__(self, scores: ExampleScores, *, min_support: int = 1):
        """Sort out the blocks of a split: 9 bytes per score, rounded up to whole blocks.

        Args:
            min_support: true examples that a pair must detect to be chosen.
        """
        self.scores, self.min_support = scores, max(1, min_support)
        device, n_scores = scores.keys.device, len(scores.keys)
        lengths = scores.starts.diff()
        blocks = (lengths + BLOCK - 1) // BLOCK
        by_blocks = blocks.argsort(descending=True, stable=True)
        n_slabs = int(blocks.max()) if len(blocks) else 0
        # Slab j holds block j of every unit that has one, units with most blocks first, filled up to whole groups.
        longer = len(blocks) - torch.bincount(blocks, minlength=n_slabs + 1).cumsum(0)[:n_slabs]
        widths = (longer + GROUP - 1) // GROUP * GROUP
        self._bounds: list[int] = offsets_of(widths).tolist()
        slab = torch.repeat_interleave(torch.arange(n_slabs, device=device), widths)
        column = torch.arange(len(slab), device=device) - offsets_of(widths)[slab]
        unit = by_blocks[column.clamp(max=max(0, len(blocks) - 1))]
        start = scores.starts[unit] + slab * BLOCK
        each = start[:, None] + torch.arange(BLOCK, device=device)
        inside = (each < scores.starts[unit + 1][:, None]) & (column < longer[slab])[:, None]
        # A threshold lies behind the last of equal scores; the keys hold the unit too, so a unit's last one counts.
        last = torch.ones(n_scores, dtype=torch.bool, device=device)
        last[:-1] = scores.keys[1:] != scores.keys[:-1]
        each = each.clamp(max=max(0, n_scores - 1))
        self._unit, self._first, self._n_longer = unit, slab * BLOCK, longer
        self._ends = inside & last[each]
        self._examples = torch.where(inside, scores.example[each], len(scores.labels)).int()
        self._columns = self._examples.T.contiguous()
        # Of one search after another: that the system gives memory anew takes as long as to fill it.
        self._room = torch.empty(0, dtype=torch.uint8, device=device)
        self._steps = 0  # of all searches
        at_once = CELLS_AT_ONCE / max(1, len(slab))  # in whole lines of the processor's cache, two truths to a byte
        self.truths_at_once = max(32, round(at_once / LINE) * LINE)

    def best(
        self,
        truths: Bool[Tensor, "examples truths"],
        reached: Float[Tensor, " truths"] | None = None,
        n_positive: Int[Tensor, " truths"] | None = None,
    ) -> Choices:
        """The best pair for each truth; a truth without positives gets none.

        Args:
            reached: F1 below which nobody asks for a pair of each truth: there may be none then.
            n_positive: true examples of each, if they were counted.
        """
        # Truths with few positives need only the heads of the lists, so alike ones are searched together.
        n_positive = truths.sum(0) if n_positive is None else n_positive
        order = n_positive.argsort(stable=True)
        reached = torch.zeros(len(order), dtype=torch.float64, device=truths.device) if reached is None else reached
        self._steps += self._examples.numel() * len(order) // TRUTHS_PER_STEP
        loops = loops_for(self._steps, truths.device)
        best = partial(self._searched, loops) if loops else self._best
        at_once = TRUTHS_TOGETHER if loops else self.truths_at_once
        parts = [best(_columns(truths, some), n_positive[some], reached[some]) for some in order.split(at_once)]
        columns = zip(*((part.units, part.lengths, part.hits) for part in parts), strict=True)
        return Choices(*(torch.cat(column)[order.argsort()] for column in columns))

    def _searched(
        self,
        loops: Loops,
        truths: Bool[Tensor, "examples truths"],
        n_positive: Int[Tensor, " truths"],
        reached: Float[Tensor, " truths"],
    ) -> Choices:
        """Return what :meth:`_best` does, by a compiled loop."""
        n_truths = truths.shape[1]
        n_more = -n_truths % (2 * LANES)  # without positives, so that the loop need not look where truths end
        chosen = torch.zeros(3, n_truths + n_more, dtype=torch.int64, device="cpu")
        chosen[0] = -1
        if len(self._unit) and n_truths:
            truth = torch.nn.functional.pad(truths.to(torch.uint8), (0, n_more, 0, 1))
            n_positive = torch.nn.functional.pad(n_positive, (0, n_more))
            least = torch.nn.functional.pad(_below(reached).double(), (0, n_more))
            kind = torch.uint16 if int(n_positive.max()) < MOST_NARROW else torch.uint32
            running = torch.empty(n_truths + n_more, dtype=kind, device="cpu")
            bounds = torch.tensor(self._bounds, dtype=torch.int64, device="cpu")
            blocks = _pairs(truth), self._examples, self._ends, self._unit, bounds, self._n_longer
            columns = *blocks, self.scores.keys, self.scores.starts, n_positive, least
            arrays = (column.numpy() for column in columns)
            loops.search.search(*arrays, self.min_support, running.numpy(), chosen.numpy())
        return Choices(*chosen[:, :n_truths])

    def _best(
        self,
        truths: Bool[Tensor, "examples truths"],
        n_positive: Int[Tensor, " truths"],
        reached: Float[Tensor, " truths"],
    ) -> Choices:
        n_truths, device = truths.shape[1], truths.device
        nothing = torch.full((n_truths,), -1, device=device, dtype=torch.int64)
        if not len(self._unit) or not n_truths:
            return Choices(nothing, nothing + 1, nothing + 1)
        truth = torch.nn.functional.pad(truths.to(torch.uint8), (0, n_truths % 2, 0, 1))
        n_positive = torch.nn.functional.pad(n_positive, (0, n_truths % 2))
        least = torch.nn.functional.pad(_below(reached), (0, n_truths % 2))
        running, bound, least = self._running(truth, n_positive, least)
        group, column = ((bound >= least) & (bound > 0)).nonzero(as_tuple=True)
        rows = group[:, None] * GROUP + torch.arange(GROUP, device=device)
        hits = _at(running, rows, column[:, None])
        near = self._bound(hits, self._first[rows], n_positive[column][:, None]) >= least[column][:, None]
        near &= hits >= self.min_support
        which, _ = near.nonzero(as_tuple=True)
        units, lengths, hits_of = self._choose(rows[near], column[which], truth, running, n_positive)
        return Choices(units[:n_truths], lengths[:n_truths], hits_of[:n_truths])

    def _running(
        self,
        truth: Integer[Tensor, "examples_1 truths"],
        n_positive: Int[Tensor, " truths"],
        least: Float[Tensor, " truths"],
    ) -> tuple[Integer[Tensor, "2 rows half"], Float[Tensor, "groups truths"], Float[Tensor, " truths"]]:
        """Hits of a unit up to the end of each of its blocks, bounds of groups, and F1 that a truth surely reaches."""
        pairs, half, device = _pairs(truth), truth.shape[1] // 2, truth.device
        most = int(n_positive.max())
        kind = torch.uint8 if most < 2**8 else torch.int16 if most < 2**15 else torch.int32
        n = 2 * len(self._unit) * half * kind.itemsize
        if len(self._room) < n:
            self._room = zeros(n, dtype=torch.uint8, device=device)
        running = self._room[:n].view(kind).view(2, len(self._unit), half)
        bounds: list[Tensor] = []
        looked, n_slabs = 0, len(self._bounds) - 1
        while looked < n_slabs:
            before, looked = looked, min(n_slabs, max(2, 3 * looked))
            self._add_up(pairs, before, looked, running)
            # F1 of a list of L examples is at most 2K / (L + K): what was reached says where lists may be left.
            start, stop = self._bounds[before], self._bounds[looked]
            groups = _largest(running[:, start:stop].view(2, -1, GROUP, half))
            bounds.append(self._bound(torch.cat([*groups], 1), self._first[start:stop:GROUP, None], n_positive))
            least = torch.maximum(least, self._reached(bounds[-1], start, truth, running, n_positive))
            if not bool((2 * n_positive.float() / (looked * BLOCK + 1 + n_positive).float() >= least).any()):
                break
        return running, torch.cat(bounds), least

    def _add_up(
        self,
        pairs: Integer[Tensor, "examples_1 half"],
        first_slab: int,
        stop_slab: int,
        running: Integer[Tensor, "2 rows half"],
    ) -> None:
        """Fill in the hits of the blocks of some slabs, those of the slab before being there."""
        sums, more = (torch.empty(ROWS_AT_ONCE, pairs.shape[1], dtype=torch.uint8, device=pairs.device) for _ in "ab")
        for slab in range(first_slab, stop_slab):
            start, stop = self._bounds[slab : slab + 2]
            before = self._bounds[slab - 1] - start if slab else 0
            for first in range(start, stop, ROWS_AT_ONCE):
                rows = slice(first, min(stop, first + ROWS_AT_ONCE))
                n = rows.stop - first
                torch.index_select(pairs, 0, self._columns[0, rows], out=sums[:n])
                for column in self._columns[1:]:
                    sums[:n] += torch.index_select(pairs, 0, column[rows], out=more[:n])
                low = torch.bitwise_and(sums[:n], 15, out=more[:n])
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
        return _below(reached.view(-1, 8).amax(1))

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
        """Best F1 of each (block, truth), F1 at each score of it, and the hits up to there; −1 is no threshold."""
        hit = truth.view(-1)[self._examples[rows].long() * truth.shape[1] + column[:, None]].int()
        hits = hit.cumsum(1) + (_at(running, rows, column) - hit.sum(1))[:, None]
        lengths = self._first[rows][:, None] + torch.arange(1, BLOCK + 1, device=rows.device)
        f1 = 2 * hits.double() / (lengths + n_positive[column][:, None])
        f1 = torch.where(self._ends[rows] & (hits >= self.min_support), f1, -1.0)
        return f1.amax(1), f1, hits

    def _choose(
        self,
        rows: Int[Tensor, " n"],
        column: Int[Tensor, " n"],
        truth: Integer[Tensor, "examples_1 truths"],
        running: Integer[Tensor, "2 rows half"],
        n_positive: Int[Tensor, " truths"],
    ) -> tuple[Int[Tensor, " truths"], Int[Tensor, " truths"], Int[Tensor, " truths"]]:
        """Unit, length and hits of the best pair among these blocks, by the rule of ties."""
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
            return units, lengths, hits_of
        truths, row, offset, hits, f1 = (torch.cat(each) for each in zip(*parts, strict=True))
        unit, length = self._unit[row], self._first[row] + offset + 1
        value = self.values(unit, length)
        keep = f1 == best[truths]
        for rank in (hits.double(), value.double(), -unit.double()):
            # Each rule in turn leaves, of every truth, the pairs that are best by it.
            top = torch.full_like(best, -torch.inf)
            top.scatter_reduce_(0, truths[keep], rank[keep], "amax")
            keep &= rank == top[truths]
        units[truths[keep]], lengths[truths[keep]], hits_of[truths[keep]] = unit[keep], length[keep], hits[keep]
        return units, lengths, hits_of

    def values(self, units: Int[Tensor, " n"], lengths: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The thresholds of these pairs, float32: the score at the end of what they detect; NaN without a unit."""
        position = (self.scores.starts[units.clamp(min=0)] + lengths - 1).clamp(min=0)
        bits = 0x7FFFFFFF - (self.scores.keys[position] & (1 << BITS) - 1) if len(self.scores.keys) else position
        return torch.where(units >= 0, bits.int().view(torch.float32), torch.nan)


def _columns(table: Bool[Tensor, "rows columns"], some: Int[Tensor, " some"]) -> Bool[Tensor, "rows some"]:
    """Some columns; on the CPU by numpy, which takes an eighth of torch's time."""
    return torch.from_numpy(table.numpy().take(some.numpy(), 1)) if table.device.type == "cpu" else table[:, some]


def _pairs(truth: Integer[Tensor, "examples_1 truths"]) -> Integer[Tensor, "examples_1 half"]:
    """Two truths in each byte, four bits of one: of the first half and of the second."""
    half = truth.shape[1] // 2
    return truth[:, :half] | truth[:, half:] << 4


def _below(f1: Float[Tensor, " truths"]) -> Float[Tensor, " truths"]:
    """A float32 below these, against which bounds are held; 0 at least."""
    return f1.clamp(min=0).float() * (1 - 1e-6)


def _largest(groups: Integer[Tensor, "2 groups blocks half"]) -> Integer[Tensor, "2 groups half"]:
    """The largest of each group, by halves: torch's own takes up to ten times as long for rows of odd lengths."""
    while (size := groups.shape[2]) > 1:
        groups = torch.maximum(groups[:, :, : size // 2], groups[:, :, size // 2 :])
    return groups[:, :, 0]


def _at(
    running: Integer[Tensor, "2 rows half"], rows: Int[Tensor, "*n"], column: Int[Tensor, "*#n"]
) -> Int[Tensor, "*n"]:
    """Hits of these blocks under these truths, whose halves lie one behind the other; int64."""
    _, n_rows, half = running.shape
    return running.view(-1)[(column // half * n_rows + rows) * half + column % half].long()
