"""Thresholds, dense (numerics 5)."""

from collections.abc import Sequence

import numpy as np


def _cutoffs(values: np.ndarray, fractions: Sequence[float]) -> list[float]:
    positive = np.asarray(values, np.float64)
    positive = positive[positive > 0]
    if len(positive) == 0:
        return [np.nan] * len(fractions)
    return [float(np.quantile(positive, 1 - p, method="linear")) for p in fractions]


def thresholds(
    activations: np.ndarray, truth: np.ndarray, cal_rows: np.ndarray, fractions: Sequence[float]
) -> np.ndarray:
    """Quantile 1 - p of each (concept, unit)'s positive values on positive calibration rows.

    Args:
        activations: [rows, units]; truth: bool [rows, concepts]; cal_rows: bool [rows]; fractions: tail fractions p.

    Returns:
        float64 [concepts, units, fractions]; NaN (null) where no such value is positive.
    """
    return np.array(
        [
            [
                _cutoffs(activations[truth[:, concept] & cal_rows, unit], fractions)
                for unit in range(activations.shape[1])
            ]
            for concept in range(truth.shape[1])
        ]
    ).reshape(truth.shape[1], activations.shape[1], len(fractions))


def unit_thresholds(activations: np.ndarray, cal_rows: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """The same per unit over all calibration rows: float64 [units, fractions]."""
    every_row = np.ones((len(activations), 1), bool)
    return thresholds(activations, every_row, cal_rows, fractions)[0]


def n_positive(activations: np.ndarray, truth: np.ndarray, cal_rows: np.ndarray) -> np.ndarray:
    """How many values are behind each quantile: int [concepts, units]."""
    return np.array(
        [(activations[truth[:, concept] & cal_rows] > 0).sum(0) for concept in range(truth.shape[1])]
    ).reshape(truth.shape[1], activations.shape[1])
