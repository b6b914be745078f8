"""Labels are shuffled over examples, and the exact search repeated on every shuffle, to say what chance reaches.

The search itself lives in ``ops.exact_search``, shuffles in ``ops.shuffled_search``, intervals in ``ops.intervals``,
the null of a split that took no part in the choice in ``ops.held_out_null``.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.adjusted_p import benjamini_hochberg, holm, max_t, sequential_p
from sae_assets.ops.chance import quantile
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.shuffled_search import Figures, ShuffledSearch
from sae_assets.ops.sorted_scores import ExampleScores


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
    search = ShuffledSearch(scores, n_shuffles, min_support, stop_after, null_seconds, seed)
    generator = torch.Generator().manual_seed(seed)
    labels = [split.labels for split in search.splits]
    n_concepts = labels[0].shape[1]
    draws = torch.rand(2, n_concepts, dtype=torch.float64, generator=generator, device="cpu")
    observed = search.figure(labels, search.n_positive, draws)
    start = time.perf_counter()
    joint = None if family == "holm" else search.joint(start, generator, may_give_up=family == "auto")
    f1, statistic = search.shared(start, observed) if joint is None else joint
    seconds = time.perf_counter() - start
    return _summed_up(search, observed, f1, statistic, "holm" if joint is None else "max-t", seconds)


def _summed_up(
    search: ShuffledSearch,
    observed: Figures,
    f1: Tensor,
    statistic: Tensor,
    family: Literal["max-t", "holm"],
    seconds: float,
) -> Significance:
    n_concepts = f1.shape[1]
    sizes = torch.tensor([[len(split.labels)] for split in search.splits], dtype=torch.int64, device="cpu")
    n_positive = search.n_positive.cpu()
    fixed = (n_positive == 0) | (n_positive == sizes) | (n_positive[0] == 0)
    drawn = (~(f1[0].isnan() & f1[1].isnan())).sum(1)
    stop_after = search.stop_after if family == "holm" else search.n_shuffles + 1
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
        thresholds=search.search.scores.values_at(observed.choices.units, observed.choices.lengths).cpu(),
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
