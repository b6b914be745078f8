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
MEAN_PRIOR = 1.0  # the same of a mean, whose number of examples is estimated
CLUMPED = 3.0  # weight of the cautious design effect, in examples that the variance rests on
CAUTION = 1.5  # how much it exceeds that of errors which go wholly together
FREEDOM = 2.0  # degrees of freedom beside those of the variance
DISCORDANT = 0.1  # errors that a difference has beside those seen
MISPLACED = 0.4  # variance of a placement over A(1 − A), of the examples that nobody saw: one, and SEED of one
SEED = 0.3
COUNTS_AT_ONCE = 2**21  # of examples, in memory: 16 MB and a dozen times that beside them


@plain_arithmetic()
def wilson_interval(k: Shaped[Tensor, "*n"], n: Shaped[Tensor, "*n"], level: float = 0.95) -> Float[Tensor, "*n 2"]:
    """Score interval of k successes in n (Wilson 1927). NaN where n is 0."""
    z, k, n = _z(level), k.double(), n.double()
    middle, half = k + z * z / 2, z * (k * (n - k) / n + z * z / 4).clamp(min=0).sqrt()
    limits = torch.stack([middle - half, middle + half], -1) / (n + z * z)[..., None]
    return _within(limits, k, n)


@plain_arithmetic()
def beta_interval(
    k: Shaped[Tensor, "*n"], n: Shaped[Tensor, "*n"], level: float = 0.95, prior: float | None = None
) -> Float[Tensor, "*n 2"]:
    """Equal-tailed interval of a Beta(0.6, 0.6) prior, 0 from k = 0 and 1 from k = n.

    Quantiles of Beta(k + 0.6, n − k + 0.6). With ½ it is Jeffreys' (Brown, Cai & DasGupta 2001), which covers too much
    and too little more often where n is itself random. k and n need not be whole. NaN where n is 0.

    Args:
        prior: in place of 0.6.
    """
    prior = PRIOR if prior is None else prior
    k, n = k.double(), n.double()
    both, size = torch.stack([k.flatten(), n.flatten() - k.flatten()]), n.flatten()
    # The upper limit of k successes is 1 − the lower one of n − k; a limit that is certain is not computed.
    a, b = (torch.where((size > 0) & (both > 0), each + prior, 1.0).flatten() for each in (both, both.flip(0)))
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

    Limits are Wilson's of a proportion A of ``N = A (1 − A) / V`` examples, V a variance in the manner of DeLong,
    DeLong & Clarke-Pearson (1988): that of the placements of each class (shares of the others that lie on the right
    side) over the class's size. What nobody saw can be far worse than what is seen and hardly better, so each limit has
    a V. Away from ½ it is DeLong's own. Towards ½ the variance of each class, over A (1 − A), is blended with
    ``MISPLACED``, which counts as one example; what is seen counts as ``(Σ e)² / Σ e²`` examples, e what each placement
    lacks of 1 (Kish 1965), for few examples far out decide. So there is a width at AUROC 1, where DeLong's variance is
    0. Where that says nothing, being 0 or of a class of one example, both limits have the blended one.

    NaN without two classes.
    """
    x = scores.double().contiguous()
    parts = []
    for mine, others in ((truth, ~truth), (~truth, truth)):
        rest = torch.where(others, x, torch.inf).sort(-1).values
        below = torch.searchsorted(rest, x) + torch.searchsorted(rest, x, right=True)
        n, m = mine.sum(-1, keepdim=True), others.sum(-1, keepdim=True)
        placed = torch.where(mine, below.double() / (2 * m.clamp(min=1)), 0.0)  # share of the others that lie below
        mean = placed.sum(-1, keepdim=True) / n.clamp(min=1)
        squares = torch.where(mine, (placed - mean).square(), 0.0).sum(-1)
        parts.append((n[..., 0].double(), mean[..., 0], squares))
    (n_positive, area, _), (n_negative, _, _) = parts
    lacking = torch.minimum(area, 1 - area)
    far, near = torch.zeros_like(area), torch.zeros_like(area)
    for n, _, squares in parts:
        seen = n * lacking.square() / (squares / n.clamp(min=1) + lacking.square()).clamp(min=1e-300)
        pulled = (n * lacking + SEED) / (n + 2 * SEED)
        variance = squares / (n - 1).clamp(min=1)
        blended = seen * (variance + MISPLACED * SEED / n.clamp(min=1)) / (pulled * (1 - pulled)) + MISPLACED
        far = far + blended / (seen + 1) / n.clamp(min=1)
        near = near + variance / (area * (1 - area)).clamp(min=1e-300) / n.clamp(min=1)
    fewer = torch.minimum(n_positive, n_negative)
    near = torch.where((near > 0) & (fewer > 1), near, far)
    sides = torch.where(area < 0.5, near, far), torch.where(area > 0.5, near, far)
    ends = [wilson_interval(area / ratio, 1 / ratio, level)[..., end] for end, ratio in enumerate(sides)]
    return torch.where((fewer > 0)[..., None], torch.stack([area, *ends], -1), torch.nan)


def counts_of(
    detected: Bool[Tensor, "*draws concepts examples"], truth: Bool[Tensor, "*draws concepts examples"]
) -> Int[Tensor, "*draws concepts examples 3"]:
    """TP, FP and FN of each example by itself, as the functions below take them."""
    return torch.stack([detected & truth, detected & ~truth, ~detected & truth], -1).long()


def weighted_f1(counts: Int[Tensor, "*draws concepts examples 3"]) -> Float[Tensor, "*draws"]:
    """Mean over concepts of F1, weighted by their positives; NaN without a positive."""
    return _weighted(counts.double().sum(-2)[..., None])[..., 0]


@plain_arithmetic()
def weighted_f1_interval(
    counts: Int[Tensor, "*draws concepts examples 3"], level: float = 0.95
) -> Float[Tensor, "*draws 3"]:
    """Mean over concepts of F1, weighted by positives, with its interval: estimate, low, high.

    With one concept it is F1 itself, with :func:`f1_interval` if each example has one count at most; with counts of
    rows, the interval knows that rows of an example go together.

    The mean M is treated as F1 is: ``J = M / (2 − M)`` as a proportion of an effective number of examples,
    ``J (1 − J) / Var J`` (Kish 1965; Korn & Graubard 1998), limits of :func:`beta_interval` with a uniform prior mapped
    back. The variance is the infinitesimal jackknife's over examples (Efron 1982). It rests on
    ``K = (Σ v²)² / Σ v⁴`` of its n values v, which gives it ``2 / (1/K − 1/n)`` degrees of freedom (by the variance of
    a variance) and ``FREEDOM`` more; it is raised by (t / z)². And it is blended with ``CAUTION`` times that of errors
    that go wholly together within an example, by the weight ``(CLUMPED / (K + CLUMPED))²``. How many go together is the
    mean over errors of the errors in their example, and for one example more the same of all counts. So there is a
    width without any error too.

    NaN without a positive.
    """
    each = counts.double()
    mean, values = _jackknifed(each)
    n, counted, errors = each.shape[-2], each.sum((-3, -1)), each[..., 1:].sum((-3, -1))
    share, events, wrong = mean / (2 - mean), counted.sum(-1), (errors > 0).sum(-1)
    variance = values.square().sum(-1) * n / max(1, n - 1) * (2 / (2 - mean) ** 2) ** 2
    together = counted.square().sum(-1) / events.clamp(min=1)
    clump = (wrong * errors.square().sum(-1) / errors.sum(-1).clamp(min=1) + together) / (wrong + 1)
    plain = share * (1 - share) / events
    effect = torch.where(plain > 0, variance / plain.clamp(min=1e-300), together)
    known = _known(values)
    cautious = (CLUMPED / (known + CLUMPED)) ** 2
    effect = (1 - cautious) * effect * (_t(level, _freedom(known, n)) / _z(level)) ** 2 + cautious * CAUTION * clump
    size = torch.where(mean.isnan(), 0.0, events / effect.clamp(min=1e-300))
    j = beta_interval(share * size, size, level, MEAN_PRIOR)
    limits = 2 * j / (1 + j)
    if counts.shape[-3] == 1 and bool((alone := (counted <= 1).all(-1)).any()):
        true, false, missed = each.sum((-3, -2)).unbind(-1)
        limits = torch.where(alone[..., None], f1_interval(true, false, missed, level), limits)
    return torch.cat([mean[..., None], limits], -1)


def clustered_f1_intervals(
    counts: Int[Tensor, "concepts examples 3"], level: float = 0.95
) -> Float[Tensor, "concepts 2"]:
    """Interval of the F1 of each concept by itself, as :func:`weighted_f1_interval` has it; some concepts at a time."""
    at_once = max(1, COUNTS_AT_ONCE // max(1, counts[:1].numel()))
    ends = [weighted_f1_interval(part[:, None], level)[:, 1:] for part in counts.split(at_once)]
    return torch.cat(ends) if ends else torch.empty(0, 2, dtype=torch.float64, device=counts.device)


@plain_arithmetic()
def weighted_f1_difference(
    counts: Int[Tensor, "*draws concepts examples 3"],
    others: Int[Tensor, "*draws others examples 3"],
    level: float = 0.95,
) -> Float[Tensor, "*draws 3"]:
    """Difference of two weighted means of F1 on the same examples, with its interval: estimate, low, high.

    ``± t √V``, V the infinitesimal jackknife's variance of the difference over examples, t with the degrees of freedom
    of :func:`weighted_f1_interval`. A tenth of an error more, of all counts of an example, is taken for seen
    (``DISCORDANT``; Agresti & Min 2005 add half a pair of each kind), so detectors that agree on every example keep a
    width: others of the kind might not.
    """
    one, values = _jackknifed(counts.double())
    two, values_2 = _jackknifed(others.double())
    apart, n = values - values_2, counts.shape[-2]
    counted = counts.double().sum((-3, -1))
    touched = (counted > 0).sum(-1)
    error = (2 - (one + two) / 2) ** 2 / 2 / touched.clamp(min=1)  # what an example's counts move the mean by
    variance = apart.square().sum(-1) * n / max(1, n - 1) + DISCORDANT * error.square()
    far = _t(level, _freedom(_known(apart), n)) * variance.sqrt()
    return torch.stack([one - two, (one - two - far).clamp(min=-1), (one - two + far).clamp(max=1)], -1)


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
    every = weighted_f1(draws)
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


def _freedom(known: Tensor, n: int) -> Tensor:
    """Degrees of freedom of a variance over n values that rests on ``known`` of them, and ``FREEDOM`` more."""
    return 2 / (1 / known - 1 / max(1, n)).clamp(min=1e-9) + FREEDOM


def _known(values: Float[Tensor, "*draws examples"]) -> Float[Tensor, "*draws"]:
    """How many of the values their sum of squares rests on: ``(Σ v²)² / Σ v⁴``, 0 where all are 0."""
    share = values.square() / values.square().sum(-1, keepdim=True).clamp(min=1e-300)
    return share.sum(-1) / share.square().sum(-1).clamp(min=1e-300)


def _weighted(sums: Float[Tensor, "*draws concepts 3 resamples"]) -> Float[Tensor, "*draws resamples"]:
    """Weighted mean of F1 of TP, FP, FN summed over examples."""
    true, false, missed = sums.unbind(-2)
    positive = true + missed
    f1 = 2 * true / (2 * true + false + missed).clamp(min=1e-300)
    return (f1 * positive).sum(-2) / positive.sum(-2)


def _resampled(counts: Tensor, weights: Float[Tensor, "examples draws"]) -> Float[Tensor, " draws"]:
    return _weighted(counts.double().transpose(1, 2) @ weights)


def _left_out(counts: Tensor) -> Float[Tensor, " examples"]:
    each = counts.double().transpose(1, 2)
    return _weighted(each.sum(-1, keepdim=True) - each)


def _jackknifed(
    each: Float[Tensor, "*draws concepts examples 3"],
) -> tuple[Float[Tensor, "*draws"], Float[Tensor, "*draws examples"]]:
    """Weighted mean of F1, and its infinitesimal jackknife values: what each example adds to it."""
    sums = each.sum(-2)
    mean = _weighted(sums[..., None])[..., 0]
    true, false, missed = each.unbind(-1)
    positive, bottom = sums[..., 0] + sums[..., 2], (2 * sums[..., 0] + sums[..., 1:].sum(-1)).clamp(min=1e-300)
    f1 = 2 * sums[..., 0] / bottom
    slope = (positive / bottom)[..., None] * (2 * true - f1[..., None] * (2 * true + false + missed))
    moved = ((f1 - mean[..., None])[..., None] * (true + missed) + slope).sum(-2)
    return mean, moved / positive.sum(-1, keepdim=True)
