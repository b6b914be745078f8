"""Choice of the best pair, exhaustively and in exact fractions (numerics 6)."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def best_pair(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, valid: np.ndarray) -> tuple[int, int] | None:
    """(unit position, fraction position) of the highest calibration F1 of one concept.

    Ties: higher recall, then smaller tail fraction, then lower unit. None without a valid unit or without a positive.

    Args:
        tp, fp, fn: ints [units, fractions], fractions ascending, units by ascending id; valid: bool [units].
    """
    ranked = []
    for unit, place in np.ndindex(*tp.shape):
        hit, false, missed = int(tp[unit, place]), int(fp[unit, place]), int(fn[unit, place])
        if valid[unit] and hit + missed > 0:
            f1 = Fraction(2 * hit, 2 * hit + false + missed)
            ranked.append((-f1, -Fraction(hit, hit + missed), place, unit))
    if not ranked:
        return None
    _, _, place, unit = min(ranked)
    return unit, place


def always_positive_f1(n_positive: int, n_examples: int) -> float:
    """F1 of calling every example positive, from its precision and recall; NaN without positives."""
    if n_positive == 0:
        return float("nan")
    precision, recall = n_positive / n_examples, 1.0
    return 2 * precision * recall / (precision + recall)


def weighted_mean(figures: Sequence[float], n_positive: Sequence[int]) -> float:
    """Mean of the concepts' figures weighted by their test positives; nulls count neither way."""
    pairs = [(figure, weight) for figure, weight in zip(figures, n_positive, strict=True) if not np.isnan(figure)]
    total = sum(weight for _, weight in pairs)
    return sum(figure * weight for figure, weight in pairs) / total if total else float("nan")
