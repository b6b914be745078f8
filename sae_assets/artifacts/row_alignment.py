"""Row alignment says how well units fall on the rows of concepts: one line per pair that meets on a calibration row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


BESIDE = 0.5  # of the rows a unit fires on; with fewer in the concept it fires beside it
COVERAGES = (0.3, 0.5, 0.7)  # average precisions; the first is saev's
MATCHES = {"f1": 0.5, "iou": 0.04}  # above which a unit is said to match: InterPLM's, Network Dissection's


@dataclass(frozen=True, eq=False)
class RowAlignment(Artifact):
    """Row figures of every pair that has a threshold, concept by concept, the best by cal F1 first.

    A concept of which some positive example says nothing of where it is has no pairs: its rows inherit the example's
    label, and what falls on them could not be told from what stands beside them.

    Attributes:
        concepts: names, in catalog order; n_units: of the SAE; n_rows: int64 [2], of cal and of test.
        n_positive: int64 [2, n_concepts], rows of each concept.
        n_unlocated: int64 [2, n_concepts], positive examples whose rows inherit the label.
        concept_ids: int32 [n_pairs], ascending; unit_ids: int32 [n_pairs], original ids, each once per concept.
        thresholds: float64 [n_pairs], of the best cal F1.
        true_positives, predicted: int32 [2, n_pairs], rows at or above the threshold on cal and on test.
        average_precision: float64 [2, n_pairs]; NaN where the concept has no rows in the split.
        auroc: float64 [n_pairs], of test; NaN where the concept has no rows, or all of them.
        purity: float64 [n_pairs], share of the 16 test rows with the largest values that are the concept's.
        pixel_iou: float64 [n_pairs], on test, of the pixels of patches at or above the threshold and those that show
            the concept; NaN where no mask says which these are, and where the concept shows none.
        intervals: float64 [n_concepts, 2], 95 % interval of the test F1 of the concept's first pair; NaN without one.
    """

    kind: ClassVar[str] = "row_alignment"
    concepts: tuple[str, ...]
    n_units: int
    n_rows: Int[Tensor, " 2"]
    n_positive: Int[Tensor, "2 concepts"]
    n_unlocated: Int[Tensor, "2 concepts"]
    concept_ids: Int[Tensor, " pairs"]
    unit_ids: Int[Tensor, " pairs"]
    thresholds: Float[Tensor, " pairs"]
    true_positives: Int[Tensor, "2 pairs"]
    predicted: Int[Tensor, "2 pairs"]
    average_precision: Float[Tensor, "2 pairs"]
    auroc: Float[Tensor, " pairs"]
    purity: Float[Tensor, " pairs"]
    pixel_iou: Float[Tensor, " pairs"]
    intervals: Float[Tensor, "concepts 2"]

    @property
    def false_positives(self) -> Int[Tensor, "2 pairs"]:
        return self.predicted - self.true_positives

    @property
    def false_negatives(self) -> Int[Tensor, "2 pairs"]:
        return (self.n_positive[:, self.concept_ids.long()] - self.true_positives).int()

    def rate(self, name: str) -> Float[Tensor, "2 pairs"]:
        """``precision``, ``recall``, ``f1`` or ``iou`` of rows, float64; 0/0 is 0, NaN without positive rows."""
        return row_rate(name, self.true_positives, self.predicted, self.n_positive[:, self.concept_ids.long()])

    @property
    def best(self) -> Int[Tensor, " concepts"]:
        """Return int64, number of each concept's first pair; -1 where it has none."""
        import torch

        first = torch.searchsorted(self.concept_ids, torch.arange(len(self.concepts), dtype=torch.int32, device="cpu"))
        counts = torch.bincount(self.concept_ids.long(), minlength=len(self.concepts))
        return torch.where(counts > 0, first, -1)

    @property
    def best_by_ap(self) -> Int[Tensor, " concepts"]:
        """Return int64, number of each concept's pair with the best cal average precision; ties: lower unit. -1: no
        pair."""
        import torch

        best = [-1] * len(self.concepts)
        for concept, first in enumerate(self.best.tolist()):
            if first >= 0:
                pairs = (self.concept_ids == concept).nonzero().flatten()
                pairs = pairs[self.unit_ids[pairs].sort().indices]
                best[concept] = int(pairs[self.average_precision[0][pairs].argmax()])
        return torch.tensor(best, dtype=torch.int64, device="cpu")

    @property
    def judged(self) -> Bool[Tensor, " concepts"]:
        """Return concepts that are located and have rows on both splits: over these figures of the whole SAE are."""
        return (self.n_positive > 0).all(0) & (self.n_unlocated.sum(0) == 0)

    def covered(self, least: float) -> Bool[Tensor, " concepts"]:
        """Return whether the unit of the best cal average precision has at least this one on test."""
        import torch

        best = self.best_by_ap
        reached = torch.zeros(len(best), dtype=torch.float64, device="cpu")
        reached[best >= 0] = self.average_precision[1][best[best >= 0]].nan_to_num(0)
        return reached >= least

    @property
    def summary(self) -> dict[str, float]:
        """Return figures of the whole SAE over the concepts that are ``judged``, NaN without any.

        - ``coverage@t``: share of concepts whose best unit by cal average precision has at least t on test.
        - ``mean_best_*``: test figures of each concept's best unit by cal F1 (``ap``: by cal average precision), 0
          where no unit fires on the concept.
        - ``concepts_*``: of these units those above a limit on test; ``units_*``: units that are above it for some
          concept, on cal and on test.
        """
        import torch

        judged, n = self.judged, int(self.judged.sum())
        best, by_ap = ([pair for pair in each[judged].tolist() if pair >= 0] for each in (self.best, self.best_by_ap))
        rates = {name: self.rate(name) for name in MATCHES}
        figures: dict[str, float] = {"concepts": n}
        figures |= {f"coverage@{t:g}": float(self.covered(t)[judged].double().mean()) for t in COVERAGES}
        means = {name: rate[1][best] for name, rate in rates.items()}
        means |= {"pixel_iou": self.pixel_iou[best], "ap": self.average_precision[1][by_ap]}
        figures |= {f"mean_best_{name}": float(each.sum()) / n if n else math.nan for name, each in means.items()}
        for name, limit in MATCHES.items():
            above = (rates[name] > limit).all(0) & judged[self.concept_ids.long()]
            figures[f"concepts_{name}>{limit:g}"] = int((means[name] > limit).sum())
            figures[f"units_{name}>{limit:g}"] = len(torch.unique(self.unit_ids[above]))
        return figures

    def find(self, concept: int, unit: int) -> int | None:
        """Number of this pair; None where they do not meet on a calibration row."""
        numbers = ((self.concept_ids == concept) & (self.unit_ids == unit)).nonzero()
        return int(numbers[0]) if len(numbers) else None

    def problems(self) -> Iterator[str]:
        n, shape = len(self.unit_ids), (2, len(self.concepts))
        structure = [
            *expect_tensor(self.n_rows, "n_rows", "int64", (2,)),
            *expect_tensor(self.n_positive, "n_positive", "int64", shape),
            *expect_tensor(self.n_unlocated, "n_unlocated", "int64", shape),
            *expect_tensor(self.concept_ids, "concept_ids", "int32", (n,)),
            *expect_tensor(self.unit_ids, "unit_ids", "int32", (n,)),
            *expect_tensor(self.thresholds, "thresholds", "float64", (n,)),
            *expect_tensor(self.true_positives, "true_positives", "int32", (2, n)),
            *expect_tensor(self.predicted, "predicted", "int32", (2, n)),
            *expect_tensor(self.average_precision, "average_precision", "float64", (2, n)),
            *expect_tensor(self.auroc, "auroc", "float64", (n,)),
            *expect_tensor(self.purity, "purity", "float64", (n,)),
            *expect_tensor(self.pixel_iou, "pixel_iou", "float64", (n,)),
            *expect_tensor(self.intervals, "intervals", "float64", (len(self.concepts), 2)),
        ]
        yield from structure
        if structure:
            return
        yield from self._bad_names()
        yield from self._bad_counts()

    def _bad_names(self) -> Iterator[str]:
        if not len(self.unit_ids):
            return
        if bool((self.concept_ids.diff() < 0).any()):
            yield "concept ids must ascend"
        low, high = int(self.concept_ids.min()), int(self.concept_ids.max())
        if low < 0 or high >= len(self.concepts):
            yield f"concept ids span {low}..{high}, expected 0..{len(self.concepts) - 1}"
            return
        low, high = int(self.unit_ids.min()), int(self.unit_ids.max())
        if low < 0 or high >= self.n_units:
            yield f"unit ids span {low}..{high}, expected 0..{self.n_units - 1}"
        keys = self.concept_ids.long() * self.n_units + self.unit_ids
        if len(keys.unique()) < len(keys):
            yield "a concept names the same unit twice"

    def _bad_counts(self) -> Iterator[str]:
        ids = self.concept_ids.long()
        if bool((ids < 0).any()) or bool((ids >= len(self.concepts)).any()):
            return  # said above
        if bool((self.n_positive < 0).any()) or bool((self.n_positive > self.n_rows[:, None]).any()):
            yield "positive rows must lie between 0 and the split's rows"
        if bool((self.n_unlocated < 0).any()):
            yield "n_unlocated must not be negative"
        if bool((self.n_unlocated.sum(0)[ids] > 0).any()):
            yield "a concept that is not located everywhere has no pairs"
        if bool((self.true_positives < 0).any()) or bool((self.true_positives > self.n_positive[:, ids]).any()):
            yield "true positives must lie between 0 and the concept's rows"
        if bool((self.predicted < self.true_positives).any()) or bool((self.predicted > self.n_rows[:, None]).any()):
            yield "predicted rows must lie between the true positives and the split's rows"
        if bool((self.true_positives[0] < 1).any()) or not bool((self.thresholds > 0).all()):
            yield "a pair has a threshold > 0 that a positive calibration row reaches"
        for name in ("average_precision", "auroc", "purity", "pixel_iou", "intervals"):
            values = getattr(self, name)
            if bool((values < 0).any()) or bool((values > 1).any()):
                yield f"{name} must lie between 0 and 1"
        f1 = self.rate("f1")[0]
        if bool(((f1.diff() > 0) & (ids.diff() == 0)).any()):
            yield "the pairs of a concept must be ordered by cal F1, the best first"


def row_rate(name: str, true_positives: Tensor, predicted: Tensor, positive: Tensor) -> Tensor:
    """Return a rate of rows from counts, float64, as :meth:`RowAlignment.rate` has it."""
    import torch

    true, predicted, positive = true_positives.double(), predicted.double(), positive.double()
    over = {
        "precision": (true, predicted),
        "recall": (true, positive),
        "f1": (2 * true, predicted + positive),
        "iou": (true, predicted + positive - true),
    }[name]
    return torch.where(positive > 0, over[0] / over[1].clamp(min=1), torch.nan)
