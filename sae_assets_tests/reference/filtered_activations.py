"""Filtered activations, dense (numerics 4)."""

import numpy as np


def filtered(activations: np.ndarray, kept_units: np.ndarray) -> np.ndarray:
    """The kept columns: [rows, units], ascending ids [kept] -> [rows, kept]."""
    return activations[:, kept_units]
