"""The choice of a pair: of the (unit, tail fraction) or (unit, threshold) pairs of a concept the one with the best F1.

Counts come in, places go out: which counts they are (of cal, of shuffled labels, of all folds but one) is the caller's
business.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def best_places(
    true: Float[Tensor, "units fractions draws"],
    bottom: Float[Tensor, "units fractions #draws"],
    valid: Bool[Tensor, " units"],
) -> tuple[Int[Tensor, " draws"], Int[Tensor, " draws"]]:
    """Per draw the unit and the fraction of the best F1; ties: higher recall, smaller p, lower unit.

    Args:
        true: true positives; bottom: predicted plus positive examples, so that F1 is ``2 true / bottom``. Both are
            whole float32 numbers below 2^24.
        valid: others are never chosen; one must be valid.

    Rounding keeps order: of the pairs whose float32 F1 is largest, one has the largest float64 F1, where equal
    fractions are equal numbers. So ties are exact.
    """
    screen = true / bottom.clamp(min=1)
    if not bool(valid.all()):
        screen[~valid] = -1.0
    unit, fraction, draw = (screen == screen.amax((0, 1))).nonzero(as_tuple=True)
    hits = true[unit, fraction, draw].double()
    f1 = hits / bottom.expand_as(true)[unit, fraction, draw].double().clamp(min=1)
    order = fraction * len(valid) + unit
    ranks = torch.stack([f1, hits, -order.double()])
    for rule in range(len(ranks)):
        # Each rule in turn leaves, of every draw, the pairs that are best by it.
        best = torch.full_like(screen[0, 0], -torch.inf, dtype=torch.float64)
        best.scatter_reduce_(0, draw, ranks[rule], "amax")
        still = ranks[rule] == best[draw]
        ranks, draw, order = ranks[:, still], draw[still], order[still]
    chosen = torch.empty_like(order).scatter_(0, draw, order)
    return chosen % len(valid), chosen // len(valid)


def best_pair(
    true: Int[Tensor, "units fractions"],
    false: Int[Tensor, "units fractions"],
    n_positive: int,
    valid: Bool[Tensor, " units"],
) -> tuple[int, int] | None:
    """Return (kept index, fraction index) of the best F1, as :func:`best_places`. None without a valid unit or a
    positive."""
    if n_positive == 0 or not bool(valid.any()):
        return None
    bottom = (true + false + n_positive).float()
    unit, fraction = best_places(true[..., None].float(), bottom[..., None], valid)
    return int(unit), int(fraction)


def best_units(
    f1: Float[Tensor, "units concepts"],
    true: Int[Tensor, "units concepts"],
    thresholds: Float[Tensor, "units concepts"],
) -> Int[Tensor, " concepts"]:
    """Per concept the unit with the best F1; ties: higher recall, higher threshold, lower unit. -1 where none is valid.

    A pair without a threshold (NaN) is not valid. F1 is float64, where equal fractions are equal numbers.
    """
    left = ~thresholds.isnan()
    if len(f1) == 0:
        return torch.full((f1.shape[1],), -1, dtype=torch.int64, device=f1.device)
    exists = left.any(0)
    for rule in (f1, true.double(), thresholds):
        rank = torch.where(left, rule, -torch.inf)
        left = left & (rank == rank.amax(0))
    return torch.where(exists, left.int().argmax(0), -1)
