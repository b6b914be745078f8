"""Exact threshold search, exhaustively and in exact fractions (numerics 9)."""

from fractions import Fraction

import numpy as np

Counts = tuple[int, int, int, int]


def counts_at(scores: np.ndarray, labels: np.ndarray, threshold: float | None) -> Counts:
    """TP, FP, FN, TN of scores [examples] against bool labels [examples]; no threshold never detects."""
    detected = np.zeros(len(scores), bool) if threshold is None else (scores > 0) & (scores >= threshold)
    cells = (detected & labels, detected & ~labels, ~detected & labels, ~detected & ~labels)
    return tuple(int(cell.sum()) for cell in cells)  # type: ignore[return-value]


def f1(counts: Counts) -> Fraction:
    """0/0 is 0."""
    tp, fp, fn, _ = counts
    return Fraction(2 * tp, 2 * tp + fp + fn) if 2 * tp + fp + fn else Fraction(0)


def best_threshold(scores: np.ndarray, labels: np.ndarray, min_support: int) -> float | None:
    """Of all distinct scores above 0 the one with the best F1; ties: higher recall, then the higher threshold."""
    ranked = []
    for threshold in np.unique(scores[scores > 0]):
        counts = counts_at(scores, labels, threshold)
        if counts[0] >= min_support:
            ranked.append((f1(counts), counts[0], float(threshold)))
    return max(ranked)[2] if ranked else None


def best_unit(scores: np.ndarray, labels: np.ndarray, min_support: int) -> int:
    """The unit with the best F1 at its best threshold; ties as between thresholds, then the lower unit. -1 if none.

    Args:
        scores: [examples, units]; labels: bool [examples].
    """
    ranked = []
    for unit, column in enumerate(scores.T):
        threshold = best_threshold(column, labels, min_support)
        if threshold is not None:
            counts = counts_at(column, labels, threshold)
            ranked.append((f1(counts), counts[0], threshold, -unit))
    return -max(ranked)[3] if ranked else -1
