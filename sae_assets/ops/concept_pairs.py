"""The best (unit, threshold) of each concept on cal, and what it finds on cal and on test (numerics 9).

The search is that of ``ops.exact_search``, over all distinct scores of cal. Test takes no part in it.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts.counts import f1_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.exact_search import Choices, ExactSearch
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import BITS
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores

MIN_SUPPORT = 3
SCORES_SEARCHED = 2**17  # at once: memory is a few hundred bytes each, and more together are no faster


@dataclass(frozen=True)
class ConceptPairs:
    """One pair per concept.

    Attributes:
        units: int64 [n_concepts], -1 where no pair finds ``min_support`` cal positives; such a one detects nothing.
        thresholds: float64 [n_concepts], a score of cal; NaN without a pair.
        tail_fractions: float64 [n_concepts], share of the unit's non-zero scores on cal positives that reach the
            threshold: the p of which it is a (1 - p)-quantile, of scores of examples and not of rows.
        counts: int64 [2, n_concepts, 4], TP, FP, FN, TN on cal and on test.
        n_units: that were searched or could have been.
    """

    units: Int[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    tail_fractions: Float[Tensor, " concepts"]
    counts: Int[Tensor, "2 concepts 4"]
    n_units: int
    min_support: int

    @property
    def f1(self) -> Float[Tensor, "2 concepts"]:
        """Return float64; NaN without a pair, and of a concept of which the split lacks a class."""
        return torch.where(self.units >= 0, f1_of(self.counts), torch.nan)

    def only(self, concepts: Bool[Tensor, " concepts"]) -> "ConceptPairs":
        """Return the same pairs of these concepts, and of the others none."""
        true, false, missed, rest = self.counts.unbind(-1)
        nothing = torch.stack([torch.zeros_like(true), torch.zeros_like(true), true + missed, false + rest], -1)
        return replace(
            self,
            units=torch.where(concepts, self.units, -1),
            thresholds=torch.where(concepts, self.thresholds, torch.nan),
            tail_fractions=torch.where(concepts, self.tail_fractions, torch.nan),
            counts=torch.where(concepts[:, None], self.counts, nothing),
        )


@plain_arithmetic()
def find_pairs(
    scores: dict[str, ExampleScores],
    *,
    min_support: int = MIN_SUPPORT,
    allowed: Bool[Tensor, " units"] | None = None,
    units: Int[Tensor, " concepts"] | None = None,
) -> ConceptPairs:
    """Return the pair of the best cal F1 of each concept; ties: higher recall, higher threshold, lower unit.

    Args:
        scores: of ``cal`` and ``test``.
        min_support: cal positives that a threshold must find.
        allowed: units to choose among; all by default.
        units: the unit of each concept (-1: none), of which only the threshold is searched.

    Raises:
        ArtifactError: no positive ``min_support``, or splits of different units or concepts.
    """
    cal, test = (scores[split] for split in EVALUATED)
    n_units, n_concepts = len(cal.starts) - 1, cal.labels.shape[1]
    if len(test.starts) != len(cal.starts) or test.labels.shape[1] != n_concepts:
        raise ArtifactError(
            f"cal has {n_units} units and {n_concepts} concepts, test {len(test.starts) - 1} and "
            f"{test.labels.shape[1]}: they must agree."
        )
    best_units, thresholds = search_pairs(cal, min_support=min_support, allowed=allowed, units=units)
    counts = torch.stack([counts_of_pairs(split, best_units, thresholds) for split in (cal, test)]).cpu()
    firing = _firing_positives(cal, best_units).cpu()
    best_units, thresholds = best_units.cpu(), thresholds.cpu()
    share = counts[0, :, 0].double() / firing.clamp(min=1)
    return ConceptPairs(
        best_units, thresholds, torch.where(best_units >= 0, share, torch.nan), counts, n_units, min_support
    )


@plain_arithmetic()
def search_pairs(
    cal: ExampleScores,
    *,
    min_support: int = MIN_SUPPORT,
    allowed: Bool[Tensor, " units"] | None = None,
    units: Int[Tensor, " concepts"] | None = None,
) -> tuple[Int[Tensor, " concepts"], Float[Tensor, " concepts"]]:
    """Return unit and threshold (float64) of each concept's pair, as :func:`find_pairs` has them: -1 and NaN without
    one.

    Raises:
        ArtifactError: no positive ``min_support``.
    """
    if min_support < 1:
        raise ArtifactError(f"min_support is {min_support}, expected at least 1.")
    if units is None:
        return _best_among(cal, cal.labels, min_support, allowed)
    n_units, n_concepts, device = len(cal.starts) - 1, cal.labels.shape[1], cal.keys.device
    best_units = torch.full((n_concepts,), -1, dtype=torch.int64, device=device)
    thresholds = torch.full((n_concepts,), torch.nan, dtype=torch.float64, device=device)
    for unit in units[units >= 0].unique().tolist():
        mine = (units == unit).to(device)
        one = torch.arange(n_units, device=device) == unit
        best_units[mine], thresholds[mine] = _best_among(cal, cal.labels[:, mine], min_support, one)
    return best_units, thresholds


def two_classes_in(split: ExampleScores) -> Bool[Tensor, " concepts"]:
    """Return concepts of which the split holds positive and negative examples."""
    positive = split.labels.sum(0).cpu()
    return (positive > 0) & (positive < len(split.labels))


def supported(cal: ExampleScores, min_support: int) -> Bool[Tensor, "units concepts"]:
    """Return whether a unit fires in ``min_support`` positives of a concept: whether the two have a threshold at
    all."""
    able = torch.zeros(len(cal.starts) - 1, cal.labels.shape[1], dtype=torch.bool, device="cpu")
    for first, part in cal.some_units(SCORES_SEARCHED):
        unit, n_units = part.keys >> BITS, len(part.starts) - 1
        for concept, truth in enumerate(cal.labels.T):
            counts = torch.bincount(unit[truth[part.example]], minlength=n_units)
            able[first : first + n_units, concept] = (counts >= min_support).cpu()
    return able


def _best_among(
    cal: ExampleScores, truths: Bool[Tensor, "examples n"], min_support: int, allowed: Tensor | None
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Return unit and threshold (float64) of the best pair of each truth, -1 and NaN without one.

    Some units at a time are searched: of the best of each part the best one is taken, by the search's own order.
    """
    device, ids, n_positive = cal.keys.device, None, truths.sum(0)
    if allowed is not None:
        ids = allowed.to(device).nonzero().flatten()
        cal = cal.of_units(ids)
    units = torch.full_like(n_positive, -1)
    f1, hits, thresholds = (torch.full(units.shape, -1.0, dtype=torch.float64, device=device) for _ in range(3))
    for first, part in cal.some_units(SCORES_SEARCHED):
        search = ExactSearch(part, min_support=min_support)
        best: Choices = search.best(truths, f1)
        new = best.f1(n_positive), best.hits.double(), part.values_at(best.units, best.lengths).double()
        # Higher F1, higher recall, higher threshold; the lower unit came before.
        better = torch.zeros_like(units, dtype=torch.bool)
        for one, other in zip(reversed(new), (thresholds, hits, f1), strict=True):
            better = (one > other) | (one == other) & better
        better &= best.units >= 0
        units = torch.where(better, best.units + first, units)
        f1, hits, thresholds = (
            torch.where(better, one, other) for one, other in zip(new, (f1, hits, thresholds), strict=True)
        )
    if ids is not None and len(ids):
        units = torch.where(units >= 0, ids[units], -1)
    return units, torch.where(units >= 0, thresholds, torch.nan)


def counts_of_pairs(
    split: ExampleScores, units: Int[Tensor, " concepts"], thresholds: Float[Tensor, " concepts"]
) -> Int[Tensor, "concepts 4"]:
    """Return TP, FP, FN, TN of each concept's pair; without one nothing is detected."""
    chosen, unit = units >= 0, units.clamp(min=0)
    stops = split.stops(unit, thresholds)
    predicted = (stops - split.starts[unit]) * chosen
    true = split.hits(unit, split.starts[unit] + predicted, split.labels)
    positive, n = split.labels.sum(0), len(split.labels)
    return torch.stack([true, predicted - true, positive - true, n - positive - predicted + true], -1)


def _firing_positives(cal: ExampleScores, units: Tensor) -> Int[Tensor, " concepts"]:
    """Return positive examples in which each concept's unit fires."""
    unit = units.clamp(min=0)
    return cal.hits(unit, torch.where(units >= 0, cal.starts[unit + 1], cal.starts[unit]), cal.labels)
