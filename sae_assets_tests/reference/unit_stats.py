"""Unit statistics, dense (numerics 2)."""

import math

import numpy as np


def unit_stats(a_cal: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of every unit over calibration rows only.

    Args:
        a_cal: [cal rows, units], activations ≥ 0.

    Returns:
        Arrays [units]: ``n_active`` int64; ``sum``, ``sum_sq``, ``density``, and ``mean``, ``max``, ``p95``, ``p99``,
        ``selectivity``, which are NaN for a unit that never fires; and the scalar ``n_rows``.
    """
    a_cal = np.asarray(a_cal, np.float64)
    n_rows, n_units = a_cal.shape
    names = ("sum", "sum_sq", "density", "mean", "max", "p95", "p99", "selectivity")
    out: dict[str, np.ndarray] = {name: np.full(n_units, np.nan) for name in names}
    out["n_active"] = np.zeros(n_units, np.int64)
    out["n_rows"] = np.int64(n_rows)
    for unit in range(n_units):
        column = a_cal[:, unit]
        positive = column[column > 0]
        out["n_active"][unit] = len(positive)
        out["density"][unit] = len(positive) / n_rows
        out["sum"][unit] = math.fsum(column)
        out["sum_sq"][unit] = math.fsum(column**2)
        if len(positive):
            out["mean"][unit] = out["sum"][unit] / len(positive)
            out["max"][unit] = positive.max()
            out["p95"][unit] = np.quantile(positive, 0.95, method="linear")
            out["p99"][unit] = np.quantile(positive, 0.99, method="linear")
    out["selectivity"] = selectivity(out["n_active"], out["sum"], out["sum_sq"], n_rows)
    return out


def selectivity(n_active: np.ndarray, total: np.ndarray, total_sq: np.ndarray, n_rows: int) -> np.ndarray:
    """Lifetime sparseness [units]; NaN for a unit that never fires, and where there is a single row."""
    out = np.full(len(total), np.nan)
    for unit in range(len(total)):
        if n_active[unit] and n_rows > 1:
            a = (total[unit] / n_rows) ** 2 / (total_sq[unit] / n_rows)
            out[unit] = (1 - a) / (1 - 1 / n_rows)
    return out
