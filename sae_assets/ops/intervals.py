"""Confidence intervals of detection figures: F1, means of it over concepts, and differences.

Counts and scores come in, limits go out, float64 with low and high along the last axis; what does not exist is NaN, and
no interval has width 0. Examples are the units that are drawn: rows of one example are never taken for independent.
Those of proportions and of AUROC live in ``ops.proportions`` and ``ops.auroc``, and are offered here too.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.auroc import auroc_interval as auroc_interval
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.proportions import beta_interval as beta_interval
from sae_assets.ops.proportions import f1_interval as f1_interval
from sae_assets.ops.proportions import normal_quantile, t_quantile
from sae_assets.ops.proportions import wilson_interval as wilson_interval

# Chosen by simulation (`benchmarks/bench_interval_choices.py`), as what stays within .93 and .98 most often.
MEAN_PRIOR = 1.0  # of Beta(MEAN_PRIOR, MEAN_PRIOR), of a mean, whose number of examples is estimated
CLUMPED = 3.0  # weight of the cautious design effect, in examples that the variance rests on
CAUTION = 1.5  # how much it exceeds that of errors which go wholly together
FREEDOM = 2.0  # degrees of freedom beside those of the variance
HALVINGS = 50  # of the range of a limit: to 2e-15
NOTHING = 1e-10  # less than a row can move a figure by, more than rounding can
COUNTS_AT_ONCE = 2**21  # of examples, in memory: 16 MB and a dozen times that beside them


@plain_arithmetic()
def counts_of(
    detected: Bool[Tensor, "*draws concepts examples"], truth: Bool[Tensor, "*draws concepts examples"]
) -> Int[Tensor, "*draws concepts examples 3"]:
    """Return TP, FP and FN of each example by itself, as the functions below take them."""
    return torch.stack([detected & truth, detected & ~truth, ~detected & truth], -1).long()


@plain_arithmetic()
def weighted_f1(counts: Int[Tensor, "*draws concepts examples 3"]) -> Float[Tensor, "*draws"]:
    """Return mean over concepts of F1, weighted by their positives; NaN without a positive."""
    return _weighted(counts.double().sum(-2)[..., None])[..., 0]


@plain_arithmetic()
def weighted_f1_interval(
    counts: Int[Tensor, "*draws concepts examples 3"], level: float = 0.95
) -> Float[Tensor, "*draws 3"]:
    """Return mean over concepts of F1, weighted by positives, with its interval: estimate, low, high.

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
    mean, values, _ = _jackknifed(each)
    n, counted, errors = each.shape[-2], each.sum((-3, -1)), each[..., 1:].sum((-3, -1))
    share, events, wrong = mean / (2 - mean), counted.sum(-1), (errors > 0).sum(-1)
    variance = values.square().sum(-1) * n / max(1, n - 1) * (2 / (2 - mean) ** 2) ** 2
    together = counted.square().sum(-1) / events.clamp(min=1)
    clump = (wrong * errors.square().sum(-1) / errors.sum(-1).clamp(min=1) + together) / (wrong + 1)
    plain = share * (1 - share) / events
    effect = torch.where(plain > 0, variance / plain.clamp(min=1e-300), together)
    n_effective = _effective_number(values)
    cautious = (CLUMPED / (n_effective + CLUMPED)) ** 2
    wider = (_t(level, _freedom(n_effective, n)) / normal_quantile(level)) ** 2
    effect = (1 - cautious) * effect * wider + cautious * CAUTION * clump
    size = torch.where(mean.isnan(), 0.0, events / effect.clamp(min=1e-300))
    j = beta_interval(share * size, size, level, MEAN_PRIOR)
    limits = 2 * j / (1 + j)
    if counts.shape[-3] == 1 and bool((alone := (counted <= 1).all(-1)).any()):
        true, false, missed = each.sum((-3, -2)).unbind(-1)
        limits = torch.where(alone[..., None], f1_interval(true, false, missed, level), limits)
    return torch.cat([mean[..., None], limits], -1)


@plain_arithmetic()
def clustered_f1_intervals(
    counts: Int[Tensor, "concepts examples 3"], level: float = 0.95
) -> Float[Tensor, "concepts 2"]:
    """Return interval of the F1 of each concept by itself, as :func:`weighted_f1_interval` has it; some concepts at a
    time."""
    at_once = max(1, COUNTS_AT_ONCE // max(1, counts[:1].numel()))
    ends = [weighted_f1_interval(part[:, None], level)[:, 1:] for part in counts.split(at_once)]
    return torch.cat(ends) if ends else torch.empty(0, 2, dtype=torch.float64, device=counts.device)


@plain_arithmetic()
def weighted_f1_difference(
    counts: Int[Tensor, "*draws concepts examples 3"],
    others: Int[Tensor, "*draws others examples 3"],
    level: float = 0.95,
) -> Float[Tensor, "*draws 3"]:
    """Return difference of two weighted means of F1 on the same examples, with its interval: estimate, low, high.

    Limits are the differences δ that lie ``z √V(δ)`` from the one seen, D. V(D) is the jackknife's variance, of leaving
    out one example at a time (Tukey 1958; biased upwards, Efron & Stein 1981). ``V(δ) = V(D) g(δ) / g(D)``, g that of a
    difference of paired proportions in Tango's score interval (1998, Statistics in Medicine 17: 891), where what
    examples speak for one detector and for the other stands for the shares of pairs in which one test alone is right.
    So of few examples that all speak for one detector it is known that they are few: the interval reaches farther to
    that side. Where detectors agree on every example, V(δ) is g(δ) times what one example can move.

    NaN without a positive.
    """
    one, values, shares = _jackknifed(counts.double())
    two, values_2, shares_2 = _jackknifed(others.double())
    difference, n = one - two, counts.shape[-2]
    speaks = (values - values_2 + difference[..., None] * (shares + shares_2) / 2).abs().sum(-1)
    left = (_left_out(counts) - _left_out(others)).nan_to_num()  # 0 where none is positive without the example
    variance = (left - left.mean(-1, keepdim=True)).square().sum(-1) * (n - 1) / max(1, n)
    spread = speaks - difference.square()
    touched = (counts.sum((-3, -1)) > 0).sum(-1)
    moved = (2 - (one + two) / 2) ** 2 / 2 / touched.clamp(min=1)  # by what is detected in one example
    varies = (spread > NOTHING) & (variance > NOTHING**2)
    scale = normal_quantile(level) ** 2 * torch.where(varies, variance / spread, moved)
    sides = torch.stack([-difference, difference])
    limits = _farthest(sides, speaks.expand_as(sides), scale.expand_as(sides))
    return torch.stack([difference, -limits[0], limits[1]], -1)


@plain_arithmetic()
def clustered_f1_differences(
    counts: Int[Tensor, "concepts examples 3"], others: Int[Tensor, "concepts examples 3"], level: float = 0.95
) -> Float[Tensor, "concepts 3"]:
    """Return difference of the F1 of each concept by itself, as :func:`weighted_f1_difference`; some concepts at a
    time."""
    at_once = max(1, COUNTS_AT_ONCE // max(1, counts[:1].numel()))
    pairs = zip(counts.split(at_once), others.split(at_once), strict=True)
    parts = [weighted_f1_difference(one[:, None], two[:, None], level) for one, two in pairs]
    return torch.cat(parts) if parts else torch.empty(0, 3, dtype=torch.float64, device=counts.device)


@plain_arithmetic()
def difference_to_draws(
    counts: Int[Tensor, "*groups concepts examples 3"],
    draws: Int[Tensor, "draws *groups concepts examples 3"],
    level: float = 0.95,
) -> Float[Tensor, "*groups 3"]:
    """Return difference to detectors that were drawn at random, to their mean: estimate, low, high.

    Each limit is the farther one of two. One is that of :func:`weighted_f1_difference` to the mean of these draws: of
    other examples. The other is ``± t s √(1 + 1/S)``, s the deviation of the S draws' weighted means on these examples,
    t of S − 1 degrees of freedom: of another draw (a prediction interval, Whitmore 1986). So a detector that was drawn
    as these were differs from them by 0 within its interval. NaN limits with a single draw, which does not say how
    draws vary.
    """
    n_draws = len(draws)
    every = weighted_f1(draws).movedim(0, -1).contiguous()
    difference = weighted_f1_difference(counts, draws.movedim(0, -4).flatten(-4, -3), level)
    estimate, low, high = difference.unbind(-1)
    one_by_one = every.reshape(-1, n_draws) if n_draws > 1 else ()  # several at once are summed in another order
    apart = [float(each.std()) for each in one_by_one] or [math.nan] * estimate.numel()
    deviations = t_quantile(level, max(1, n_draws - 1)) * math.sqrt(1 + 1 / n_draws)
    far = deviations * every.new_tensor(apart).view(estimate.shape)
    ends = torch.minimum(low, estimate - far).clamp(min=-1), torch.maximum(high, estimate + far).clamp(max=1)
    return torch.stack([estimate, *(torch.where(far.isnan(), torch.nan, end) for end in ends)], -1)


@plain_arithmetic()
def clustered_differences_to_draws(
    counts: Int[Tensor, "concepts examples 3"], draws: Int[Tensor, "draws concepts examples 3"], level: float = 0.95
) -> Float[Tensor, "concepts 3"]:
    """Return difference of the F1 of each concept by itself, as :func:`difference_to_draws`; some concepts at a
    time."""
    at_once = max(1, COUNTS_AT_ONCE // max(1, draws[:, :1].numel()))
    pairs = zip(counts.split(at_once), draws.split(at_once, 1), strict=True)
    parts = [difference_to_draws(one[:, None], two[:, :, None], level) for one, two in pairs]
    return torch.cat(parts) if parts else torch.empty(0, 3, dtype=torch.float64, device=counts.device)


@plain_arithmetic()
def bootstrap_f1(
    counts: Int[Tensor, "concepts examples 3"],
    others: Int[Tensor, "concepts examples 3"] | None = None,
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Float[Tensor, " 3"]:
    """Return the weighted mean of F1, or its difference to another detector's, with a BCa interval: estimate, low,
    high.

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
    below = ((reached < figure).sum().double() + (reached == figure).sum().double() / 2) / len(reached)
    bias = torch.special.ndtri(below.clamp(0.5 / len(reached), 1 - 0.5 / len(reached)))
    left = left[~left.isnan()]
    skew = left.mean() - left
    acceleration = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5).clamp(min=1e-300)
    z = torch.tensor([-normal_quantile(level), normal_quantile(level)], dtype=torch.float64, device=device)
    share = torch.special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    return torch.cat([figure[None], reached.quantile(share)])


def _t(level: float, freedom: Tensor) -> Tensor:
    """Return quantile of Student's t, by its expansion in 1 / freedom (Abramowitz & Stegun 26.7.5), .3 % short at 4."""
    z = normal_quantile(level)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _freedom(n_effective: Tensor, n: int) -> Tensor:
    """Return degrees of freedom of a variance over n values that rests on ``known`` of them, and ``FREEDOM`` more."""
    return 2 / (1 / n_effective - 1 / max(1, n)).clamp(min=1e-9) + FREEDOM


def _farthest(difference: Float[Tensor, "*n"], speaks: Float[Tensor, "*n"], scale: Float[Tensor, "*n"]) -> Tensor:
    """Return the largest δ up to 1 with ``(δ − D)² ≤ scale g(δ)``, by halving; NaN where the difference D is.

    In NumPy, on whatever device they are: of the few numbers that come its operations take a fifth of torch's, and its
    square roots are the nearest numbers on every processor, which MKL's are not.
    """
    d, speaking, scaled = (each.numpy(force=True) for each in (difference, speaks, scale))
    inside, beyond = d, np.ones_like(d)
    for _ in range(HALVINGS):
        middle = (inside + beyond) / 2
        holds = (middle - d) ** 2 <= scaled * _tango(middle, d, speaking)
        inside, beyond = np.where(holds, middle, inside), np.where(holds, beyond, middle)
    return torch.from_numpy(inside).to(difference.device)


def _tango(delta: np.ndarray, difference: np.ndarray, speaks: np.ndarray) -> np.ndarray:
    """n times the variance of a difference of paired proportions were it δ (Tango 1998): ``2 q + |δ| (1 − |δ|)``.

    q is the likeliest share of pairs that speak against the sign of δ, given that the difference is δ.
    """
    difference, delta = np.where(delta < 0, -difference, difference), np.abs(delta)
    against, plain = np.maximum((speaks - difference) / 2, 0), delta * (1 - delta)
    b = (2 - difference) * delta - speaks
    return (np.sqrt(b * b + 8 * against * plain) - b) / 2 + plain


def _effective_number(values: Float[Tensor, "*draws examples"]) -> Float[Tensor, "*draws"]:
    """Return how many of the values their sum of squares rests on: ``(Σ v²)² / Σ v⁴``, 0 where all are 0."""
    share = values.square() / values.square().sum(-1, keepdim=True).clamp(min=1e-300)
    return share.sum(-1) / share.square().sum(-1).clamp(min=1e-300)


def _weighted(sums: Float[Tensor, "*draws concepts 3 resamples"]) -> Float[Tensor, "*draws resamples"]:
    """Return weighted mean of F1 of TP, FP, FN summed over examples."""
    true, false, missed = sums.unbind(-2)
    positive = true + missed
    f1 = 2 * true / (2 * true + false + missed).clamp(min=1e-300)
    return (f1 * positive).sum(-2) / positive.sum(-2)


def _resampled(counts: Tensor, weights: Float[Tensor, "examples draws"]) -> Float[Tensor, " draws"]:
    return _weighted(counts.double().transpose(1, 2) @ weights)


def _left_out(counts: Int[Tensor, "*draws concepts examples 3"]) -> Float[Tensor, "*draws examples"]:
    """Return the weighted mean without each of the examples; NaN where that leaves no positive."""
    each = counts.double().transpose(-1, -2)
    return _weighted(each.sum(-1, keepdim=True) - each)


def _jackknifed(
    each: Float[Tensor, "*draws concepts examples 3"],
) -> tuple[Float[Tensor, "*draws"], Float[Tensor, "*draws examples"], Float[Tensor, "*draws examples"]]:
    """Return weighted mean of F1, its infinitesimal jackknife values (what each example adds to it), and shares of it.

    The share of an example says how much of the mean rests on it; shares add up to 1.
    """
    sums = each.sum(-2)
    mean = _weighted(sums[..., None])[..., 0]
    true, false, missed = each.unbind(-1)
    positive, bottom = sums[..., 0] + sums[..., 2], (2 * sums[..., 0] + sums[..., 1:].sum(-1)).clamp(min=1e-300)
    f1 = 2 * sums[..., 0] / bottom
    whole, factor = 2 * true + false + missed, (positive / bottom)[..., None]
    slope = factor * (2 * true - f1[..., None] * whole)
    moved = ((f1 - mean[..., None])[..., None] * (true + missed) + slope).sum(-2)
    total = positive.sum(-1, keepdim=True)
    return mean, moved / total, (factor * whole).sum(-2) / total
