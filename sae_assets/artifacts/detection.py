"""Model-level artifacts about concepts: thresholds, confusion counts, best pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


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
        if bool((self.values.isnan() != (self.n_positive == 0)[..., None]).any()):
            yield "a threshold must be null exactly where n_positive is 0"
        if bool((self.values <= 0).any()):
            yield "thresholds must be > 0"
        if bool((self.values.diff(dim=-1) > 0).any()):
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
        """float64; NaN (null) of an invalid pair, and of a concept without positives in the split."""
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
        for name, counts, total in (
            ("true positives", self.true_positives, self.n_positive),
            ("false positives", self.false_positives, self.n_negative),
        ):
            if bool((counts < 0).any()) or bool((counts > total[..., None, None]).any()):
                yield f"{name} must lie between 0 and the number of examples"
            if bool((counts[:, ~self.valid] != 0).any()):
                yield f"{name}: an invalid pair never detects"
            if bool((counts.diff(dim=-1) < 0).any()):
                yield f"{name} must not fall as the tail fraction grows"


@dataclass(frozen=True, eq=False)
class BestPairs(Artifact):
    """Per concept the (unit, tail fraction) with the best calibration F1, its figures, chance, and the intervals.

    Attributes:
        unit_ids: int64, original id, -1 where no pair is valid; thresholds, tail_fractions: float64, NaN there.
        counts: int64 [2, n_concepts, 4], TP FP FN TN on cal and test of that pair (no detections where there is none).
        null_f1: float64 [2, n_concepts, 2], mean and 95 % point of the F1 that shuffled labels reach on cal, test.
        test_interval: float64 [n_concepts, 2], 95 % interval of the test F1.
        weighted_interval: float64 [2], 95 % bootstrap interval of the weighted test F1.
        weighted_null: float64 [2], mean and 95 % point of the weighted test F1 over shuffled labels.
        fold_f1: float64 [n_concepts], F1 over held-out folds of cal, NaN where it does not exist; None if n_folds is 0.
    """

    kind: ClassVar[str] = "best_pairs"
    concepts: tuple[str, ...]
    unit_ids: Int[Tensor, " concepts"]
    tail_fractions: Float[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    counts: Int[Tensor, "2 concepts 4"]
    null_f1: Float[Tensor, "2 concepts 2"]
    test_interval: Float[Tensor, "concepts 2"]
    weighted_interval: Float[Tensor, " 2"]
    weighted_null: Float[Tensor, " 2"]
    n_permutations: int
    n_bootstrap: int
    seed: int
    n_folds: int = 0
    fold_f1: Float[Tensor, " concepts"] | None = None

    @property
    def n_positive(self) -> Int[Tensor, "2 concepts"]:
        return self.counts[..., 0] + self.counts[..., 2]

    @property
    def n_examples(self) -> Int[Tensor, "2 concepts"]:
        return self.counts.sum(-1)

    def rate(self, name: str) -> Float[Tensor, "2 concepts"]:
        """``precision``, ``recall``, ``f1`` or ``accuracy``; 0/0 is 0, NaN where no pair exists or no positive does."""
        import torch

        tp, fp, fn, tn = self.counts.double().unbind(-1)
        over = {
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "f1": (2 * tp, 2 * tp + fp + fn),
            "accuracy": (tp + tn, tp + fp + fn + tn),
        }[name]
        rate = over[0] / over[1].clamp(min=1)
        return torch.where((self.unit_ids >= 0) & (self.n_positive > 0), rate, torch.nan)

    @property
    def always_positive_f1(self) -> Float[Tensor, "2 concepts"]:
        """F1 of calling every example positive, ``2π / (1 + π)``; NaN without positives."""
        import torch

        prior = self.n_positive.double() / self.n_examples.clamp(min=1)
        return torch.where(self.n_positive > 0, 2 * prior / (1 + prior), torch.nan)

    def weighted(self, per_concept: Float[Tensor, " concepts"]) -> float:
        """Mean over concepts weighted by test positives; concepts whose figure is null count neither way."""
        import torch

        weight = torch.where(per_concept.isnan(), 0, self.n_positive[1]).double()
        total = float(weight.sum())
        return float((weight * per_concept.nan_to_num()).sum() / total) if total else float("nan")

    def problems(self) -> Iterator[str]:
        n = len(self.concepts)
        structure = [
            *expect_tensor(self.unit_ids, "unit_ids", "int64", (n,)),
            *expect_tensor(self.tail_fractions, "tail_fractions", "float64", (n,)),
            *expect_tensor(self.thresholds, "thresholds", "float64", (n,)),
            *expect_tensor(self.counts, "counts", "int64", (2, n, 4)),
            *expect_tensor(self.null_f1, "null_f1", "float64", (2, n, 2)),
            *expect_tensor(self.test_interval, "test_interval", "float64", (n, 2)),
            *expect_tensor(self.weighted_interval, "weighted_interval", "float64", (2,)),
            *expect_tensor(self.weighted_null, "weighted_null", "float64", (2,)),
        ]
        if self.fold_f1 is not None:
            structure += expect_tensor(self.fold_f1, "fold_f1", "float64", (n,))
        yield from structure
        if structure:
            return
        if bool((self.counts < 0).any()):
            yield "counts must not be negative"
        if bool(((self.unit_ids < 0) != self.thresholds.isnan()).any()):
            yield "a threshold must be null exactly where no pair was chosen"
        if (self.n_folds == 0) != (self.fold_f1 is None) or self.n_folds == 1 or self.n_folds < 0:
            yield f"n_folds is {self.n_folds}: 0 without fold_f1, at least 2 with it"
