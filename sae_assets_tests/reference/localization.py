"""Localisation, dense and row by row (numerics 7): values [rows, units], one unit and threshold of one concept."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

METHODS = ("superactivators", "regular", "two_stage")


def direction(values: np.ndarray, unit: int, threshold: float, fitted: np.ndarray) -> np.ndarray | None:
    """Softmax-weighted mean of the rows of train and cal that reach the threshold, at length 1; None without any."""
    rows = [row for row in np.flatnonzero(fitted) if values[row, unit] >= threshold]
    if not rows:
        return None
    top = max(values[row, unit] for row in rows)
    weights = [math.exp(values[row, unit] - top) for row in rows]
    mean = sum(weight / sum(weights) * values[row] for weight, row in zip(weights, rows, strict=True))
    mean = mean / mean.max()
    return mean / np.linalg.norm(mean)


def similarities(values: np.ndarray, towards: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """Cosine of every row with a direction, rounded to float32 so that rows alike tie; 0 of a row without values.

    Args:
        lengths: of the rows, where several directions are asked for.
    """
    lengths = np.linalg.norm(values, axis=1) if lengths is None else lengths
    cosines = np.divide(values @ towards, lengths, out=np.zeros(len(values)), where=lengths > 0)
    return np.minimum(cosines, 1).astype(np.float32).astype(np.float64)


def detected(values: np.ndarray, unit: int, threshold: float, example_of_row: np.ndarray) -> np.ndarray:
    """Rows of examples of which one reaches the threshold."""
    examples = set(example_of_row[values[:, unit] >= threshold].tolist())
    return np.array([example in examples for example in example_of_row], bool)


def confusion(marked: np.ndarray, truth: np.ndarray) -> tuple[int, int, int, int]:
    """TP, FP, FN, TN."""
    cells = (marked & truth, marked & ~truth, ~marked & truth, ~marked & ~truth)
    return tuple(int(cell.sum()) for cell in cells)  # type: ignore[return-value]


def choose(cutoffs: Sequence[float], marks: Sequence[np.ndarray], truth: np.ndarray) -> int:
    """Place of the cut-off with the best F1 of rows; ties: higher recall, higher cut-off, the first."""
    ranked = []
    for place, (cutoff, marked) in enumerate(zip(cutoffs, marks, strict=True)):
        tp, fp, fn, _ = confusion(marked, truth)
        ranked.append((Fraction(2 * tp, 2 * tp + fp + fn), tp, cutoff, -place))
    return -max(ranked)[3]
