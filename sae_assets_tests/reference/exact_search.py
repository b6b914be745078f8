"""The exact threshold search, one unit and one threshold at a time in exact fractions (numerics 6)."""

from fractions import Fraction

import numpy as np


def best_threshold(scores: np.ndarray, truth: np.ndarray, min_support: int = 1) -> tuple[int, float, int, int] | None:
    """(unit, threshold, detected, hits) of the largest F1 over all units and all positive scores of theirs.

    Ties: higher recall, then the higher threshold, then the lower unit. None if no pair detects ``min_support`` true
    examples.

    Args:
        scores: [examples, units], 0 where a unit is silent; truth: bool [examples].
    """
    ranked = []
    for unit in range(scores.shape[1]):
        for threshold in np.unique(scores[:, unit][scores[:, unit] > 0]):
            detected = scores[:, unit] >= threshold
            hits = int((detected & truth).sum())
            if hits >= max(1, min_support):
                f1 = Fraction(2 * hits, int(detected.sum()) + int(truth.sum()))
                ranked.append((-f1, -hits, -float(threshold), unit, int(detected.sum())))
    if not ranked:
        return None
    _, hits, threshold, unit, detected = min(ranked)
    return unit, -threshold, detected, -hits
