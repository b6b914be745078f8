"""The interval of an AUROC, pair by pair: what `ops.auroc` computes from sorted scores."""

import numpy as np
from scipy import special, stats


def auroc_interval(positive: np.ndarray, negative: np.ndarray, level: float = 0.95) -> list[float]:
    """Estimate, low, high. Placements are rows and columns of the matrix of pairs in order, ties half."""
    order = (positive[:, None] > negative) + (positive[:, None] == negative) / 2
    area = order.mean()
    ends = []
    for end in (0.0, 1.0):
        if area == end:
            ends.append(end)
            continue
        towards_half = area >= 0.5 if end == 0 else area <= 0.5
        mean, variance, third = area, 0.0, 0.0
        for placed in (order.mean(1), order.mean(0)):
            tied = len(set(placed.round(12))) == 1 and 0 < area < 1
            weights = np.append(np.ones(len(placed)), 1.0 if tied else 0.15)
            with_unseen = np.append(placed, end)
            middle = np.average(with_unseen, weights=weights)
            spread = np.average((with_unseen - middle) ** 2, weights=weights)
            variance += spread / (weights.sum() - 1)
            mean += (middle - area) * towards_half
            third += ((placed - placed.mean()) ** 3).mean() / len(placed) ** 2
        mean = np.clip(mean, 1e-12, 1 - 1e-12)
        more = 0.14 * abs(2 * area - 1)
        z = stats.norm.ppf(1 - (1 - level) * (0.5 - more if towards_half else 0.5 + more)) * (1 if end else -1)
        if towards_half:  # Wilson's: |mean − limit| = |z| √(limit (1 − limit) / n)
            n = mean * (1 - mean) / variance
            roots = np.roots([1 + z * z / n, -2 * mean - z * z / n, mean * mean]).real
            ends.append(float(roots.max() if end else roots.min()))
        else:
            z += max(0, third * np.sign(z)) / variance**1.5 * (2 * z * z + 1) / 6 * np.sign(z)
            ends.append(float(special.expit(special.logit(mean) + z * variance**0.5 / (mean * (1 - mean)))))
    return [float(area), *ends]
