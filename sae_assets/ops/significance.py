"""What chance reaches: labels shuffled over examples, and the exact search repeated on every shuffle.

The search itself lives in ``ops.exact_search``, intervals in ``ops.intervals``, the null of a split that took no
part in the choice in ``ops.held_out_null``.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.errors import ArtifactError
from sae_assets.ops.adjusted_p import benjamini_hochberg, holm, max_t, sequential_p
from sae_assets.ops.chance import quantile
from sae_assets.ops.detection_stats import EVALUATED, ExampleScores
from sae_assets.ops.exact_search import Choices, ExactSearch
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.rank_sums import auroc_of, midrank_excess, rank_sums
from sae_assets.ops.segments import pack_descending

TRUTHS_AT_ONCE = 512  # shuffled truths searched between two looks at the clock
AUROC_SHARE, DRAW_SHARE = 1e-9, 1e-12  # weights by which ties of F1 are broken


@dataclass(frozen=True)
class Significance:
    """Best pairs of the exact search and what shuffled labels reach; axis 0 of two is cal, test.

    Attributes:
        units: int64 [n_concepts], index of the unit chosen on cal; −1 without a pair.
        thresholds: float32 [n_concepts], its threshold; NaN without a pair.
        support: int64 [n_concepts], cal positives that it detects.
        f1, auroc: float64 [2, n_concepts], figures of the chosen pair and of its unit; NaN where they do not exist.
        null_f1: float64 [2, n_concepts, 2], mean and 95 % point of F1 over the shuffles.
        p: float64 [2, n_concepts], share of figures at least as large under shuffled labels, the observed one among
            them; ties of F1 broken by AUROC, then by a draw. Uniform if labels are noise.
        p_ties_against: float64 [2, n_concepts], the same with every tie of F1 counted against the observed figure.
        family_p: float64 [2, n_concepts], adjusted for all concepts of the split, by ``family``.
        q: float64 [2, n_concepts], Benjamini & Hochberg's adjusted p.
        family: ``max-t`` (step-down over joint shuffles) or ``holm``.
        n_shuffles: int64 [n_concepts], shuffles behind a concept's figures.
        n_counted: int64 [2, n_concepts], shuffles behind its p, fewer where counting could stop early.
        weighted_f1: test F1 weighted by test positives, over concepts that have positives on both splits; 0 for one
            without a pair, as on shuffles. weighted_null: float64 [2], its mean and 95 % point. weighted_p: its p. The
            last two are NaN unless shuffles were joint.
        seconds: what the shuffles took.
    """

    units: Int[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    support: Int[Tensor, " concepts"]
    f1: Float[Tensor, "2 concepts"]
    auroc: Float[Tensor, "2 concepts"]
    null_f1: Float[Tensor, "2 concepts 2"]
    p: Float[Tensor, "2 concepts"]
    p_ties_against: Float[Tensor, "2 concepts"]
    family_p: Float[Tensor, "2 concepts"]
    q: Float[Tensor, "2 concepts"]
    family: Literal["max-t", "holm"]
    n_shuffles: Int[Tensor, " concepts"]
    n_counted: Int[Tensor, "2 concepts"]
    weighted_f1: float
    weighted_null: Float[Tensor, " 2"]
    weighted_p: float
    seconds: float


@plain_arithmetic()
def search_null(
    scores: dict[str, ExampleScores],
    *,
    n_shuffles: int = 1000,
    min_support: int = 1,
    family: Literal["auto", "max-t", "holm"] = "auto",
    stop_after: int = 50,
    null_seconds: float | None = None,
    seed: int = 0,
) -> Significance:
    """Search each concept's pair on cal, figure it on test, and do the same under shuffled labels.

    A shuffle permutes the labels over the examples of each split, and everything that looks at labels is repeated: the
    choice among all units and all their scores on cal, and the figure of the chosen pair on test.

    - ``max-t``: one shuffle is of all concepts at once, which keeps how labels go together. Family-wise p by the
      step-down max T of Westfall & Young 1993 (algorithm 4.1) on F1 standardised over the shuffles and the observation.
    - ``holm``: a concept's null depends on its numbers of positives alone, so those of equal numbers share shuffles,
      drawn until each concept's figure was reached ``stop_after`` times (Besag & Clifford 1991). Holm 1979 over
      concepts. No p is below 1 / (``n_shuffles`` + 1): nothing can pass Holm at level α unless ``n_shuffles`` is about
      ``n_concepts / α``.
    - ``auto``: ``max-t``, unless a first batch shows that ``null_seconds`` will not do and sharing costs less.

    ``p = (b + 1) / (m + 1)`` for b of m shuffles at least as good (Phipson & Smyth 2010), or ``stop_after / l`` if the
    ``stop_after``-th of these was shuffle l. F1 of small counts is discrete: a tie is broken by the AUROC of the chosen
    unit on the same labels, then by a number drawn from ``seed``. So p rejects noise at its level however coarse F1 is,
    and is valid, for the broken tie is itself a statistic; ``p_ties_against`` breaks none, and is conservative.

    Args:
        scores: of ``cal`` and ``test``, with labels bool [n_examples, n_concepts].
        min_support: true cal examples that a pair must detect to be chosen.
        null_seconds: stop drawing after about so many; ``n_shuffles`` of the result says how far it came.
        seed: of all draws, made on the CPU so that devices agree.

    A concept whose labels are all alike on a split has no p there: shuffling changes nothing. One without a pair, where
    there might have been one, has p = 1.

    Raises:
        ArtifactError: splits with other units or concepts, or no shuffle asked for.
    """
    return _Null(scores, n_shuffles, min_support, stop_after, null_seconds, seed).run(family)


@dataclass(frozen=True)
class _Figures:
    """F1 and the statistic by which figures are compared, float64 [2, n_truths]: of cal, of test."""

    f1: Tensor
    statistic: Tensor
    auroc: Tensor
    choices: Choices


class _Null:
    """One call's scores, generator and clock."""

    def __init__(
        self,
        scores: dict[str, ExampleScores],
        n_shuffles: int,
        min_support: int,
        stop_after: int,
        null_seconds: float | None,
        seed: int,
    ):
        self.splits = [scores[split] for split in EVALUATED]
        shapes = {(len(each.starts) - 1, each.labels.shape[1]) for each in self.splits}
        if len(shapes) != 1:
            raise ArtifactError(f"Cal and test have (units, concepts) {sorted(shapes)}, expected the same of both.")
        if n_shuffles < 1 or stop_after < 1:
            raise ArtifactError(f"n_shuffles is {n_shuffles}, stop_after {stop_after}; expected at least 1 of each.")
        self.n_shuffles, self.stop_after, self.budget = n_shuffles, stop_after, null_seconds
        self.search = ExactSearch(self.splits[0], min_support=min_support)
        self.excess = [midrank_excess(each) for each in self.splits]
        self.seed = seed
        self.n_positive = torch.stack([each.labels.sum(0) for each in self.splits])

    def run(self, family: Literal["auto", "max-t", "holm"]) -> Significance:
        generator = torch.Generator().manual_seed(self.seed)
        labels = [each.labels for each in self.splits]
        n_concepts = labels[0].shape[1]
        observed = self._figure(
            labels, torch.rand(2, n_concepts, dtype=torch.float64, generator=generator, device="cpu")
        )
        start = time.perf_counter()
        joint = None if family == "holm" else self._joint(start, generator, may_give_up=family == "auto")
        f1, statistic = self._shared(start, observed) if joint is None else joint
        seconds = time.perf_counter() - start
        return self._summed_up(observed, f1, statistic, "holm" if joint is None else "max-t", seconds)

    def _figure(self, truths: list[Tensor], draws: Tensor) -> _Figures:
        """Choose on cal and figure on both splits, for truths bool [n_examples, n_truths]; NaN without positives."""
        choices = self.search.best(truths[0])
        test = self.splits[1]
        unit = choices.units.clamp(min=0)
        keys = pack_descending(unit, self.search.values(choices.units, choices.lengths).nan_to_num(1.0))
        lengths = (torch.searchsorted(test.keys, keys, right=True) - test.starts[unit]) * (choices.units >= 0)
        f1, auroc = [], []
        for number, (split, detected) in enumerate(zip(self.splits, (choices.lengths, lengths), strict=True)):
            hits, ranks = rank_sums(split, self.excess[number], unit, detected, truths[number])
            n, positive = len(split.labels), truths[number].sum(0)
            figure = 2 * hits.double() / (detected + positive).clamp(min=1)
            f1.append(torch.where(positive > 0, figure, torch.nan))
            area = auroc_of(ranks, positive, n)
            auroc.append(torch.where(choices.units >= 0, area, torch.nan))
        both, areas = torch.stack(f1), torch.stack(auroc)
        broken = AUROC_SHARE * areas.nan_to_num(0.5) + DRAW_SHARE * draws.to(both.device)
        # Without a pair the figure is below every other of F1 0; such ties are not broken, and p is then 1.
        return _Figures(both, torch.where(choices.units >= 0, both + broken, 0 * both), areas, choices)

    def _out_of_time(self, start: float) -> bool:
        return self.budget is not None and time.perf_counter() - start > self.budget

    def _joint(self, start: float, generator: torch.Generator, may_give_up: bool) -> tuple[Tensor, Tensor] | None:
        """F1 and statistic of shuffles of all concepts at once, float64 [2, n_concepts, n_shuffles]."""
        n_concepts = self.n_positive.shape[1]
        at_once = max(1, TRUTHS_AT_ONCE // max(1, n_concepts))
        parts, done = [], 0
        while done < self.n_shuffles:
            n = min(at_once, self.n_shuffles - done)
            truths: list[list[Tensor]] = [[], []]
            draws = []
            for _ in range(n):
                for each, split in zip(truths, self.splits, strict=True):
                    order = torch.randperm(len(split.labels), generator=generator, device="cpu")
                    each.append(split.labels[order.to(split.labels.device)])
                draws.append(torch.rand(2, n_concepts, dtype=torch.float64, generator=generator, device="cpu"))
            got = self._figure([torch.cat(each, 1) for each in truths], torch.cat(draws, 1))
            parts.append([part.view(2, n, n_concepts).transpose(1, 2).cpu() for part in (got.f1, got.statistic)])
            done += n
            if may_give_up and self.budget is not None:
                needed = (time.perf_counter() - start) / done * self.n_shuffles
                shared = needed * self.n_positive.unique(dim=1).shape[1] / max(1, n_concepts)
                if needed > self.budget and shared < 0.8 * needed:
                    return None
                may_give_up = False
            if self._out_of_time(start):
                break
        f1, statistic = (torch.cat(each, 2) for each in zip(*parts, strict=True))
        return f1, statistic

    def _shared(self, start: float, observed: _Figures) -> tuple[Tensor, Tensor]:
        """The same, of concepts with equal numbers of positives together; NaN where drawing stopped."""
        pairs, of_concept = self.n_positive.unique(dim=1, return_inverse=True)
        pairs, of_concept = pairs.cpu(), of_concept.cpu()
        generators = [torch.Generator().manual_seed(self.seed + 1 + group) for group in range(pairs.shape[1])]
        f1: list[list[Tensor]] = [[] for _ in generators]
        statistic: list[list[Tensor]] = [[] for _ in generators]
        target, done = observed.statistic.cpu(), 0
        active = [group for group in range(pairs.shape[1]) if int(pairs[:, group].sum())]
        while active and done < self.n_shuffles:
            n = min(max(self.stop_after, TRUTHS_AT_ONCE // len(active)), self.n_shuffles - done)
            truths: list[list[Tensor]] = [[], []]
            draws = []
            for group in active:
                for each, split, count in zip(truths, self.splits, pairs[:, group].tolist(), strict=True):
                    truth = torch.zeros(len(split.labels), n, dtype=torch.bool, device="cpu")
                    for column in range(n):
                        truth[torch.randperm(len(truth), generator=generators[group], device="cpu")[:count], column] = (
                            True
                        )
                    each.append(truth.to(split.labels.device))
                draws.append(torch.rand(2, n, dtype=torch.float64, generator=generators[group], device="cpu"))
            got = self._figure([torch.cat(each, 1) for each in truths], torch.cat(draws, 1))
            for group, some, stats in zip(
                active, got.f1.cpu().split(n, 1), got.statistic.cpu().split(n, 1), strict=True
            ):
                f1[group].append(some)
                statistic[group].append(stats)
            done += n
            if self._out_of_time(start):
                break
            active = [group for group in active if self._goes_on(target[:, of_concept == group], statistic[group])]
        tables = [
            torch.full((2, len(of_concept), done), torch.nan, dtype=torch.float64, device="cpu") for _ in range(2)
        ]
        for table, drawn in zip(tables, (f1, statistic), strict=True):
            for group, some in enumerate(drawn):
                if some:
                    reached = torch.cat(some, 1)
                    table[:, of_concept == group, : reached.shape[1]] = reached[:, None]
        return tables[0], tables[1]

    def _goes_on(self, target: Tensor, parts: list[Tensor]) -> bool:
        """Whether some concept's figure on some split was not yet reached often enough."""
        drawn = torch.cat(parts, 1)
        reached = (drawn[:, None] >= target[..., None]).sum(-1)
        return bool(((reached < self.stop_after) & ~target.isnan()).any())

    def _summed_up(
        self, observed: _Figures, f1: Tensor, statistic: Tensor, family: Literal["max-t", "holm"], seconds: float
    ) -> Significance:
        n_concepts = f1.shape[1]
        sizes = torch.tensor([[len(split.labels)] for split in self.splits], dtype=torch.int64, device="cpu")
        n_positive = self.n_positive.cpu()
        fixed = (n_positive == 0) | (n_positive == sizes) | (n_positive[0] == 0)
        drawn = (~(f1[0].isnan() & f1[1].isnan())).sum(1)
        stop_after = self.stop_after if family == "holm" else self.n_shuffles + 1
        p, against, family_p, q = (
            torch.full((2, n_concepts), torch.nan, dtype=torch.float64, device="cpu") for _ in range(4)
        )
        counted = torch.zeros(2, n_concepts, dtype=torch.int64, device="cpu")
        for split in range(2):
            target = observed.statistic[split].cpu().masked_fill(fixed[split], torch.nan)
            for concept in range(n_concepts):
                one = slice(concept, concept + 1)
                some = slice(0, int(drawn[concept]))
                p[split, one], counted[split, one] = sequential_p(target[one], statistic[split, one, some], stop_after)
                plain = observed.f1[split, one].cpu().masked_fill(fixed[split, one], torch.nan)
                against[split, one], _ = sequential_p(plain, f1[split, one, some], stop_after)
            family_p[split] = max_t(target, statistic[split]) if family == "max-t" else holm(p[split])
            q[split] = benjamini_hochberg(p[split])
        points = torch.stack([f1.nanmean(-1), quantile(f1, 0.95)], -1)
        test, weight = observed.f1[1].cpu(), n_positive[1].double()
        has = (n_positive > 0).all(0)
        weighted = float((test * weight)[has].sum() / weight[has].sum()) if bool(has.any()) else float("nan")
        weighted_null, weighted_p = torch.full((2,), torch.nan, dtype=torch.float64, device="cpu"), float("nan")
        if family == "max-t" and bool(has.any()):
            null = (statistic[1, has] * weight[has, None]).sum(0) / weight[has].sum()
            reached = (f1[1, has] * weight[has, None]).sum(0) / weight[has].sum()
            weighted_null = torch.stack([reached.mean(), quantile(reached[None], 0.95)[0]])
            target = (observed.statistic[1].cpu() * weight)[has].sum() / weight[has].sum()
            weighted_p = (int((null >= target).sum()) + 1) / (len(null) + 1)
        return Significance(
            units=observed.choices.units.cpu(),
            thresholds=self.search.values(observed.choices.units, observed.choices.lengths).cpu(),
            support=observed.choices.hits.cpu(),
            f1=torch.where(observed.choices.units.cpu() >= 0, observed.f1.cpu(), torch.nan),
            auroc=observed.auroc.cpu(),
            null_f1=points,
            p=p,
            p_ties_against=against,
            family_p=family_p,
            q=q,
            family=family,
            n_shuffles=drawn,
            n_counted=counted,
            weighted_f1=weighted,
            weighted_null=weighted_null,
            weighted_p=weighted_p,
            seconds=seconds,
        )
