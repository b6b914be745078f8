"""Scores of examples in the order in which thresholds are counted: by unit, largest first, so that what a threshold
detects is the head of a segment. How they are gathered from activations: ``ops.example_scores``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.scratch import let_go
from sae_assets.ops.segments import (
    BITS,
    LARGEST,
    cut_blocks,
    pack_descending,
    positions,
    sort_tagged,
    unpack_descending,
)

EVALUATED = ("cal", "test")
CELLS_SIDE_BY_SIDE = 2**21  # of a table of some units' scores, 4 bytes each
SCORES_ENOUGH = 2**20  # that are put in order together on the CPU: with more nothing is faster


@dataclass(frozen=True)
class ExampleScores:
    """The score of each (unit, example) of one split that has one, sorted by unit, then value descending.

    Attributes:
        keys: int64 [n_scores], (unit, value) packed as ``pack_descending`` does.
        starts: int64 [n_units + 1], segment of each unit.
        example: int64 [n_scores], position of the example within the split.
        labels: bool [n_examples, n_concepts], the split's example-level truth.
    """

    keys: Int[Tensor, " scores"]
    starts: Int[Tensor, " units_plus_1"]
    example: Int[Tensor, " scores"]
    labels: Bool[Tensor, "examples concepts"]

    def places(self, thresholds: Float[Tensor, "units fractions"]) -> Int[Tensor, "units fractions"]:
        """End (exclusive) of the scores ≥ threshold in each unit's segment; the segment's start where it is null."""
        if self._side_by_side is not None:
            search_keys = _keys(self.starts.new_zeros(()), thresholds).clamp(max=LARGEST - 1).int()
            return torch.searchsorted(self._side_by_side, search_keys, right=True) + self.starts[:-1, None]
        keys = _keys(torch.arange(len(thresholds), device=self.keys.device)[:, None], thresholds).flatten()
        if keys.device.type != "cpu" or bool((keys[1:] < keys[:-1]).any()):
            return torch.searchsorted(self.keys, keys, right=True).view_as(thresholds)
        # Two sorted segments merge in a third of the time that a search per threshold takes; equal scores come first.
        merged = torch.cat([self.keys << 1, keys << 1 | 1])
        merged.numpy().sort(kind="stable")
        ends = positions((merged & 1).bool()) - torch.arange(len(keys), device="cpu")
        return ends.view_as(thresholds)

    @cached_property
    def _side_by_side(self) -> Int[Tensor, "units longest"] | None:
        """Return keys without their units, int32, filled up with the largest; None where that would take much more
        memory.

        A search in a short segment of one's own is several times as fast as one among all segments.
        """
        if self.keys.device.type != "cpu" or not len(self.keys):
            return None
        lengths = self.starts.diff()
        longest = int(lengths.max())
        if len(lengths) * longest > CELLS_SIDE_BY_SIDE:
            return None
        table = torch.full((len(lengths), longest), LARGEST, dtype=torch.int32, device="cpu")
        table[torch.arange(longest, device="cpu") < lengths[:, None]] = (self.keys & LARGEST).int()
        return table

    def stops(self, units: Int[Tensor, "*n"], thresholds: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """End (exclusive) of the scores ≥ threshold in segments of these units; a segment's start where it is null."""
        return torch.searchsorted(self.keys, _keys(units, thresholds), right=True)

    def values_at(self, units: Int[Tensor, " n"], lengths: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the scores at the end of the first so many of units, float32; NaN without a unit, which is −1."""
        position = (self.starts[units.clamp(min=0)] + lengths - 1).clamp(min=0)
        bits = 0x7FFFFFFF - (self.keys[position] & (1 << BITS) - 1) if len(self.keys) else position
        return torch.where(units >= 0, bits.int().view(torch.float32), torch.nan)

    def some_units(self, at_once: int) -> "Iterator[tuple[int, ExampleScores]]":
        """Yield what :func:`some_units_of` does, of this split alone."""
        for start, (part,) in some_units_of((self,), at_once):
            yield start, part

    def of_units(self, units: Int[Tensor, " kept"]) -> "ExampleScores":
        """Return the scores of these units alone, ascending ids, renumbered by their position."""
        device, units = self.keys.device, units.to(self.keys.device)
        counts = self.starts.diff()[units]
        starts, position = offsets_of(counts), torch.arange(len(units), device=device).repeat_interleave(counts)
        index = torch.arange(len(position), device=device) + (self.starts[units] - starts[:-1])[position]
        # Ids ascend as their positions do, so what is left is sorted.
        keys = self.keys[index] - (units[position] - position << BITS)
        return ExampleScores(keys, starts, self.example[index], self.labels)

    def of_examples(self, examples: Bool[Tensor, " examples"]) -> "ExampleScores":
        """Return the scores of these examples alone, renumbered by their position among them."""
        inside, unit = examples[self.example], self.keys >> BITS
        counts = torch.bincount(unit[inside], minlength=len(self.starts) - 1)
        position = (examples.long().cumsum(0) - 1)[self.example[inside]]
        return ExampleScores(self.keys[inside], offsets_of(counts), position, self.labels[examples])

    def positives(self, places: Int[Tensor, "units fractions"], truth: Bool[Tensor, "*b examples"]) -> Tensor:
        """Return detected examples that are true: int32 [*b, n_units, n_fractions] for truths [*b, n_examples]."""
        hits = torch.zeros(*truth.shape[:-1], len(self.example) + 1, dtype=torch.int32, device=truth.device)
        hits[..., 1:] = truth.to(torch.uint8).index_select(-1, self.example).cumsum(-1, dtype=torch.int32)
        before, until = (hits.index_select(-1, each.flatten()) for each in (self.starts[:-1], places))
        return until.view(*truth.shape[:-1], *places.shape) - before[..., None]

    def sums(
        self, places: Int[Tensor, "units fractions"], weights: Float[Tensor, "examples columns"]
    ) -> Float[Tensor, "units fractions columns"]:
        """Return weights of the detected examples, added up per column: what many truths need at once.

        ``weights`` are float32 whole numbers that sum to less than 2^24, so that every sum is exact in any order.
        Places must not fall along a unit's fractions, as those of thresholds do not.
        """
        bounds = torch.cat([self.starts[:-1, None], places], 1)  # the last bag of a unit is what no fraction detects
        bags = torch.nn.functional.embedding_bag(self.example, weights, bounds.flatten(), mode="sum")
        return bags.view(*bounds.shape, -1)[:, :-1].cumsum(1)

    def hits(
        self, units: Int[Tensor, " draws"], stops: Int[Tensor, " draws"], truth: Bool[Tensor, "examples draws"]
    ) -> Int[Tensor, " draws"]:
        """True examples among those that a unit detects, per draw of a unit, an end of its segment, and a truth."""
        lengths = stops - self.starts[units]
        draw = torch.repeat_interleave(torch.arange(len(units), device=lengths.device), lengths)
        position = torch.arange(len(draw), device=lengths.device) + (stops - lengths.cumsum(0))[draw]
        return torch.bincount(draw[truth[self.example[position], draw]], minlength=len(units))

    def detected(self, unit: int, threshold: float) -> Bool[Tensor, " examples"]:
        """Return which examples this unit detects at this threshold."""
        segment = slice(int(self.starts[unit]), int(self.starts[unit + 1]))
        _, values = unpack_descending(self.keys[segment])
        mask = torch.zeros(len(self.labels), dtype=torch.bool, device=self.keys.device)
        mask[self.example[segment][values.double() >= threshold]] = True
        return mask


def some_units_of(splits: Sequence[ExampleScores], at_once: int) -> Iterator[tuple[int, tuple[ExampleScores, ...]]]:
    """Yield the first of some units, and their scores on each of these splits, units numbered from 0.

    Scores that lie in a file take no memory when others have come.

    Args:
        at_once: scores of these units, on all the splits; on a GPU all units come together.
    """
    counts = torch.stack([split.starts.diff() for split in splits]).sum(0)
    on_cpu = counts.device.type == "cpu"
    for start, stop in cut_blocks(counts, at_once if on_cpu else max(1, int(counts.sum()))):
        parts = []
        for split in splits:
            segment = slice(int(split.starts[start]), int(split.starts[stop]))
            starts = split.starts[start : stop + 1] - segment.start
            parts.append(
                ExampleScores(split.keys[segment] - (start << BITS), starts, split.example[segment], split.labels)
            )
        yield start, tuple(parts)
        del parts
        for split in splits:
            let_go(split.keys, split.example)


def tagged(scores: dict[str, ExampleScores]) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yield scores of both splits together, some units at a time, as :meth:`GatheredScores.tagged` gives them."""
    splits = [scores[split] for split in EVALUATED]
    for first, parts in some_units_of(splits, SCORES_ENOUGH):
        tags = torch.cat([part.example.int() << 1 | number for number, part in enumerate(parts)])
        keys, tags = sort_tagged(torch.cat([part.keys for part in parts]), tags)
        yield first, keys, tags, sum((part.starts for part in parts), torch.zeros_like(parts[0].starts))
        del parts, keys, tags


def _keys(units: Int[Tensor, "*#n"], thresholds: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Return keys as of scores, before which all scores of the unit that reach the threshold lie, and none where it is
    null.

    Scores are float32: score ≥ t exactly when score ≥ the smallest float32 that is ≥ t.
    """
    rounded = thresholds.nan_to_num(torch.inf, posinf=torch.inf).float()
    bits = rounded.view(torch.int32) + (rounded.double() < thresholds)
    return units << BITS | LARGEST - bits.long()


def sort_scores(
    units: Int[Tensor, " scores"],
    values: Float[Tensor, " scores"],
    examples: Int[Tensor, " scores"],
    labels: Bool[Tensor, "examples concepts"],
    n_units: int,
) -> ExampleScores:
    """Return scores of one split from (unit, value, example) in any order; values float32 and > 0, each pair once."""
    order = pack_descending(units, values).sort(stable=True)
    return ExampleScores(
        keys=order.values,
        starts=offsets_of(torch.bincount(units, minlength=n_units)),
        example=examples[order.indices],
        labels=labels,
    )


def example_scores(
    unit: Int[Tensor, " scores"],
    example: Int[Tensor, " scores"],
    value: Float[Tensor, " scores"],
    labels: Bool[Tensor, "examples concepts"],
    *,
    n_units: int,
) -> ExampleScores:
    """Return sorted scores of one split from (unit, example, score) triples in any order; an absent pair scores 0.

    Args:
        unit: 0 to ``n_units`` − 1. example: row of ``labels``. value: > 0 as float32, in the unit's own scale.

    Raises:
        ArtifactError: a score that is not a positive finite number, an id out of range, or a pair that comes twice.
    """
    n_examples, value = len(labels), value.float()  # of which a small or a large one is 0 or infinite
    problems = []
    if not bool((value.isfinite() & (value > 0)).all()):
        problems.append("scores must be positive and finite; leave out what is 0")
    for name, ids, limit in (("units", unit, n_units), ("examples", example, n_examples)):
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
            problems.append(f"{name} go from {int(ids.min())} to {int(ids.max())}, expected 0 to {limit - 1}")
    if not problems and len((unit.long() * n_examples + example).unique()) != len(unit):
        problems.append("a (unit, example) pair has several scores; pool them first")
    if problems:
        raise ArtifactError("These are no example scores:", problems)
    return sort_scores(unit, value, example.long(), labels, n_units)
