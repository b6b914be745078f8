"""Confidence intervals of detection figures: proportions, F1, AUROC, means of F1 over concepts, and differences.

Counts and scores come in, limits go out, float64 with low and high along the last axis; what does not exist is NaN, and
no interval has width 0. Examples are the units that are drawn: rows of one example are never taken for independent.
"""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sae_assets.ops.beta import beta_quantile
from sae_assets.ops.process_state import plain_arithmetic

# Chosen by simulation (`benchmarks/bench_interval_choices.py`), as what stays within .93 and .98 most often.
PRIOR = 0.6  # a proportion's prior is Beta(PRIOR, PRIOR); Jeffreys' is 1/2
PSEUDO_ERRORS = 8.0  # weight of the cautious design effect, in examples with an error
PSEUDO_EXAMPLES = 4.0  # weight of Hanley & McNeil's variance beside DeLong's, in examples of the smaller class


@plain_arithmetic()
def wilson_interval(k: Shaped[Tensor, "*n"], n: Shaped[Tensor, "*n"], level: float = 0.95) -> Float[Tensor, "*n 2"]:
    """Score interval of k successes in n (Wilson 1927). NaN where n is 0."""
    z, k, n = _z(level), k.double(), n.double()
    middle, half = k + z * z / 2, z * (k * (n - k) / n + z * z / 4).clamp(min=0).sqrt()
    limits = torch.stack([middle - half, middle + half], -1) / (n + z * z)[..., None]
    return _within(limits, k, n)


@plain_arithmetic()
def beta_interval(k: Shaped[Tensor, "*n"], n: Shaped[Tensor, "*n"], level: float = 0.95) -> Float[Tensor, "*n 2"]:
    """Equal-tailed interval of a Beta(0.6, 0.6) prior, 0 from k = 0 and 1 from k = n.

    Quantiles of Beta(k + 0.6, n − k + 0.6). With ½ it is Jeffreys' (Brown, Cai & DasGupta 2001), which covers too much
    and too little more often where n is itself random. k and n need not be whole. NaN where n is 0.
    """
    k, n = k.double(), n.double()
    both, size = torch.stack([k.flatten(), n.flatten() - k.flatten()]), n.flatten()
    # The upper limit of k successes is 1 − the lower one of n − k; a limit that is certain is not computed.
    a, b = (torch.where((size > 0) & (both > 0), each + PRIOR, 1.0).flatten() for each in (both, both.flip(0)))
    tail = torch.full_like(a, (1 - level) / 2)
    parts = [beta_quantile(*each) for each in zip(a.split(4096), b.split(4096), tail.split(4096), strict=True)]
    low = torch.cat(parts).view(2, *n.shape) if parts else both.view(2, *n.shape)
    return _within(torch.stack([low[0], 1 - low[1]], -1), k, n)


@plain_arithmetic()
def f1_interval(
    tp: Shaped[Tensor, "*n"], fp: Shaped[Tensor, "*n"], fn: Shaped[Tensor, "*n"], level: float = 0.95
) -> Float[Tensor, "*n 2"]:
    """Interval of F1 from the counts of independent examples.

    ``J = TP / (TP + FP + FN)`` is a proportion of ``n = TP + FP + FN`` examples, binomial given n, and
    ``F1 = 2J / (1 + J)`` (Lam, Gopal & Qian 2023, arXiv:2309.14621). They take Wilson's interval of J; ours is
    :func:`beta_interval`, because n is itself random and small, where Wilson's coverage drops to .84 near J = 1.

    NaN where nothing is positive and nothing was detected.
    """
    j = beta_interval(tp, tp + fp + fn, level)
    return 2 * j / (1 + j)


@plain_arithmetic()
def auroc_interval(
    scores: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"], level: float = 0.95
) -> Float[Tensor, "*n 3"]:
    """AUROC, ties counted half, with its interval: estimate, low, high.

    DeLong, DeLong & Clarke-Pearson's variance (1988) is blended with that of Hanley & McNeil (1982, in the symmetric
    form of Newcombe 2006, method 5), which counts as ``PSEUDO_EXAMPLES`` examples of the smaller class. Their ratio r
    scales Hanley & McNeil's variance V, and the limits are where ``|estimate − A| = t √(r V(A))``: a score interval, so
    it has a width at AUROC 1, where DeLong's variance is 0. t has Welch & Satterthwaite's degrees of freedom of
    DeLong's two parts and ``PSEUDO_EXAMPLES`` more.

    NaN without two classes.
    """
    x = scores.double()
    part = []
    for mine, others in ((truth, ~truth), (~truth, truth)):
        rest = torch.where(others, x, torch.inf).sort(-1).values
        below = torch.searchsorted(rest, x) + torch.searchsorted(rest, x, right=True)
        n, m = mine.sum(-1, keepdim=True), others.sum(-1, keepdim=True)
        placed = torch.where(mine, below.double() / (2 * m.clamp(min=1)), 0.0)  # share of the others that lie below
        mean = placed.sum(-1, keepdim=True) / n.clamp(min=1)
        spread = torch.where(mine, (placed - mean).square(), 0.0).sum(-1) / (n[..., 0] - 1).clamp(min=1)
        part.append((n[..., 0].double(), mean[..., 0], spread / n[..., 0].clamp(min=1)))
    (n_positive, area, of_positive), (n_negative, _, of_negative) = part
    fewer = torch.minimum(n_positive, n_negative)
    variance = of_positive + of_negative
    inner = (area * fewer + 0.5) / (fewer + 1)
    prior = PSEUDO_EXAMPLES * _hanley_mcneil(inner, n_positive, n_negative)
    ratio = (fewer * variance + prior) / (fewer * _hanley_mcneil(area, n_positive, n_negative) + prior)
    spread = of_positive**2 / (n_positive - 1).clamp(min=1) + of_negative**2 / (n_negative - 1).clamp(min=1)
    freedom = torch.where(spread > 0, variance**2 / spread.clamp(min=1e-300), (fewer - 1).clamp(min=1))
    t = _t(level, freedom + PSEUDO_EXAMPLES)
    limits = []
    for far in (0.0, 1.0):
        outside, inside = torch.full_like(area, far), area.clone()
        for _ in range(60):
            middle = (outside + inside) / 2
            near = (area - middle).abs() <= t * (ratio * _hanley_mcneil(middle, n_positive, n_negative)).sqrt()
            inside, outside = torch.where(near, middle, inside), torch.where(near, outside, middle)
        limits.append(inside)
    result = torch.stack([area, *limits], -1)
    return torch.where((fewer > 0)[..., None], result, torch.nan)


def counts_of(
    detected: Bool[Tensor, "concepts examples"], truth: Bool[Tensor, "concepts examples"]
) -> Int[Tensor, "concepts examples 3"]:
    """TP, FP and FN of each example by itself, as the functions below take them."""
    return torch.stack([detected & truth, detected & ~truth, ~detected & truth], -1).long()


def weighted_f1(counts: Int[Tensor, "concepts examples 3"]) -> Float[Tensor, ""]:
    """Mean over concepts of F1, weighted by their positives; NaN without a positive."""
    return _weighted(counts.double().sum(1)[..., None])[0]


@plain_arithmetic()
def weighted_f1_interval(counts: Int[Tensor, "concepts examples 3"], level: float = 0.95) -> Float[Tensor, " 3"]:
    """Mean over concepts of F1, weighted by positives, with its interval: estimate, low, high.

    With one concept it is F1 itself; with counts of rows, the interval knows that rows of an example go together.

    The mean M is treated as F1 is: ``J = M / (2 − M)`` as a proportion of an effective number of examples,
    ``J (1 − J) / Var J`` (Kish 1965; Korn & Graubard 1998), limits of :func:`beta_interval` mapped back. The variance
    is the infinitesimal jackknife's over examples (Efron 1982), blended with that of errors that go wholly together
    within an example, which counts as ``PSEUDO_ERRORS`` examples with an error. How many go together is the mean over
    errors of the errors in their example, and for one example more all of its counts. So there is a width without any
    error too.

    NaN without a positive.
    """
    estimate, low, high, _ = _effective(counts, level)
    return torch.stack([estimate, low, high])


@plain_arithmetic()
def weighted_f1_difference(
    counts: Int[Tensor, "concepts examples 3"], others: Int[Tensor, "others examples 3"], level: float = 0.95
) -> Float[Tensor, " 3"]:
    """Difference of two weighted means of F1 on the same examples, with its interval: estimate, low, high.

    The limits of both are combined as squares, with the correlation of their jackknife values (Newcombe 1998, method
    10; Zou & Donner 2008). Detectors that agree on every example keep a width: others of the kind might not.
    """
    one, low, high, values = _effective(counts, level)
    two, low_2, high_2, values_2 = _effective(others, level)
    scale = (values.square().sum() * values_2.square().sum()).sqrt()
    r = torch.where(scale > 0, (values * values_2).sum() / scale.clamp(min=1e-300), 0.0)
    below = _root((one - low) ** 2, (high_2 - two) ** 2, r)
    above = _root((high - one) ** 2, (two - low_2) ** 2, r)
    return torch.stack([one - two, one - two - below, one - two + above])


@plain_arithmetic()
def difference_to_draws(
    counts: Int[Tensor, "concepts examples 3"], draws: Int[Tensor, "draws concepts examples 3"], level: float = 0.95
) -> Float[Tensor, " 3"]:
    """Difference to detectors that were drawn at random, to their mean: estimate, low, high.

    Each limit is the farther one of two. One is that of :func:`weighted_f1_difference` to the mean of these draws: of
    other examples. The other is ``± t s √(1 + 1/S)``, s the deviation of the S draws' weighted means on these examples,
    t of S − 1 degrees of freedom: of another draw (a prediction interval, Whitmore 1986). So a detector that was drawn
    as these were differs from them by 0 within its interval. NaN limits with a single draw, which does not say how
    draws vary.
    """
    n_draws = len(draws)
    every = torch.stack([weighted_f1(each) for each in draws])
    estimate, low, high = weighted_f1_difference(counts, draws.flatten(0, 1), level)
    freedom = torch.tensor(max(1.0, n_draws - 1.0), dtype=torch.float64, device=counts.device)
    far = _t(level, freedom) * every.std() * math.sqrt(1 + 1 / n_draws) if n_draws > 1 else every[0] * torch.nan
    ends = torch.minimum(low, estimate - far).clamp(min=-1), torch.maximum(high, estimate + far).clamp(max=1)
    return torch.stack([estimate, *(torch.where(far.isnan(), torch.nan, end) for end in ends)])


@plain_arithmetic()
def bootstrap_f1(
    counts: Int[Tensor, "concepts examples 3"],
    others: Int[Tensor, "concepts examples 3"] | None = None,
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Float[Tensor, " 3"]:
    """The weighted mean of F1, or its difference to another detector's, with a BCa interval: estimate, low, high.

    Examples are resampled jointly for all concepts and both detectors, with all their rows: a cluster bootstrap. Bias
    and acceleration as in Efron 1987, the latter by leaving out each example. A resample cannot hold an error that the
    sample has not: near F1 = 1 this interval covers half as often as it says, and if all resamples agree it is NaN;
    :func:`weighted_f1_interval` and :func:`weighted_f1_difference` have no such region.
    """
    n, device = counts.shape[1], counts.device
    figure = _weighted(counts.double().sum(1)[..., None])[0]
    empty = torch.full((2,), torch.nan, dtype=torch.float64, device=device)
    if others is not None:
        figure = figure - _weighted(others.double().sum(1)[..., None])[0]
    if n < 2 or bool(figure.isnan()):
        return torch.cat([figure[None], empty])
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (n_resamples, n), generator=generator, device="cpu")
    drawn += torch.arange(n_resamples, device="cpu")[:, None] * n
    weights = torch.bincount(drawn.flatten(), minlength=n_resamples * n).view(n_resamples, n).T.double().to(device)
    reached, left = _resampled(counts, weights), _left_out(counts)
    if others is not None:
        reached, left = reached - _resampled(others, weights), left - _left_out(others)
    reached = reached[~reached.isnan()]
    if not len(reached) or bool((reached == reached[0]).all()):
        return torch.cat([figure[None], empty])
    below = ((reached < figure).sum() + (reached == figure).sum() / 2) / len(reached)
    bias = torch.special.ndtri(below.double().clamp(0.5 / len(reached), 1 - 0.5 / len(reached)))
    left = left[~left.isnan()]
    skew = left.mean() - left
    acceleration = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5).clamp(min=1e-300)
    z = torch.tensor([-_z(level), _z(level)], dtype=torch.float64, device=device)
    share = torch.special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    return torch.cat([figure[None], reached.quantile(share)])


def _within(limits: Tensor, k: Tensor, n: Tensor) -> Tensor:
    """0 where nothing succeeded and 1 where everything did, in place of rounding; NaN where n is 0."""
    low = torch.where(k <= 0, 0.0, limits[..., 0].clamp(min=0))
    high = torch.where(k >= n, 1.0, limits[..., 1].clamp(max=1))
    return torch.where((n > 0)[..., None], torch.stack([low, high], -1), torch.nan)


def _z(level: float) -> float:
    return math.sqrt(2) * float(torch.special.erfinv(torch.tensor(level, dtype=torch.float64, device="cpu")))


def _t(level: float, freedom: Tensor) -> Tensor:
    """Quantile of Student's t, by its expansion in 1 / freedom (Abramowitz & Stegun 26.7.5)."""
    z = _z(level)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _hanley_mcneil(area: Tensor, n_positive: Tensor, n_negative: Tensor) -> Tensor:
    """Variance of the AUROC of exponential scores, sizes averaged (Newcombe 2006)."""
    half = (n_positive + n_negative) / 2 - 1
    shape = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * shape / (n_positive * n_negative).clamp(min=1)


def _weighted(sums: Float[Tensor, "concepts 3 draws"]) -> Float[Tensor, " draws"]:
    """Weighted mean of F1 of TP, FP, FN summed over examples."""
    true, false, missed = sums.unbind(1)
    positive = true + missed
    f1 = 2 * true / (2 * true + false + missed).clamp(min=1e-300)
    return (f1 * positive).sum(0) / positive.sum(0)


def _resampled(counts: Tensor, weights: Float[Tensor, "examples draws"]) -> Float[Tensor, " draws"]:
    return _weighted(counts.double().transpose(1, 2) @ weights)


def _left_out(counts: Tensor) -> Float[Tensor, " examples"]:
    each = counts.double().transpose(1, 2)
    return _weighted(each.sum(-1, keepdim=True) - each)


def _effective(counts: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted mean of F1, its limits, and its infinitesimal jackknife values per example."""
    each = counts.double()
    sums = each.sum(1)
    mean = _weighted(sums[..., None])[0]
    true, false, missed = each.unbind(-1)
    positive, bottom = sums[:, 0] + sums[:, 2], (2 * sums[:, 0] + sums[:, 1] + sums[:, 2]).clamp(min=1e-300)
    f1 = 2 * sums[:, 0] / bottom
    slope = (positive / bottom)[:, None] * (2 * true - f1[:, None] * (2 * true + false + missed))
    values = ((f1[:, None] - mean) * (true + missed) + slope).sum(0) / positive.sum()
    n = each.shape[1]
    share = mean / (2 - mean)
    variance = values.square().sum() * n / max(1, n - 1) * (2 / (2 - mean) ** 2) ** 2
    events = sums.sum()
    touched, wrong = (each.sum(-1) > 0).any(0).sum(), ((false + missed) > 0).any(0).sum()
    together = events / touched.clamp(min=1)
    plain = share * (1 - share) / events
    errors = (false + missed).sum(0)
    clump = (wrong * errors.square().sum() / errors.sum().clamp(min=1) + together) / (wrong + 1)
    effect = torch.where(plain > 0, variance / plain.clamp(min=1e-300), together)
    effect = (wrong * effect + PSEUDO_ERRORS * clump) / (wrong + PSEUDO_ERRORS)
    size = torch.where(mean.isnan(), 0.0, events / effect.clamp(min=1e-300))
    j = beta_interval(share * size, size, level)
    low, high = 2 * j / (1 + j)
    return mean, low, high, values


def _root(first: Tensor, second: Tensor, r: Tensor) -> Tensor:
    return (first - 2 * r * (first * second).sqrt() + second).clamp(min=0).sqrt()
