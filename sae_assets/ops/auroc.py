"""The confidence interval of an AUROC."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic

# Chosen by simulation (`benchmarks/bench_interval_choices.py`), as what stays within .93 and .98 most often.
UNSEEN = 0.15  # of an example of each class that is added, as far off as can be; a whole one where a class ties
LEANING = 0.14  # how much of the error is moved from the limit towards ½ to the other one, at AUROC 0 and 1
ROUNDING = 1e-12  # least distance of a proportion from 0 and 1
TIED = 1e-20  # sum of squares below which placements are equal: above what rounding leaves, below 1/(2m)²


@plain_arithmetic()
def auroc_interval(
    scores: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"], level: float = 0.95
) -> Float[Tensor, "*n 3"]:
    """Return AUROC, ties counted half, with its interval: estimate, low, high.

    The variance is that of DeLong, DeLong & Clarke-Pearson (1988): of the placements of each class (shares of the
    others that lie on the right side) over its size. For each limit ``UNSEEN`` of an example is added to each class,
    placed where that limit lies: at 0 for the lower, at 1 for the upper one (as Agresti & Coull 1998 add successes and
    failures). Placements far off are few, and a sample may hold none of them; a class whose placements are all equal,
    though not all in order, says nothing of how they vary, and gets a whole example.

    The limit towards ½ is Wilson's (1927) of a proportion A of ``A (1 − A) / V`` examples. The other one is that of
    logit A (Pepe 2003), farther off where few placements are what speaks for it, by their skewness γ:
    ``z + γ (2 z² + 1) / 6`` errors in place of z (Johnson 1978; Hall 1983). Close to 0 and 1 the first can hardly be
    too near, so up to ``LEANING`` of the error is allowed to the second in its place.

    NaN without two classes.
    """
    x = scores.double().contiguous()
    parts = []
    for mine, others, sign in ((truth, ~truth, 1), (~truth, truth, -1)):
        rest = torch.where(others, sign * x, torch.inf).sort(-1).values
        below = torch.searchsorted(rest, sign * x) + torch.searchsorted(rest, sign * x, right=True)
        n, m = mine.sum(-1, keepdim=True), others.sum(-1, keepdim=True)
        placed = torch.where(mine, below.double() / (2 * m.clamp(min=1)), 0.0)
        mean = placed.sum(-1, keepdim=True) / n.clamp(min=1)
        apart = torch.where(mine, placed - mean, 0.0)
        parts.append((n[..., 0].double(), mean[..., 0], apart.square().sum(-1), apart.pow(3).sum(-1)))
    area = parts[0][1]
    ends = []
    for end, towards_half in ((0.0, area >= 0.5), (1.0, area <= 0.5)):
        variance, skew, mean = torch.zeros_like(area), torch.zeros_like(area), area
        for n, _, squares, cubes in parts:
            varies = (squares > TIED) | (area <= 0) | (area >= 1)
            added = torch.where(varies, torch.full_like(area, UNSEEN), 1.0)
            size = (n + added).clamp(min=1)
            variance = variance + (squares + n * added * (end - area).square() / size) / (size * (size - 1 + TIED))
            skew = skew + (2 * end - 1) * cubes / n.clamp(min=1).pow(3)
            mean = torch.where(towards_half, mean + added * (end - area) / size, mean)
        leaning = LEANING * (2 * area - 1).abs()
        tail = (1 - level) * (0.5 + torch.where(towards_half, -leaning, leaning))
        z = (1 - 2 * end) * torch.special.ndtri(tail)
        mean = mean.clamp(ROUNDING, 1 - ROUNDING)
        skewed = skew.clamp(min=0) / variance.pow(1.5) * (2 * z.square() + 1) / 6
        limit = torch.where(towards_half, _wilson(mean, variance, z), _on_logits(mean, variance, z + z.sign() * skewed))
        ends.append(torch.where(area == end, end, limit))
    exists = (parts[0][0] > 0) & (parts[1][0] > 0)
    return torch.where(exists[..., None], torch.stack([area, *ends], -1), torch.nan)


def _wilson(mean: Tensor, variance: Tensor, z: Tensor) -> Tensor:
    """Limit of Wilson's interval of ``mean (1 − mean) / variance`` examples on the side of z."""
    share = z.square() * variance / (mean * (1 - mean))  # z² over the number of examples
    return (mean + share / 2 + z.sign() * (share * (mean * (1 - mean) + share / 4)).sqrt()) / (1 + share)


def _on_logits(mean: Tensor, variance: Tensor, z: Tensor) -> Tensor:
    """Limit z errors away on the logit scale."""
    return (mean.logit() + z * variance.sqrt() / (mean * (1 - mean))).sigmoid()
