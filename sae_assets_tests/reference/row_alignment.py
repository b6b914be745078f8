"""Row alignment, dense and exhaustive (numerics 11): values [rows] of one unit against bool truth [rows]."""

from fractions import Fraction

import numpy as np


def counts_at(values: np.ndarray, truth: np.ndarray, threshold: float | None) -> tuple[int, int, int]:
    """TP, FP, FN in rows; no threshold predicts nothing, and neither does a row at 0."""
    predicted = np.zeros(len(values), bool) if threshold is None else (values > 0) & (values >= threshold)
    return int((predicted & truth).sum()), int((predicted & ~truth).sum()), int((~predicted & truth).sum())


def f1(counts: tuple[int, int, int]) -> Fraction:
    """0/0 is 0."""
    tp, fp, fn = counts
    return Fraction(2 * tp, 2 * tp + fp + fn) if 2 * tp + fp + fn else Fraction(0)


def best_threshold(values: np.ndarray, truth: np.ndarray) -> float | None:
    """Of all distinct values above 0 the one with the best F1; ties: higher recall, then higher. None if F1 is 0."""
    ranked = []
    for threshold in np.unique(values[values > 0]):
        counts = counts_at(values, truth, threshold)
        if counts[0]:
            ranked.append((f1(counts), counts[0], float(threshold)))
    return max(ranked)[2] if ranked else None


def best_unit(values: np.ndarray, truth: np.ndarray) -> int:
    """The unit of values [rows, units] with the best F1; ties as between thresholds, then the lower one. -1 if none."""
    ranked = []
    for unit, column in enumerate(values.T):
        threshold = best_threshold(column, truth)
        if threshold is not None:
            counts = counts_at(column, truth, threshold)
            ranked.append((f1(counts), counts[0], threshold, -unit))
    return -max(ranked)[3] if ranked else -1


def average_precision(values: np.ndarray, truth: np.ndarray) -> float:
    """Over every distinct value from the top, 0 included: rise of recall times precision. NaN without a true row."""
    if not truth.any():
        return float("nan")
    total, before = Fraction(0), 0
    for threshold in np.unique(values)[::-1]:
        above = values >= threshold
        true = int(truth[above].sum())
        total += Fraction(true - before, int(truth.sum())) * Fraction(true, int(above.sum()))
        before = true
    return float(total)


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """Share of (true, false) pairs of rows that are in order, ties half; NaN without both."""
    true, false = values[truth], values[~truth]
    if not len(true) or not len(false):
        return float("nan")
    won = 2 * int((true[:, None] > false).sum()) + int((true[:, None] == false).sum())
    return float(Fraction(won, 2 * len(true) * len(false)))


def purity(values: np.ndarray, truth: np.ndarray, k: int) -> float:
    """True rows among the k largest values above 0, over k; of a tie that k cuts through, its mean over all orders."""
    total, room = Fraction(0), k
    for value in np.unique(values[values > 0])[::-1]:
        tied = values == value
        taken = min(room, int(tied.sum()))
        total += Fraction(int(truth[tied].sum()) * taken, int(tied.sum()))
        room -= taken
    return float(total / k)
