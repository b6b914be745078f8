"""The exact search on cal and its figure on test, for true labels and for shuffled ones, which are drawn here.

What the draws say of the true labels is summed up in ``ops.significance``.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from sae_assets.errors import ArtifactError
from sae_assets.ops.exact_search import Choices, ExactSearch
from sae_assets.ops.rank_sums import auroc_of, midrank_excess, rank_sums
from sae_assets.ops.segments import pack_descending
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores

TRUTHS_AT_ONCE = 512  # shuffled truths searched between two looks at the clock
AUROC_SHARE, DRAW_SHARE = 1e-9, 1e-12  # weights by which ties of F1 are broken


@dataclass(frozen=True)
class Figures:
    """F1 and the statistic by which figures are compared, float64 [2, n_truths]: of cal, of test."""

    f1: Tensor
    statistic: Tensor
    auroc: Tensor
    choices: Choices


class ShuffledSearch:
    """The scores of one call, its draws and its clock."""

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

    def figure(self, truths: list[Tensor], n_positive: Tensor, draws: Tensor) -> Figures:
        """Choose on cal and figure on both splits, for truths bool [n_examples, n_truths]; NaN without positives.

        ``n_positive``: int64 [2, n_truths], how many examples each truth holds of, which no shuffle changes.
        """
        choices = self.search.best(truths[0], n_positive=n_positive[0])
        test = self.splits[1]
        unit = choices.units.clamp(min=0)
        keys = pack_descending(unit, self.search.scores.values_at(choices.units, choices.lengths).nan_to_num(1.0))
        lengths = (torch.searchsorted(test.keys, keys, right=True) - test.starts[unit]) * (choices.units >= 0)
        f1, auroc = [], []
        for number, (split, detected) in enumerate(zip(self.splits, (choices.lengths, lengths), strict=True)):
            n, positive = len(split.labels), n_positive[number]
            hits, ranks = rank_sums(split, self.excess[number], unit, detected, truths[number], positive)
            figure = 2 * hits.double() / (detected + positive).clamp(min=1)
            f1.append(torch.where(positive > 0, figure, torch.nan))
            area = auroc_of(ranks, positive, n)
            auroc.append(torch.where(choices.units >= 0, area, torch.nan))
        both, areas = torch.stack(f1), torch.stack(auroc)
        broken = AUROC_SHARE * areas.nan_to_num(0.5) + DRAW_SHARE * draws.to(both.device)
        # Without a pair the figure is below every other of F1 0; such ties are not broken, and p is then 1.
        return Figures(both, torch.where(choices.units >= 0, both + broken, 0 * both), areas, choices)

    def _out_of_time(self, start: float) -> bool:
        return self.budget is not None and time.perf_counter() - start > self.budget

    def joint(self, start: float, generator: torch.Generator, may_give_up: bool) -> tuple[Tensor, Tensor] | None:
        """Return F1 and statistic of shuffles of all concepts at once, float64 [2, n_concepts, n_shuffles]."""
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
            n_positive = self.n_positive.repeat(1, n)
            got = self.figure([torch.cat(each, 1) for each in truths], n_positive, torch.cat(draws, 1))
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

    def shared(self, start: float, observed: Figures) -> tuple[Tensor, Tensor]:
        """Return the same, of concepts with equal numbers of positives together; NaN where drawing stopped."""
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
            n_positive = pairs[:, active].repeat_interleave(n, 1).to(self.n_positive.device)
            got = self.figure([torch.cat(each, 1) for each in truths], n_positive, torch.cat(draws, 1))
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
        """Return whether some concept's figure on some split was not yet reached often enough."""
        drawn = torch.cat(parts, 1)
        reached = (drawn[:, None] >= target[..., None]).sum(-1)
        return bool(((reached < self.stop_after) & ~target.isnan()).any())
