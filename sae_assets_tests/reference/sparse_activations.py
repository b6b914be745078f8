"""Encode, dense: TopK over the whole pre-activation matrix (numerics 1)."""

import numpy as np


def pre_activations(x: np.ndarray, enc: np.ndarray, pre_b: np.ndarray | None = None) -> np.ndarray:
    """``(x - pre_b) @ enc`` in float64, rounded once to float32: [rows, d], [d, units], [d] -> [rows, units]."""
    centred = np.asarray(x, np.float64) - (0.0 if pre_b is None else np.asarray(pre_b, np.float64))
    return (centred @ np.asarray(enc, np.float64)).astype(np.float32)


def dense_topk(x: np.ndarray, enc: np.ndarray, pre_b: np.ndarray | None, k: int) -> dict[str, np.ndarray]:
    """The k largest pre-activations of each row (ties: lower unit), then ReLU.

    Args:
        x: [rows, d]; enc: [d, units]; pre_b: [d] or None.

    Returns:
        ``pre`` float32 [rows, units]; ``activations`` float32 [rows, units], 0 where not active; ``l0`` int [rows].
    """
    pre = pre_activations(x, enc, pre_b)
    activations = np.zeros_like(pre)
    for row, values in enumerate(pre):
        for unit in sorted(range(len(values)), key=lambda u: (-values[u], u))[:k]:
            activations[row, unit] = max(values[unit], 0)
    return {"pre": pre, "activations": activations, "l0": (activations > 0).sum(1)}


def stored_entries(activations: np.ndarray, k_stored: int | None = None) -> list[list[tuple[int, float]]]:
    """Per row the (unit, value) pairs > 0 by value descending, then unit ascending; the first ``k_stored`` of them."""
    rows = []
    for values in activations:
        pairs = [(int(unit), float(values[unit])) for unit in np.flatnonzero(values > 0)]
        rows.append(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k_stored])
    return rows
