"""Labels of test are shuffled under fixed pairs to say what chance reaches with pairs that were chosen without it.

The choice has seen nothing of the split, so however it was made the figures are exchangeable under shuffles if labels
are noise. A null of the split that chooses has to repeat the choice: ``ops.significance``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.adjusted_p import benjamini_hochberg, max_t, sequential_p
from sae_assets.ops.chance import quantile
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.rank_sums import auroc_of, midrank_excess, rank_sums
from sae_assets.ops.shuffled_search import AUROC_SHARE, DRAW_SHARE, TRUTHS_AT_ONCE
from sae_assets.ops.sorted_scores import ExampleScores


@dataclass(frozen=True)
class HeldOutNull:
    """Shuffled labels of a split reach these figures with fixed pairs; NaN where a concept lacks a class there.

    Attributes:
        null_f1: float64 [n_concepts, 2], mean and 95 % point of F1 over the shuffles.
        p: float64 [n_concepts], ``(b + 1) / (m + 1)`` for b of m shuffles at least as good (Phipson & Smyth 2010); ties
            of F1 are broken by the unit's AUROC, then by a draw. 1 without a pair.
        family_p: float64 [n_concepts], over all concepts, by step-down max T of joint shuffles (Westfall & Young 1993).
        q: float64 [n_concepts], Benjamini & Hochberg 1995 over concepts.
        weighted: float64 [3], mean and 95 % point of F1 weighted by positives, and the p of the observed one.
    """

    null_f1: Float[Tensor, "concepts 2"]
    p: Float[Tensor, " concepts"]
    family_p: Float[Tensor, " concepts"]
    q: Float[Tensor, " concepts"]
    weighted: Float[Tensor, " 3"]


@plain_arithmetic()
def shuffle_held_out(
    scores: ExampleScores,
    units: Int[Tensor, " concepts"],
    thresholds: Float[Tensor, " concepts"],
    counted: Tensor,
    *,
    n_shuffles: int,
    seed: int = 0,
) -> HeldOutNull:
    """Return the null of pairs on a split that took no part in their choice.

    A shuffle permutes the labels over the examples, of all concepts at once, which keeps how labels go together.

    Args:
        units: of the scores, -1 without a pair; thresholds: NaN without a pair.
        counted: bool [n_concepts], concepts that take part in the weighted mean.
        n_shuffles: 0 leaves all out (NaN).
        seed: of all draws, made on the CPU so that devices agree.
    """
    device, labels = scores.keys.device, scores.labels
    (n, n_concepts), generator = labels.shape, torch.Generator().manual_seed(seed)
    units, thresholds = units.to(device), thresholds.to(device)
    chosen, unit = units >= 0, units.clamp(min=0)
    detected = (scores.stops(unit, thresholds) - scores.starts[unit]) * chosen
    excess = midrank_excess(scores)

    def figures(truths: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return F1 and statistic, [n_concepts, draws], of truths bool [n_examples, draws * n_concepts]."""
        times = truths.shape[1] // max(1, n_concepts)
        positive = truths.sum(0)
        hits, ranks = rank_sums(scores, excess, unit.repeat(times), detected.repeat(times), truths, positive)
        f1 = 2 * hits.double() / (detected.repeat(times) + positive).clamp(min=1)
        broken = AUROC_SHARE * auroc_of(ranks, positive, n).nan_to_num(0.5) + DRAW_SHARE * draws.to(device)
        # Without a pair the figure is below every other of F1 0; such ties are not broken, and p is then 1.
        statistic = torch.where(chosen.repeat(times), f1 + broken, 0 * f1)
        return f1.view(times, n_concepts).T.cpu(), statistic.view(times, n_concepts).T.cpu()

    def draw(times: int) -> Tensor:
        return torch.rand(times * n_concepts, dtype=torch.float64, generator=generator, device="cpu")

    positive = labels.sum(0).cpu()
    exists = (positive > 0) & (positive < n)
    observed = figures(labels, draw(1))[1][:, 0].masked_fill(~exists, torch.nan)
    parts, at_once = [], max(1, TRUTHS_AT_ONCE // max(1, n_concepts))
    for done in range(0, n_shuffles, at_once):
        times = min(at_once, n_shuffles - done)
        orders = [torch.randperm(n, generator=generator, device="cpu").to(device) for _ in range(times)]
        parts.append(figures(torch.cat([labels[order] for order in orders], 1), draw(times)))
    nothing = torch.empty(n_concepts, 0, dtype=torch.float64, device="cpu")
    null_f1, null = (torch.cat(each, 1) for each in zip(*parts, strict=True)) if parts else (nothing, nothing)
    if not n_shuffles:
        observed = torch.full_like(observed, torch.nan)
    p, _ = sequential_p(observed, null, n_shuffles + 1)
    points = torch.stack([null_f1.nanmean(-1), quantile(null_f1, 0.95)], -1).masked_fill(~exists[:, None], torch.nan)
    weight = positive.double() * (counted & exists)
    weighted = torch.full((3,), torch.nan, dtype=torch.float64, device="cpu")
    if n_shuffles and float(weight.sum()):
        mean, statistic = (weight @ each / weight.sum() for each in (null_f1, null))
        reached = statistic >= weight @ observed.nan_to_num() / weight.sum()
        share = (int(reached.sum()) + 1) / (n_shuffles + 1)
        weighted = torch.stack([mean.mean(), quantile(mean[None], 0.95)[0], mean.new_tensor(share)])
    return HeldOutNull(points, p, max_t(observed, null), benjamini_hochberg(p), weighted)
