"""The permutation null by brute force: every shuffle searched unit by unit (numerics 6)."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from sae_assets_tests.reference.exact_search import best_threshold


def figures(
    scores: Sequence[np.ndarray], truths: Sequence[np.ndarray], min_support: int
) -> tuple[list[float], list[float]]:
    """F1 and AUROC on cal and test of the pair that is best on cal; NaN without positives, AUROC without two classes.

    Args:
        scores: of cal and of test, [examples, units]; truths: the same, bool [examples].
    """
    pair = best_threshold(scores[0], truths[0], min_support)
    f1, area = [], []
    for table, truth in zip(scores, truths, strict=True):
        detected = table[:, pair[0]] >= pair[1] if pair else np.zeros(len(truth), bool)
        positive, n = int(truth.sum()), len(truth)
        f1.append(2 * int((detected & truth).sum()) / (int(detected.sum()) + positive) if positive else np.nan)
        if pair and 0 < positive < n:
            ranks = rankdata(table[:, pair[0]].astype(np.float64))[truth].sum()
            area.append((ranks - positive * (positive + 1) / 2) / (positive * (n - positive)))
        else:
            area.append(np.nan)
    return f1, area


def step_down_max_t(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Westfall & Young's adjusted p, one test after another, of statistics that are standardised already."""
    order = np.argsort(-observed, kind="stable")
    adjusted, least = np.empty(len(observed)), 0.0
    for rank, test in enumerate(order):
        largest = null[order[rank:]].max(0)
        least = max(least, ((largest >= observed[test]).sum() + 1) / (null.shape[1] + 1))
        adjusted[test] = least
    return adjusted
