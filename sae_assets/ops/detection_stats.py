"""Detection: is a concept present in an example? Confusion counts of every (concept, unit, tail fraction) (numerics 6).

An example's score is its largest activation over rows, or another of ``ops.pooling``. Scores stay sparse and are sorted
once per unit; positives of all thresholds are then found by binary search and prefix sums. Choosing pairs and chance
levels live in ``ops.best_pairs``.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import DetectionStats, SparseRows, Thresholds, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.pooling import MAXIMUM, Pooling, pool_rows
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import BITS, pack_descending, unpack_descending

EVALUATED = ("cal", "test")


@dataclass(frozen=True)
class ExampleScores:
    """The score of each (unit, example) of one split that has one, sorted by unit, then value descending.

    Attributes:
        keys: int64 [n_scores], (unit, value) packed as ``pack_descending`` does.
        starts: int64 [n_units + 1], run of each unit.
        example: int64 [n_scores], position of the example within the split.
        labels: bool [n_examples, n_concepts], the split's example-level truth.
    """

    keys: Int[Tensor, " scores"]
    starts: Int[Tensor, " units_plus_1"]
    example: Int[Tensor, " scores"]
    labels: Bool[Tensor, "examples concepts"]

    def places(self, thresholds: Float[Tensor, "units fractions"]) -> Int[Tensor, "units fractions"]:
        """End (exclusive) of the scores ≥ threshold in each unit's run; the run's start where it is null."""
        unit = torch.arange(len(thresholds), device=self.keys.device)[:, None].expand_as(thresholds)
        return self.stops(unit, thresholds)

    def stops(self, units: Int[Tensor, "*n"], thresholds: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """End (exclusive) of the scores ≥ threshold in the runs of these units; a run's start where it is null."""
        valid = ~thresholds.isnan()
        rounded = thresholds.nan_to_num(1.0).float()
        # Scores are float32: score >= t iff score >= the smallest float32 that is >= t.
        above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
        rounded = torch.where(rounded.double() < thresholds.nan_to_num(1.0), above, rounded)
        keys = pack_descending(units.flatten(), rounded.flatten())
        ends = torch.searchsorted(self.keys, keys, right=True).view_as(thresholds)
        return torch.where(valid, ends, self.starts[units])

    def of_units(self, units: Int[Tensor, " kept"]) -> "ExampleScores":
        """The scores of these units alone, ascending ids, renumbered by their position."""
        index = torch.full((len(self.starts) - 1,), -1, dtype=torch.int64, device=self.keys.device)
        index[units.to(index.device)] = torch.arange(len(units), device=index.device)
        unit, value = unpack_descending(self.keys)
        inside = index[unit] >= 0
        # Ids ascend as their positions do, so what is left is sorted.
        keys = pack_descending(index[unit[inside]], value[inside])
        starts = offsets_of(self.starts.diff()[units.to(index.device)])
        return ExampleScores(keys, starts, self.example[inside], self.labels)

    def of_examples(self, examples: Bool[Tensor, " examples"]) -> "ExampleScores":
        """The scores of these examples alone, renumbered by their position among them."""
        inside, unit = examples[self.example], self.keys >> BITS
        counts = torch.bincount(unit[inside], minlength=len(self.starts) - 1)
        position = (examples.long().cumsum(0) - 1)[self.example[inside]]
        return ExampleScores(self.keys[inside], offsets_of(counts), position, self.labels[examples])

    def positives(self, places: Int[Tensor, "units fractions"], truth: Bool[Tensor, "*b examples"]) -> Tensor:
        """Detected examples that are true: int32 [*b, n_units, n_fractions] for truths [*b, n_examples]."""
        hits = torch.nn.functional.pad(truth[..., self.example].int().cumsum(-1, dtype=torch.int32), (1, 0))
        return hits[..., places] - hits[..., self.starts[:-1, None]]

    def sums(
        self, places: Int[Tensor, "units fractions"], weights: Float[Tensor, "examples columns"]
    ) -> Float[Tensor, "units fractions columns"]:
        """Weights of the detected examples, added up per column: what many truths need at once.

        ``weights`` are float32 whole numbers that sum to less than 2^24, so that every sum is exact in any order.
        Places must not fall along a unit's fractions, as those of thresholds do not.
        """
        bounds = torch.cat([self.starts[:-1, None], places], 1)  # the last bag of a unit is what no fraction detects
        bags = torch.nn.functional.embedding_bag(self.example, weights, bounds.flatten(), mode="sum")
        return bags.view(*bounds.shape, -1)[:, :-1].cumsum(1)

    def hits(
        self, units: Int[Tensor, " draws"], stops: Int[Tensor, " draws"], truth: Bool[Tensor, "examples draws"]
    ) -> Int[Tensor, " draws"]:
        """True examples among those that a unit detects, per draw of a unit, an end of its run, and a truth."""
        lengths = stops - self.starts[units]
        draw = torch.repeat_interleave(torch.arange(len(units), device=lengths.device), lengths)
        position = torch.arange(len(draw), device=lengths.device) + (stops - lengths.cumsum(0))[draw]
        return torch.bincount(draw[truth[self.example[position], draw]], minlength=len(units))

    def detected(self, unit: int, threshold: float) -> Bool[Tensor, " examples"]:
        """Which examples this unit detects at this threshold."""
        run = slice(int(self.starts[unit]), int(self.starts[unit + 1]))
        _, values = unpack_descending(self.keys[run])
        mask = torch.zeros(len(self.labels), dtype=torch.bool, device=self.keys.device)
        mask[self.example[run][values.double() >= threshold]] = True
        return mask


@dataclass(frozen=True)
class LabelledChunk:
    """A chunk's activations, filtered or not, with its examples' splits and labels."""

    activations: SparseRows
    splits: tuple[str, ...]
    labels: Bool[Tensor, "examples concepts"]


@plain_arithmetic()
def score_examples(
    chunks: Iterable[LabelledChunk],
    *,
    n_units: int,
    pooling: Pooling = MAXIMUM,
    device: torch.device | str = "cpu",
) -> dict[str, ExampleScores]:
    """Example scores of the calibration and the test split, reading each chunk once.

    Memory is one (unit, example, value) triple per example and unit that fires in it: at most 90 bytes while they are
    sorted, 16 afterwards.

    Raises:
        ArtifactError: a chunk of another width, or with other numbers of examples and splits.
    """
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {split: [] for split in EVALUATED}
    labels: dict[str, list[Tensor]] = {split: [] for split in EVALUATED}
    n_examples = dict.fromkeys(EVALUATED, 0)
    for chunk in chunks:
        rows = chunk.activations
        if rows.n_units != n_units or rows.n_examples != len(chunk.splits):
            raise ArtifactError(
                f"A chunk has {rows.n_units} units and {rows.n_examples} examples, expected {n_units} units and "
                f"{len(chunk.splits)} examples."
            )
        unit, value, example = pool_rows(rows, pooling, device)
        for split in EVALUATED:
            inside = torch.tensor([name == split for name in chunk.splits], dtype=torch.bool, device="cpu")
            position = (inside.long().cumsum(0) - 1 + n_examples[split]).to(device)
            chosen = inside.to(device)[example]
            parts[split].append((unit[chosen], value[chosen], position[example[chosen]]))
            labels[split].append(chunk.labels[inside])
            n_examples[split] += int(inside.sum())
    return {split: _joined(parts[split], labels[split], n_units, device) for split in EVALUATED}


def _joined(parts: list, labels: list[Tensor], n_units: int, device: torch.device | str) -> ExampleScores:
    if not parts:
        raise ArtifactError("There are no chunks to detect in.")
    unit, value, example = (torch.cat(column) for column in zip(*parts, strict=True))
    return sort_scores(unit, value, example, torch.cat(labels).to(device), n_units)


def sort_scores(
    units: Int[Tensor, " scores"],
    values: Float[Tensor, " scores"],
    examples: Int[Tensor, " scores"],
    labels: Bool[Tensor, "examples concepts"],
    n_units: int,
) -> ExampleScores:
    """Scores of one split from (unit, value, example) in any order; values float32 and > 0, each pair once."""
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
    """Sorted scores of one split from (unit, example, score) triples in any order; an absent pair scores 0.

    Args:
        unit: 0 to ``n_units`` − 1. example: row of ``labels``. value: float32, > 0, in the unit's own scale.

    Raises:
        ArtifactError: a score that is not a positive finite number, an id out of range, or a pair that comes twice.
    """
    n_examples = len(labels)
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
    return sort_scores(unit, value.float(), example.long(), labels, n_units)


@plain_arithmetic()
def count_detections(scores: dict[str, ExampleScores], thresholds: Thresholds) -> DetectionStats:
    """True and false positives of every triple on both splits (numerics 6).

    Raises:
        ArtifactError: labels of another number of concepts than the thresholds.
    """
    n_concepts = len(thresholds.concepts)
    true, false, positive, negative = [], [], [], []
    for split in EVALUATED:
        split_scores = scores[split]
        if split_scores.labels.shape[1] != n_concepts:
            raise ArtifactError(f"Labels cover {split_scores.labels.shape[1]} concepts, thresholds {n_concepts}.")
        split_true, split_false = [], []
        for concept in range(n_concepts):
            places = split_scores.places(thresholds.values[concept].to(split_scores.keys.device))
            hits = split_scores.positives(places, split_scores.labels[:, concept])
            split_true.append(hits.cpu())
            split_false.append((places - split_scores.starts[:-1, None] - hits).int().cpu())
        true.append(torch.stack(split_true))
        false.append(torch.stack(split_false))
        positive.append(split_scores.labels.sum(0).cpu())
        negative.append((~split_scores.labels).sum(0).cpu())
    return DetectionStats(
        concepts=thresholds.concepts,
        kept_units=thresholds.kept_units,
        tail_fractions=thresholds.tail_fractions,
        n_positive=torch.stack(positive),
        n_negative=torch.stack(negative),
        true_positives=torch.stack(true),
        false_positives=torch.stack(false),
        valid=(thresholds.n_positive[:-1] > 0),
    )
