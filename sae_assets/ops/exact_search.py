"""Exact threshold search on example scores: the best F1 of every (unit, concept) over all thresholds (numerics 9).

Every distinct score of a unit on cal is a threshold. Scores are made by ``ops.detection_stats``; the walk over them is
that of ``ops.incidences``, ties between units are decided in ``ops.choice``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.choice import best_units
from sae_assets.ops.detection_stats import EVALUATED, ExampleScores
from sae_assets.ops.incidences import (
    ENTRIES_AT_ONCE,
    RankedValues,
    TruthSets,
    Walk,
    pack_ranked,
    tag_bits,
    truth_sets,
    units_at_once,
)
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import plan_blocks, unpack_descending

MIN_SUPPORT = 3


@dataclass(frozen=True)
class ExactSearch:
    """The best threshold of every (unit, concept) by cal F1, and what it finds on cal and on test.

    Attributes:
        n_examples: of cal and of test.
        n_positive: int64 [2, n_concepts], positive examples.
        thresholds: float64 [n_units, n_concepts], a score of cal; NaN (null) where no threshold finds ``min_support``
            positives. Such a pair never detects.
        true_positives, predicted: int32 [2, n_units, n_concepts], detected examples of the concept, and all detected.
        firing_positives: int32 [n_units, n_concepts], positive examples of cal in which the unit fires at all.
        min_support: cal positives at or above a threshold, at least.
    """

    n_examples: tuple[int, int]
    n_positive: Int[Tensor, "2 concepts"]
    thresholds: Float[Tensor, "units concepts"]
    true_positives: Int[Tensor, "2 units concepts"]
    predicted: Int[Tensor, "2 units concepts"]
    firing_positives: Int[Tensor, "units concepts"]
    min_support: int

    @property
    def f1(self) -> Float[Tensor, "2 units concepts"]:
        """``2 TP / (P + |H|)``, float64; NaN of a pair without threshold, and of a concept without positives."""
        bottom = (self.predicted + self.n_positive[:, None]).double()
        exists = ~self.thresholds.isnan() & (self.n_positive > 0)[:, None]
        return torch.where(exists, 2 * self.true_positives.double() / bottom.clamp(min=1), torch.nan)

    @property
    def counts(self) -> Int[Tensor, "2 units concepts 4"]:
        """TP, FP, FN, TN, int64."""
        true, false = self.true_positives.long(), (self.predicted - self.true_positives).long()
        positive = self.n_positive[:, None]
        negative = positive.new_tensor(self.n_examples)[:, None, None] - positive
        return torch.stack([true, false, positive - true, negative - false], -1)

    @property
    def tail_fractions(self) -> Float[Tensor, "units concepts"]:
        """Share of the unit's non-zero scores on cal positives that reach the threshold; NaN without a threshold.

        It is the p of which the threshold is a (1 − p)-quantile, of scores of examples and not of rows.
        """
        share = self.true_positives[0].double() / self.firing_positives.clamp(min=1)
        return torch.where(self.thresholds.isnan(), torch.nan, share)

    @property
    def best_units(self) -> Int[Tensor, " concepts"]:
        """int64, the unit with the best cal F1; ties: higher recall, higher threshold, lower unit. -1 where none is."""
        return best_units(self.f1[0], self.true_positives[0], self.thresholds)

    def best_units_among(self, allowed: Bool[Tensor, " units"]) -> Int[Tensor, " concepts"]:
        """The same choice among these units."""
        return best_units(self.f1[0], self.true_positives[0], self.thresholds, allowed)


@plain_arithmetic()
def search_thresholds(
    scores: dict[str, ExampleScores], *, min_support: int = MIN_SUPPORT, entries_at_once: int = ENTRIES_AT_ONCE
) -> ExactSearch:
    """The best threshold of every pair, in blocks of units.

    F1 over the thresholds of a pair is largest at the score of a positive: a negative one below it raises P alone. So a
    unit's scores are sorted once, and only positives are walked: Σ scores × concepts of their examples. Zero scores are
    not stored and never detect. Ties: higher F1, higher recall, higher threshold; F1 is compared as a fraction.

    Args:
        scores: of ``cal`` and ``test``, as ``score_examples`` or ``sort_scores`` make them.
        min_support: cal positives that a threshold must find.
        entries_at_once: bound on the values and incidences of the units in hand; one unit at least.

    Raises:
        ArtifactError: no positive ``min_support``, or splits of different units or concepts.
    """
    cal, test = (scores[split] for split in EVALUATED)
    n_units, n_concepts = len(cal.starts) - 1, cal.labels.shape[1]
    if min_support < 1:
        raise ArtifactError(f"min_support is {min_support}, expected at least 1.")
    if len(test.starts) != len(cal.starts) or test.labels.shape[1] != n_concepts:
        raise ArtifactError(
            f"cal has {n_units} units and {n_concepts} concepts, test {len(test.starts) - 1} and "
            f"{test.labels.shape[1]}: they must agree."
        )
    truths = [truth_of_labels(split.labels) for split in (cal, test)]
    work = _work(cal) + _work(test)
    most_units = min(units_at_once(len(split.labels)) for split in (cal, test))
    parts = []
    for first, stop in plan_blocks(work, entries_at_once):
        for begin in range(first, stop, most_units):
            end = min(begin + most_units, stop)
            here = Walk(rank_scores(cal, begin, end), truths[0], truths[0].set_of_row)
            there = Walk(rank_scores(test, begin, end), truths[1], truths[1].set_of_row)
            thresholds, true, predicted = here.best_thresholds(min_support)
            true_test, predicted_test = there.counts_at(thresholds)
            firing = here.table(here.counts)
            parts.append([thresholds, *(t.int() for t in (true, true_test, predicted, predicted_test, firing))])
    thresholds, true, true_test, predicted, predicted_test, firing = (
        torch.cat(column).cpu() for column in zip(*parts, strict=True)
    )
    return ExactSearch(
        n_examples=(len(cal.labels), len(test.labels)),
        n_positive=torch.stack([truth.n_positive.cpu() for truth in truths]),
        thresholds=thresholds,
        true_positives=torch.stack([true, true_test]),
        predicted=torch.stack([predicted, predicted_test]),
        firing_positives=firing,
        min_support=min_support,
    )


def truth_of_labels(labels: Tensor) -> TruthSets:
    """The sets of concepts of examples with these labels, bool [n_examples, n_concepts]."""
    return truth_sets(offsets_of(labels.sum(1)), labels.nonzero()[:, 1], labels.shape[1])


def rank_scores(scores: ExampleScores, first: int, stop: int) -> RankedValues:
    """The scores of units ``first`` to ``stop - 1``, renumbered from 0, tagged with their examples."""
    low, high = (int(scores.starts[unit]) for unit in (first, stop))
    unit, value = unpack_descending(scores.keys[low:high])
    bits = tag_bits(len(scores.labels))
    keys = pack_ranked(unit - first, value, scores.example[low:high], bits)
    return RankedValues(keys, bits, scores.starts[first : stop + 1] - low)


def _work(scores: ExampleScores) -> Int[Tensor, " units"]:
    """Values and incidences of each unit."""
    each = 1 + scores.labels.sum(1)[scores.example]
    unit = scores.keys >> 32
    return torch.bincount(unit, weights=each.double(), minlength=len(scores.starts) - 1).long()
