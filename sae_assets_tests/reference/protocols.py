"""Figures of other repositories, dense and one pair at a time (numerics 15)."""

import numpy as np
from scipy.optimize import minimize


def quantile_above(values: np.ndarray, share: float) -> tuple[float, np.ndarray]:
    """Threshold T of a unit on all rows with P(a > T) = share, and the rows above it."""
    threshold = float(np.quantile(values.astype(np.float64), 1 - share))
    return threshold, values.astype(np.float64) > threshold


def regions(truth: np.ndarray, width: int | None) -> list[set[int]]:
    """Connected sets of true rows of one example, in a line or in a grid this wide; found by flooding."""
    left, found = set(np.flatnonzero(truth).tolist()), []
    while left:
        frontier, region = [min(left)], set()
        while frontier:
            row = frontier.pop()
            if row not in left:
                continue
            left.remove(row)
            region.add(row)
            if width is None:
                frontier += [row - 1, row + 1]
            else:
                frontier += [row - width, row + width]
                frontier += [row - 1] if row % width else []
                frontier += [row + 1] if row % width != width - 1 else []
        found.append(region)
    return found


def region_f1(above: np.ndarray, truth: np.ndarray, places: list[set[int]]) -> tuple[float, float] | None:
    """F1 of precision over rows and recall over regions, and F1 of rows; None without a true row above."""
    true = int((above & truth).sum())
    if not true:
        return None
    precision, recall = true / int(above.sum()), sum(any(above[row] for row in each) for each in places) / len(places)
    return 2 * precision * recall / (precision + recall), 2 * true / int(above.sum() + truth.sum())


def probe(values: np.ndarray, truth: np.ndarray, ridge: float = 1e-8) -> tuple[float, float, float]:
    """Mean cross-entropy, weight and bias of the logistic probe of one unit for one concept on these rows."""
    x, y = values.astype(np.float64), truth.astype(np.float64)
    prior = np.clip(y.mean(), 1e-8, 1 - 1e-8)
    start = np.log(prior / (1 - prior))
    scale = np.sqrt((x[x > 0] ** 2).mean()) if (x > 0).any() else 1.0

    def entropy(parameters: np.ndarray) -> float:
        z = parameters[0] / scale * x + parameters[1]
        return float((np.logaddexp(0, z) - y * z).mean())

    def objective(parameters: np.ndarray) -> float:
        return entropy(parameters) + ridge / 2 * ((parameters[0] / scale) ** 2 + (parameters[1] - start) ** 2)

    ends = [
        minimize(objective, np.array([weight, start]), method="BFGS", options={"gtol": 1e-10, "maxiter": 2000})
        for weight in (0.0, 1.0)
    ]
    best = min(ends, key=lambda end: end.fun).x
    return entropy(best), float(best[0] / scale), float(best[1])


def ranked_units(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Units of scores [examples, units] by the distance of class means of scores over the unit's mean score above 0."""
    x = values.astype(np.float64)
    scaled = x / (x.sum(0) / ((x != 0).sum(0) + 1e-6) + 1e-6)
    return np.argsort(-np.abs(scaled[truth].mean(0) - scaled[~truth].mean(0)), kind="stable")
