"""Detection statistics, dense (numerics 6)."""

import numpy as np


def example_scores(activations: np.ndarray, example_of_row: np.ndarray, n_examples: int) -> np.ndarray:
    """Largest activation over each example's rows: [rows, units], int [rows] -> float64 [examples, units]."""
    scores = np.zeros((n_examples, activations.shape[1]))
    for row, example in enumerate(example_of_row):
        scores[example] = np.maximum(scores[example], activations[row])
    return scores


def confusion(
    scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, FN, TN over the given examples; a null threshold never detects.

    Args:
        scores: [examples, units]; labels: bool [examples, concepts]; thresholds: [concepts, units, fractions].

    Returns:
        Four int arrays [concepts, units, fractions].
    """
    counts = np.zeros((4, *thresholds.shape), np.int64)
    for concept, unit, place in np.ndindex(*thresholds.shape):
        cutoff = thresholds[concept, unit, place]
        detected = np.zeros(len(scores), bool) if np.isnan(cutoff) else scores[:, unit] >= cutoff
        truth = labels[:, concept]
        cells = (detected & truth, detected & ~truth, ~detected & truth, ~detected & ~truth)
        counts[:, concept, unit, place] = [cell.sum() for cell in cells]
    tp, fp, fn, tn = counts
    return tp, fp, fn, tn


def f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """``2 TP / (2 TP + FP + FN)``, 0/0 is 0; any shape."""
    bottom = 2 * tp + fp + fn
    return np.where(bottom > 0, 2 * tp / np.maximum(bottom, 1), 0.0)
