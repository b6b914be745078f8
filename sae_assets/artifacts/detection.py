"""Model-level artifacts about concepts: thresholds, confusion counts, best pairs."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sae_assets.artifacts.base import Artifact, any_step, expect_tensor
from sae_assets.artifacts.counts import two_classes

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

FEWEST = 10  # examples of a class; with fewer, F1 says little (numerics, Few examples)


@dataclass(frozen=True, eq=False)
class Thresholds(Artifact):
    """Detection cut-offs from calibration rows: per concept and unit, and (last row) per unit over all rows.

    Attributes:
        concepts, kept_units: what the first two axes mean; tail_fractions: the third, ascending.
        n_positive: int64 [n_concepts + 1, n_kept], values behind each quantile.
        values: float64 [n_concepts + 1, n_kept, n_fractions]; NaN (null) where n_positive is 0: the pair is invalid.
    """

    kind: ClassVar[str] = "thresholds"
    concepts: tuple[str, ...]
    kept_units: Int[Tensor, " kept"]
    tail_fractions: tuple[float, ...]
    n_positive: Int[Tensor, "concepts_plus_1 kept"]
    values: Float[Tensor, "concepts_plus_1 kept fractions"]

    def problems(self) -> Iterator[str]:
        shape = (len(self.concepts) + 1, len(self.kept_units))
        structure = [
            *expect_tensor(self.kept_units, "kept_units", "int64", (None,)),
            *expect_tensor(self.n_positive, "n_positive", "int64", shape),
            *expect_tensor(self.values, "values", "float64", (*shape, len(self.tail_fractions))),
        ]
        yield from structure
        if structure:
            return
        if list(self.tail_fractions) != sorted(set(self.tail_fractions)):
            yield "tail fractions must ascend without repeats"
        null, low, rising = False, False, False
        for values, n_positive in zip(self.values.numpy(), self.n_positive.numpy(), strict=True):  # what a cache holds
            silent = (n_positive == 0).repeat(values.shape[1])
            null |= ((values != values).reshape(-1) != silent).any()  # NaN alone is not what it is
            low |= (values <= 0).any()
            rising |= any_step(values, operator.gt)
        if null:
            yield "a threshold must be null exactly where n_positive is 0"
        if low:
            yield "thresholds must be > 0"
        if rising:
            yield "thresholds must not rise with the tail fraction"


@dataclass(frozen=True, eq=False)
class DetectionStats(Artifact):
    """Confusion counts of every (split, concept, unit, tail fraction); rates are derived.

    Attributes:
        n_positive, n_negative: int64 [2, n_concepts], examples of each split (cal, test) by truth.
        true_positives, false_positives: int32 [2, n_concepts, n_kept, n_fractions].
        valid: bool [n_concepts, n_kept], pairs that have thresholds; others never detect and are never selected.
    """

    kind: ClassVar[str] = "detection_stats"
    concepts: tuple[str, ...]
    kept_units: Int[Tensor, " kept"]
    tail_fractions: tuple[float, ...]
    n_positive: Int[Tensor, "2 concepts"]
    n_negative: Int[Tensor, "2 concepts"]
    true_positives: Int[Tensor, "2 concepts kept fractions"]
    false_positives: Int[Tensor, "2 concepts kept fractions"]
    valid: Bool[Tensor, "concepts kept"]

    @property
    def false_negatives(self) -> Int[Tensor, "2 concepts kept fractions"]:
        return (self.n_positive[..., None, None] - self.true_positives).int()

    @property
    def true_negatives(self) -> Int[Tensor, "2 concepts kept fractions"]:
        return (self.n_negative[..., None, None] - self.false_positives).int()

    @property
    def f1(self) -> Float[Tensor, "2 concepts kept fractions"]:
        """Return float64; NaN (null) of an invalid pair, and of a concept without positives in the split."""
        import torch

        doubled = 2.0 * self.true_positives.double()
        f1 = doubled / (doubled + self.false_positives + self.false_negatives).clamp(min=1)
        exists = self.valid & (self.n_positive > 0)[..., None]
        return torch.where(exists[..., None], f1, torch.nan)

    def problems(self) -> Iterator[str]:
        shape = (2, len(self.concepts), len(self.kept_units), len(self.tail_fractions))
        structure = [
            *expect_tensor(self.kept_units, "kept_units", "int64", (None,)),
            *expect_tensor(self.n_positive, "n_positive", "int64", shape[:2]),
            *expect_tensor(self.n_negative, "n_negative", "int64", shape[:2]),
            *expect_tensor(self.true_positives, "true_positives", "int32", shape),
            *expect_tensor(self.false_positives, "false_positives", "int32", shape),
            *expect_tensor(self.valid, "valid", "bool", shape[1:3]),
        ]
        yield from structure
        if structure:
            return
        invalid_pairs = [(~valid).nonzero()[0] for valid in self.valid.numpy()]
        for name, counts, total in (
            ("true positives", self.true_positives, self.n_positive),
            ("false positives", self.false_positives, self.n_negative),
        ):
            outside, invalid, falling = False, False, False
            for split, table in enumerate(counts.numpy()):
                for concept, (some, silent) in enumerate(zip(table, invalid_pairs, strict=True)):  # what a cache holds
                    if some.size:
                        outside |= some.min() < 0 or some.max() > int(total[split, concept])
                    invalid |= some.take(silent, axis=0).any()
                    falling |= any_step(some, operator.lt)
            if outside:
                yield f"{name} must lie between 0 and the number of examples"
            if invalid:
                yield f"{name}: an invalid pair never detects"
            if falling:
                yield f"{name} must not fall as the tail fraction grows"


@dataclass(frozen=True, eq=False)
class BestPairs(Artifact):
    """Per concept the chosen pair, its figures on cal and test, what chance reaches, and the intervals.

    A concept that lacks positive or negative examples in a split has no figures there, and no part in weighted means
    unless both splits hold both. One that no unit stands for detects nothing: its F1 is 0.

    Attributes:
        unit_ids: int64, original id, -1 where no pair was chosen; thresholds, tail_fractions: float64, NaN there.
        by_rows: bool [n_concepts], whether rows chose the unit.
        counts: int64 [2, n_concepts, 4], TP FP FN TN on cal and test of that pair (no detections where there is none).
        null_f1: float64 [2, n_concepts, 2], mean and 95 % point of the F1 that shuffled labels reach on cal, test. On
            cal the choice is repeated on every shuffle; NaN where rows or the grid of tail fractions chose.
        p, family_p, q: float64 [2, n_concepts], of cal and test: share of shuffles at least as good, adjusted over
            concepts by family-wise error and by false discovery rate; NaN where null_f1 is.
        test_interval: float64 [n_concepts, 2], 95 % interval of the test F1.
        scores: float64 [n_concepts, 6], of test: ``SCORES``, from the unit's scores and the pair's detections.
        auroc_interval: float64 [n_concepts, 2], 95 % interval of the AUROC; NaN where that is.
        length_auroc: float64 [n_concepts], AUROC on test of the example's number of rows alone.
        row_counts: int64 [n_concepts, 3], TP FP FN in rows of test, of the unit at its row threshold; 0 of a concept
            whose rows are not known.
        row_interval: float64 [n_concepts, 2], 95 % interval of the row F1.
        row_null_f1: float64 [n_concepts, 2], mean and 95 % point of the row F1 where truth maps change examples.
        row_p, row_family_p, row_q: float64 [n_concepts], as p, of the row F1; NaN where exchanges change nothing.
        weighted_interval: float64 [2], 95 % interval of the weighted test F1.
        weighted_null: float64 [3], mean and 95 % point of the weighted test F1 over shuffled labels, and its p.
    """

    kind: ClassVar[str] = "best_pairs"
    SCORES: ClassVar[tuple[str, ...]] = ("auroc", "average_precision", "mcc", "balanced_accuracy", "brier", "ece")
    concepts: tuple[str, ...]
    unit_ids: Int[Tensor, " concepts"]
    tail_fractions: Float[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    by_rows: Bool[Tensor, " concepts"]
    counts: Int[Tensor, "2 concepts 4"]
    null_f1: Float[Tensor, "2 concepts 2"]
    p: Float[Tensor, "2 concepts"]
    family_p: Float[Tensor, "2 concepts"]
    q: Float[Tensor, "2 concepts"]
    test_interval: Float[Tensor, "concepts 2"]
    scores: Float[Tensor, "concepts 6"]
    auroc_interval: Float[Tensor, "concepts 2"]
    length_auroc: Float[Tensor, " concepts"]
    row_counts: Int[Tensor, "concepts 3"]
    row_interval: Float[Tensor, "concepts 2"]
    row_null_f1: Float[Tensor, "concepts 2"]
    row_p: Float[Tensor, " concepts"]
    row_family_p: Float[Tensor, " concepts"]
    row_q: Float[Tensor, " concepts"]
    weighted_interval: Float[Tensor, " 2"]
    weighted_null: Float[Tensor, " 3"]
    n_permutations: int
    seed: int

    @property
    def n_positive(self) -> Int[Tensor, "2 concepts"]:
        return self.counts[..., 0] + self.counts[..., 2]

    @property
    def n_examples(self) -> Int[Tensor, "2 concepts"]:
        return self.counts.sum(-1)

    @property
    def too_few(self) -> Bool[Tensor, "2 concepts"]:
        """Return where so few examples of a class are there that no interval of a figure can be relied on."""
        return too_few(self.n_positive, self.n_examples) & self.two_classes

    @property
    def two_classes(self) -> Bool[Tensor, "2 concepts"]:
        """Return where a concept has positive and negative examples; figures exist there alone."""
        return two_classes(self.counts)

    def rate(self, name: str) -> Float[Tensor, "2 concepts"]:
        """``precision``, ``recall``, ``f1`` or ``accuracy``; 0/0 is 0, NaN where the split lacks a class."""
        import torch

        tp, fp, fn, tn = self.counts.double().unbind(-1)
        over = {
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "f1": (2 * tp, 2 * tp + fp + fn),
            "accuracy": (tp + tn, tp + fp + fn + tn),
        }[name]
        return torch.where(self.two_classes, over[0] / over[1].clamp(min=1), torch.nan)

    @property
    def always_positive_f1(self) -> Float[Tensor, "2 concepts"]:
        """Return F1 of calling every example positive; NaN where the split lacks a class."""
        import torch

        f1 = always_positive_f1(self.n_positive.double(), self.n_examples.clamp(min=1))
        return torch.where(self.two_classes, f1, torch.nan)

    @property
    def chance_f1(self) -> Float[Tensor, " concepts"]:
        """Return what a test F1 has to exceed: the larger of always positive and the 95 % point of shuffled labels."""
        import torch

        always, null = self.always_positive_f1[1], self.null_f1[1, :, 1]
        return torch.fmax(always, null)  # a null that was not drawn is NaN

    def weighted(self, per_concept: Float[Tensor, " concepts"]) -> float:
        """Return mean weighted by test positives, over concepts that have the figure and both classes in both
        splits."""
        import torch

        counted = self.two_classes.all(0) & ~per_concept.isnan()
        weight = torch.where(counted, self.n_positive[1], 0).double()
        total = float(weight.sum())
        return float((weight[counted] * per_concept[counted]).sum() / total) if total else float("nan")

    def problems(self) -> Iterator[str]:
        n = len(self.concepts)
        structure = [
            *expect_tensor(self.unit_ids, "unit_ids", "int64", (n,)),
            *expect_tensor(self.tail_fractions, "tail_fractions", "float64", (n,)),
            *expect_tensor(self.thresholds, "thresholds", "float64", (n,)),
            *expect_tensor(self.by_rows, "by_rows", "bool", (n,)),
            *expect_tensor(self.counts, "counts", "int64", (2, n, 4)),
            *expect_tensor(self.null_f1, "null_f1", "float64", (2, n, 2)),
            *expect_tensor(self.p, "p", "float64", (2, n)),
            *expect_tensor(self.family_p, "family_p", "float64", (2, n)),
            *expect_tensor(self.q, "q", "float64", (2, n)),
            *expect_tensor(self.test_interval, "test_interval", "float64", (n, 2)),
            *expect_tensor(self.scores, "scores", "float64", (n, len(self.SCORES))),
            *expect_tensor(self.auroc_interval, "auroc_interval", "float64", (n, 2)),
            *expect_tensor(self.length_auroc, "length_auroc", "float64", (n,)),
            *expect_tensor(self.row_counts, "row_counts", "int64", (n, 3)),
            *expect_tensor(self.row_interval, "row_interval", "float64", (n, 2)),
            *expect_tensor(self.row_null_f1, "row_null_f1", "float64", (n, 2)),
            *expect_tensor(self.row_p, "row_p", "float64", (n,)),
            *expect_tensor(self.row_family_p, "row_family_p", "float64", (n,)),
            *expect_tensor(self.row_q, "row_q", "float64", (n,)),
            *expect_tensor(self.weighted_interval, "weighted_interval", "float64", (2,)),
            *expect_tensor(self.weighted_null, "weighted_null", "float64", (3,)),
        ]
        yield from structure
        if structure:
            return
        if bool((self.counts < 0).any()) or bool((self.row_counts < 0).any()):
            yield "counts must not be negative"
        if bool(((self.unit_ids < 0) != self.thresholds.isnan()).any()):
            yield "a threshold must be null exactly where no pair was chosen"
        for name in ("p", "family_p", "q", "row_p", "row_family_p", "row_q"):
            values = getattr(self, name)
            if bool((values <= 0).any()) or bool((values > 1).any()):
                yield f"{name} must lie above 0 and not above 1"


def too_few(n_positive: Any, n_examples: Any) -> Any:
    """Return whether one of the classes has fewer than ``FEWEST`` examples, of numbers or tensors."""
    return (n_positive < FEWEST) | (n_examples - n_positive < FEWEST)


def rests_on_few(line: Mapping[str, Any]) -> bool:
    """Return whether the test figures of a row of the table of best pairs rest on :func:`too_few` examples."""
    tp, fp, fn, tn = (line[f"test_{cell}"] for cell in ("tp", "fp", "fn", "tn"))
    return bool(too_few(tp + fn, tp + fp + fn + tn))


def always_positive_f1(n_positive: Any, n_examples: Any) -> Any:
    """Return F1 of calling every example positive, ``2P / (N + P)`` (which is ``2π / (1 + π)``), of numbers or
    tensors."""
    return 2 * n_positive / (n_examples + n_positive)
