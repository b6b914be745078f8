"""Coalitions: several units for one concept, which detect together or agree, chosen greedily on cal (numerics 9).

A concept may be spread over units that each find a part of it (``or``), or be what several have in common (``and``).
The first member is the best single unit of ``ops.exact_search``; every further one is the unit, with the threshold,
that raises cal F1 most with the members as they are. Members are never given up, nor are their thresholds moved.

On the examples that it grows on, a coalition always gains, from noise too. So :func:`choose_coalitions` grows it on
one part, chooses rule and size on another, and reports it on a third.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.artifacts.coalitions import RULES, CoalitionChoice
from sae_assets.artifacts.counts import f1_of, two_classes
from sae_assets.errors import ArtifactError
from sae_assets.ops.concept_pairs import MIN_SUPPORT, ConceptPairs, find_pairs, two_classes_in
from sae_assets.ops.intervals import counts_of, f1_interval, weighted_f1_difference
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import BITS, unpack_descending
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores

MAX_UNITS = 4


@dataclass(frozen=True)
class Coalitions:
    """Members of each concept in the order in which they joined, and what they find together.

    Attributes:
        rule: ``or``, detected by any member; ``and``, by all.
        units: int64 [n_concepts, max_units]; -1 where nobody joined.
        thresholds: float64 [n_concepts, max_units]; NaN there.
        counts: int64 [2, n_concepts, max_units, 4], TP, FP, FN, TN on cal and test of the members up to this one. Where
            nobody joined they stay as they were; without any member nothing is detected.
    """

    rule: str
    units: Int[Tensor, "concepts members"]
    thresholds: Float[Tensor, "concepts members"]
    counts: Int[Tensor, "2 concepts members 4"]

    @property
    def sizes(self) -> Int[Tensor, " concepts"]:
        """Return int64, members of each concept."""
        return (self.units >= 0).sum(1)

    @property
    def f1(self) -> Float[Tensor, "2 concepts members"]:
        """Return F1 with the members up to each one; NaN without a member, and of a concept of which a class is
        missing."""
        return torch.where(self.units[:, :1] >= 0, f1_of(self.counts), torch.nan)


@plain_arithmetic()
def grow_coalitions(
    first: ConceptPairs,
    scores: dict[str, ExampleScores],
    *,
    rule: str,
    max_units: int = 4,
    allowed: Bool[Tensor, " units"] | None = None,
) -> Coalitions:
    """Grow a coalition of every concept until cal F1 does not rise or it has ``max_units`` members.

    Each step is exact over all other units and all of their distinct scores. Ties: higher recall, higher threshold,
    lower unit. A member must find ``first.min_support`` cal positives: with ``or`` such that no other member finds,
    with ``and`` together with all others. The test split is counted and takes no part in any choice. A step costs one
    walk over all cal scores per concept, and holds about 60 bytes per score.

    Args:
        first: the best pairs of the same scores, of ``allowed`` units: the first members.
        allowed: units that may be members; all by default.

    Raises:
        ArtifactError: an unknown rule, no members, or pairs of other units or concepts.
    """
    cal = scores["cal"]
    if rule not in RULES:
        raise ArtifactError(f"Unknown rule {rule!r} of coalitions, expected one of {', '.join(RULES)}.")
    if max_units < 1:
        raise ArtifactError(f"max_units is {max_units}, expected at least 1.")
    n_concepts, n_units = cal.labels.shape[1], len(cal.starts) - 1
    covered, expected = (first.n_units, len(first.units)), (n_units, n_concepts)
    if covered != expected:
        raise ArtifactError(f"The pairs are of {covered} units and concepts, the scores of {expected}.")
    open_to = torch.ones(n_units, dtype=torch.bool, device="cpu") if allowed is None else allowed
    columns = _Columns(cal, open_to)
    units = torch.full((n_concepts, max_units), -1, dtype=torch.int64, device="cpu")
    thresholds = torch.full((n_concepts, max_units), torch.nan, dtype=torch.float64, device="cpu")
    counts = torch.zeros(2, n_concepts, max_units, 4, dtype=torch.int64, device="cpu")
    for concept in range(n_concepts):
        detected = {split: torch.zeros_like(scores[split].labels[:, concept]) for split in EVALUATED}
        pair = (int(first.units[concept]), float(first.thresholds[concept])) if first.units[concept] >= 0 else None
        for member in range(max_units):
            if member and pair is not None:
                taken = units[concept, :member]
                pair = columns.next_member(cal.labels[:, concept], detected["cal"], taken, rule, first.min_support)
            if pair is not None:
                units[concept, member], thresholds[concept, member] = pair
                for split in EVALUATED:
                    hits = scores[split].detected(*pair)
                    detected[split] = hits if member == 0 else _joined(detected[split], hits, rule)
            for row, split in enumerate(EVALUATED):
                counts[row, concept, member] = _confusion(detected[split], scores[split].labels[:, concept])
    return Coalitions(rule, units, thresholds, counts)


@plain_arithmetic()
def choose_coalitions(
    fitted: ExampleScores,
    chosen: ExampleScores,
    test: ExampleScores,
    *,
    concepts: Sequence[str],
    pairs: tuple[Int[Tensor, " concepts"], Float[Tensor, " concepts"]],
    halved: bool,
    max_units: int = MAX_UNITS,
    min_support: int = MIN_SUPPORT,
    earlier: CoalitionChoice | None = None,
) -> CoalitionChoice:
    """Grow coalitions by both rules on one part, take rule and size by F1 on the next, and count them on test.

    Ties: fewer members, ``or`` first. A concept of which the first part lacks a class has no members; where the second
    does, nothing tells sizes apart, and one stays.

    Args:
        fitted, chosen, test: scores of the same units on train, cal and test, or on two halves of cal and test.
        pairs: unit (int64, -1 for none) and threshold (float64) of each concept, to compare with on test.
        halved: whether the first two are halves of cal.
        earlier: coalitions chosen before, of the same concepts and units: they are counted, and nothing is chosen.

    Raises:
        ArtifactError: as ``find_pairs`` and ``grow_coalitions``.
    """
    if earlier is None:
        scores = {"cal": fitted, "test": chosen}
        first = find_pairs(scores, min_support=min_support).only(two_classes_in(fitted))
        grown = [grow_coalitions(first, scores, rule=rule, max_units=max_units) for rule in RULES]
        picked = [_best_of(grown, concept) for concept in range(len(concepts))]
    else:
        picked = [(earlier.rule(concept) or RULES[0], earlier.pairs(concept)) for concept in range(len(concepts))]
    n = len(concepts)
    parts = (fitted, chosen, test)
    anded = torch.zeros(n, dtype=torch.bool, device="cpu")
    sizes, units, thresholds = [], [], []
    counts = torch.zeros(3, n, 4, dtype=torch.int64, device="cpu")
    intervals = torch.full((n, 2), torch.nan, dtype=torch.float64, device="cpu")
    differences = torch.full((n, 3), torch.nan, dtype=torch.float64, device="cpu")
    for concept, (rule, members) in enumerate(picked):
        sizes.append(len(members))
        anded[concept] = len(members) > 1 and rule == "and"
        units += [unit for unit, _ in members]
        thresholds += [threshold for _, threshold in members]
        detected = []
        for index, part in enumerate(parts):
            hits = torch.zeros_like(part.labels[:, concept])
            for member, pair in enumerate(members):
                one = part.detected(*pair)
                hits = _joined(hits, one, rule) if member else one
            detected.append(hits)
            counts[index, concept] = _confusion(hits, part.labels[:, concept])
        if members and bool(two_classes(counts[2, concept])):
            true, false, missed, _ = counts[2, concept]
            intervals[concept] = f1_interval(true, false, missed)
            unit, threshold = int(pairs[0][concept]), float(pairs[1][concept])
            if unit >= 0:
                truth = test.labels[:, concept][None]
                own, single = (counts_of(each[None], truth) for each in (detected[2], test.detected(unit, threshold)))
                differences[concept] = weighted_f1_difference(own, single).cpu()
    return CoalitionChoice(
        concepts=tuple(concepts),
        n_units=len(test.starts) - 1,
        halved=halved,
        anded=anded,
        member_offsets=offsets_of(torch.tensor(sizes, dtype=torch.int64, device="cpu")),
        unit_ids=torch.tensor(units, dtype=torch.int64, device="cpu"),
        thresholds=torch.tensor(thresholds, dtype=torch.float64, device="cpu"),
        counts=counts,
        intervals=intervals,
        differences=differences,
    )


def _best_of(grown: list[Coalitions], concept: int) -> tuple[str, list[tuple[int, float]]]:
    """Return rule and members, as pairs, with the best F1 on the part that chooses; no members where none was found."""
    if not int(grown[0].sizes[concept]):
        return RULES[0], []
    options = [
        (float(coalitions.f1[1, concept, size - 1].nan_to_num(0)), -size, -rule)
        for rule, coalitions in enumerate(grown)
        for size in range(1, int(coalitions.sizes[concept]) + 1)
    ]
    _, size, rank = max(options)
    best = grown[-rank]
    pairs = zip(best.units[concept].tolist(), best.thresholds[concept].tolist(), strict=True)
    return best.rule, [*pairs][:-size]


class _Columns:
    """The cal scores of the allowed units, each with the begin of its unit's and the end of those it ties with."""

    def __init__(self, cal: ExampleScores, allowed: Bool[Tensor, " units"]):
        inside = allowed.to(cal.keys.device)[cal.keys >> BITS].nonzero().flatten()
        self.keys, self.example = cal.keys[inside], cal.example[inside]
        self.begins = torch.searchsorted(self.keys, self.keys >> BITS << BITS)
        self.stops = torch.searchsorted(self.keys, self.keys, right=True)

    def next_member(
        self,
        truth: Bool[Tensor, " examples"],
        detected: Bool[Tensor, " examples"],
        taken: Int[Tensor, " members"],
        rule: str,
        min_support: int,
    ) -> tuple[int, float] | None:
        """Return unit and threshold that raise F1 most above that of ``detected``; None where no pair raises it."""
        before, n_positive = int((detected & truth).sum()), int(truth.sum())
        n_before = int(detected.sum())
        counted = ~detected if rule == "or" else detected
        # Both counts in one sum: detected examples above bit 32, true ones below.
        weights = (counted.long() << 32) + (counted & truth).long()
        sums = torch.nn.functional.pad(weights[self.example].cumsum(0), (1, 0))
        # F1 can only be largest at a score that finds a true example anew.
        entry = (counted & truth)[self.example].nonzero().flatten()
        both = sums[self.stops[entry]] - sums[self.begins[entry]]
        true, predicted = both & 0xFFFFFFFF, both >> 32
        unit, value = unpack_descending(self.keys[entry])
        valid = (true >= min_support) & ~torch.isin(unit, taken.to(unit.device))
        if rule == "or":
            true, predicted = true + before, predicted + n_before
        half_f1 = torch.where(valid, true.double() / (predicted + n_positive), -1.0)
        if len(half_f1) == 0 or float(half_f1.max()) <= before / max(n_before + n_positive, 1):
            return None
        best = (half_f1 == half_f1.max()).nonzero().flatten()
        for rank in (true, value, -unit):
            best = best[rank[best] == rank[best].max()]
        return int(unit[best[0]]), float(value[best[0]])


def _joined(one: Bool[Tensor, " n"], two: Bool[Tensor, " n"], rule: str) -> Bool[Tensor, " n"]:
    return one | two if rule == "or" else one & two


def _confusion(detected: Bool[Tensor, " n"], truth: Bool[Tensor, " n"]) -> Int[Tensor, " 4"]:
    """Return TP, FP, FN, TN."""
    cells = (detected & truth, detected & ~truth, ~detected & truth, ~detected & ~truth)
    return torch.stack([cell.sum() for cell in cells]).cpu()
