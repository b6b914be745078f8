"""Confidence intervals of proportions of independent examples, and of F1 as one of them."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sae_assets.ops.beta import beta_quantile
from sae_assets.ops.process_state import plain_arithmetic

# Chosen by simulation (`benchmarks/bench_interval_choices.py`), as what stays within .93 and .98 most often.
PRIOR = 0.6  # of Beta(PRIOR, PRIOR); Jeffreys' is 1/2
HALVINGS = 52  # of a right angle: to 3e-16


@plain_arithmetic()
def wilson_interval(k: Shaped[Tensor, "*n"], n: Shaped[Tensor, "*n"], level: float = 0.95) -> Float[Tensor, "*n 2"]:
    """Score interval of k successes in n (Wilson 1927). NaN where n is 0."""
    z, k, n = normal_quantile(level), k.double(), n.double()
    middle, half = k + z * z / 2, z * (k * (n - k) / n + z * z / 4).clamp(min=0).sqrt()
    limits = torch.stack([middle - half, middle + half], -1) / (n + z * z)[..., None]
    return _within(limits, k, n)


@plain_arithmetic()
def beta_interval(
    k: Shaped[Tensor, "*n"], n: Shaped[Tensor, "*n"], level: float = 0.95, prior: float | None = None
) -> Float[Tensor, "*n 2"]:
    """Return equal-tailed interval of a Beta(0.6, 0.6) prior, 0 from k = 0 and 1 from k = n.

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
    """Return interval of F1 from the counts of independent examples.

    ``J = TP / (TP + FP + FN)`` is a proportion of ``n = TP + FP + FN`` examples, binomial given n, and
    ``F1 = 2J / (1 + J)`` (Lam, Gopal & Qian 2023, arXiv:2309.14621). They take Wilson's interval of J; ours is
    :func:`beta_interval`, because n is itself random and small, where Wilson's coverage drops to .84 near J = 1.

    NaN where nothing is positive and nothing was detected.
    """
    j = beta_interval(tp, tp + fp + fn, level)
    return 2 * j / (1 + j)


def normal_quantile(level: float) -> float:
    """Return how many deviations on either side hold ``level`` of a normal distribution."""
    return math.sqrt(2) * float(torch.special.erfinv(torch.tensor(level, dtype=torch.float64, device="cpu")))


def t_quantile(level: float, freedom: int) -> float:
    """Return how many deviations on either side hold ``level`` of Student's t of so many degrees of freedom.

    Found by halving the angle ``atan(t / √freedom)``, of which the probability is a finite sum (Abramowitz & Stegun
    26.7.3 and 26.7.4): exact for the few degrees of which expansions in 1 / freedom fall short, by a quarter for one.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        angle = (low + high) / 2
        low, high = (angle, high) if _inside(angle, freedom) < level else (low, angle)
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _inside(angle: float, freedom: int) -> float:
    """Return probability that ``|t| <= √freedom tan(angle)``."""
    odd, squared = freedom % 2, math.cos(angle) ** 2
    total, term = 0.0, math.cos(angle) if odd else 1.0
    for number in range(2 + odd, freedom + 1, 2):
        total += term
        term *= squared * (number - 1) / number
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if odd else total


def _within(limits: Tensor, k: Tensor, n: Tensor) -> Tensor:
    """Return 0 where nothing succeeded and 1 where everything did, in place of rounding; NaN where n is 0."""
    low = torch.where(k <= 0, 0.0, limits[..., 0].clamp(min=0))
    high = torch.where(k >= n, 1.0, limits[..., 1].clamp(max=1))
    return torch.where((n > 0)[..., None], torch.stack([low, high], -1), torch.nan)
