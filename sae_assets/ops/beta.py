"""The beta distribution in torch: its quantiles, and its lower tails by the incomplete beta function."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic


@plain_arithmetic()
def beta_quantile(a: Float[Tensor, " n"], b: Float[Tensor, " n"], share: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return quantile of Beta(a, b), to 1e-10: Newton's steps on the logarithm of the lower tail over the log-odds.

    That function is concave, so the steps arrive from wherever they start. Upper tails are lower ones of Beta(b, a).
    """
    upper = share > 0.5
    a, b, tail = torch.where(upper, b, a), torch.where(upper, a, b), torch.where(upper, 1 - share, share)
    y = (a / b).log() + torch.special.ndtri(tail) * (1 / a + 1 / b).sqrt()
    scale = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    for _ in range(100):
        x, rest = torch.sigmoid(y), torch.sigmoid(-y)
        below = incomplete_beta(a, b, x).clamp(min=1e-300)
        density = (scale + a * torch.nn.functional.logsigmoid(y) + b * torch.nn.functional.logsigmoid(-y)).exp()
        step = ((below / tail).log() * below / density.clamp(min=1e-300)).clamp(-8, 8)
        y = y - step
        if bool((step.abs() * x * rest < 1e-12).all()):
            break
    return torch.where(upper, torch.sigmoid(-y), torch.sigmoid(y))


@plain_arithmetic()
def incomplete_beta(a: Float[Tensor, " n"], b: Float[Tensor, " n"], x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return regularised incomplete beta function by its continued fraction (DLMF 8.17.22), float64, from the end
    forwards."""
    flipped = x > (a + 1) / (a + b + 2)
    p, q, y = torch.where(flipped, b, a), torch.where(flipped, a, b), torch.where(flipped, 1 - x, x)
    y = y.clamp(min=1e-300)
    front = (torch.lgamma(p + q) - torch.lgamma(p) - torch.lgamma(q) + p * y.log() + q * torch.log1p(-y)).exp() / p
    # It converges in a number of terms of the order of √max(p, q).
    depth = 24 + int(4 * math.sqrt(float(torch.maximum(p, q).max()))) if len(p) else 0
    m = torch.arange(depth, dtype=torch.float64, device=x.device)[:, None]
    odd = -(p + m) * (p + q + m) * y / ((p + 2 * m) * (p + 2 * m + 1))
    even = (m + 1) * (q - m - 1) * y / ((p + 2 * m + 1) * (p + 2 * m + 2))
    if y.device.type == "cpu":  # where NumPy begins an operation in half of torch's time, for the same bits
        value = torch.from_numpy(_added_up(odd.numpy(), even.numpy(), torch.ones_like(y).numpy()))
    else:
        value = _added_up(odd.unbind(), even.unbind(), torch.ones_like(y))
    return torch.where(flipped, 1 - front / value, front / value)


def _added_up(odd: Any, even: Any, value: Any) -> Any:
    """Return a continued fraction of these terms, the last first: thousands of operations on few numbers."""
    for first, second in zip(reversed(odd), reversed(even), strict=True):
        value = second / value
        value += 1
        value = first / value
        value += 1
    return value
