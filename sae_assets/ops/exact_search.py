"""The exact threshold search: per concept the (unit, score) whose F1 on the examples of a split is the largest.

Many truths are searched at once, observed or shuffled (numerics 9). What the pairs are worth on another split stands
in ``ops.concept_pairs``, what a figure reached by such a search is worth in ``ops.significance``; the grid of tail
fractions has its own rule in ``ops.choice``.
"""

from functools import cached_property, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.block_search import BlockSearch, Choices
from sae_assets.ops.compiled import Loops, loops_for
from sae_assets.ops.search_blocks import Blocks, lower_float32, packed_truths
from sae_assets.ops.sorted_scores import ExampleScores

TRUTHS_TOGETHER = 512  # that a compiled loop searches
LANES = 32  # bytes that a processor adds at once
MOST_NARROW = 2**16 - 1  # positives of a truth from which on 16 bits do not count them
TRUTHS_PER_STEP = 128  # whose hits at a score take as long to add up as a step of other loops takes


class ExactSearch:
    """Finds, for many truths over one split, the unit and the score at which F1 is largest.

    Only a distinct score of a unit can be a threshold: equal scores are detected together, zeros never. Ties of F1:
    higher recall, then the higher threshold, then the lower unit. F1 of a list's first L examples with h hits is
    ``2h / (L + K)``, K the truth's positives, so a unit's scores are sorted once for all truths.

    The search is exhaustive and exact, by torch's operations (``ops.block_search``) or by a compiled loop, which goes
    unit by unit and walks blocks whose bound reaches the best F1 so far (``ops.search_kernels``).
    """

    def __init__(self, scores: ExampleScores, *, min_support: int = 1):
        """Sort out the blocks of a split.

        Args:
            min_support: true examples that a pair must detect to be chosen.
        """
        self.scores, self.min_support = scores, max(1, min_support)
        self._blocks = Blocks(scores)
        self._steps = 0  # of all searches

    @cached_property
    def by_torch(self) -> BlockSearch:
        """Return what searches where no loop does."""
        return BlockSearch(self._blocks, self.min_support)

    def best(
        self,
        truths: Bool[Tensor, "examples truths"],
        reached: Float[Tensor, " truths"] | None = None,
        n_positive: Int[Tensor, " truths"] | None = None,
    ) -> Choices:
        """Return the best pair for each truth; a truth without positives gets none.

        Args:
            reached: F1 below which nobody asks for a pair of each truth: there may be none then.
            n_positive: true examples of each, if they were counted.
        """
        # Truths with few positives need only the heads of the lists, so alike ones are searched together.
        n_positive = truths.sum(0) if n_positive is None else n_positive
        order = n_positive.argsort(stable=True)
        reached = torch.zeros(len(order), dtype=torch.float64, device=truths.device) if reached is None else reached
        self._steps += self._blocks.examples.numel() * len(order) // TRUTHS_PER_STEP
        loops = loops_for(self._steps, truths.device)
        best = partial(self._by_loop, loops) if loops else self.by_torch.best
        at_once = TRUTHS_TOGETHER if loops else self.by_torch.truths_at_once
        parts = [best(_columns(truths, some), n_positive[some], reached[some]) for some in order.split(at_once)]
        columns = zip(*((part.units, part.lengths, part.hits) for part in parts), strict=True)
        return Choices(*(torch.cat(column)[order.argsort()] for column in columns))

    def _by_loop(
        self,
        loops: Loops,
        truths: Bool[Tensor, "examples truths"],
        n_positive: Int[Tensor, " truths"],
        reached: Float[Tensor, " truths"],
    ) -> Choices:
        """Return what :meth:`BlockSearch.best` does, by a compiled loop."""
        n_truths = truths.shape[1]
        n_more = -n_truths % (2 * LANES)  # without positives, so that the loop need not look where truths end
        chosen = torch.zeros(3, n_truths + n_more, dtype=torch.int64, device="cpu")
        chosen[0] = -1
        if len(self._blocks) and n_truths:
            truth = torch.nn.functional.pad(truths.to(torch.uint8), (0, n_more, 0, 1))
            n_positive = torch.nn.functional.pad(n_positive, (0, n_more))
            least = torch.nn.functional.pad(lower_float32(reached).double(), (0, n_more))
            kind = torch.uint16 if int(n_positive.max()) < MOST_NARROW else torch.uint32
            running = torch.empty(n_truths + n_more, dtype=kind, device="cpu")
            blocks = self._blocks
            bounds = torch.tensor(blocks.bounds, dtype=torch.int64, device="cpu")
            of_blocks = packed_truths(truth), blocks.examples, blocks.ends, blocks.unit, bounds, blocks.n_longer
            columns = *of_blocks, self.scores.keys, self.scores.starts, n_positive, least
            arrays = (column.numpy() for column in columns)
            loops.search.search(*arrays, self.min_support, running.numpy(), chosen.numpy())
        return Choices(*chosen[:, :n_truths])


def _columns(table: Bool[Tensor, "rows columns"], some: Int[Tensor, " some"]) -> Bool[Tensor, "rows some"]:
    """Return some columns; on the CPU by numpy, which takes an eighth of torch's time."""
    return torch.from_numpy(table.numpy().take(some.numpy(), 1)) if table.device.type == "cpu" else table[:, some]
