"""Encode, dense: TopK, ReLU and JumpReLU over the whole pre-activation matrix (numerics 1)."""

import numpy as np


def pre_activations(
    x: np.ndarray, enc: np.ndarray, pre_b: np.ndarray | None = None, b_enc: np.ndarray | None = None
) -> np.ndarray:
    """``(x - pre_b) @ enc + b_enc`` in float64, rounded once to float32: [rows, d], [d, units], [d], [units]."""
    centred = np.asarray(x, np.float64) - (0.0 if pre_b is None else np.asarray(pre_b, np.float64))
    bias = 0.0 if b_enc is None else np.asarray(b_enc, np.float64)
    return (centred @ np.asarray(enc, np.float64) + bias).astype(np.float32)


def dense_topk(
    x: np.ndarray, enc: np.ndarray, pre_b: np.ndarray | None, k: int, b_enc: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The k largest pre-activations of each row (ties: lower unit), then ReLU.

    Args:
        x: [rows, d]; enc: [d, units]; pre_b: [d] or None; b_enc: [units] or None.

    Returns:
        ``pre`` float32 [rows, units]; ``activations`` float32 [rows, units], 0 where not active; ``l0`` int [rows].
    """
    pre = pre_activations(x, enc, pre_b, b_enc)
    activations = np.zeros_like(pre)
    for row, values in enumerate(pre):
        for unit in sorted(range(len(values)), key=lambda u: (-values[u], u))[:k]:
            activations[row, unit] = max(values[unit], 0)
    return {"pre": pre, "activations": activations, "l0": (activations > 0).sum(1)}


def dense_jumprelu(
    x: np.ndarray,
    enc: np.ndarray,
    pre_b: np.ndarray | None,
    b_enc: np.ndarray | None,
    jump_threshold: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Pre-activations that are above 0 and, where there is a ``jump_threshold`` [units], above it; None is ReLU.

    Returns:
        As :func:`dense_topk`.
    """
    pre = pre_activations(x, enc, pre_b, b_enc)
    active = pre > 0
    if jump_threshold is not None:
        active &= pre > np.asarray(jump_threshold, np.float32)
    activations = np.where(active, pre, np.float32(0))
    return {"pre": pre, "activations": activations, "l0": (activations > 0).sum(1)}


def stored_entries(activations: np.ndarray, k_stored: int | None = None) -> list[list[tuple[int, float]]]:
    """Per row the (unit, value) pairs > 0 by value descending, then unit ascending; the first ``k_stored`` of them."""
    rows = []
    for values in activations:
        pairs = [(int(unit), float(values[unit])) for unit in np.flatnonzero(values > 0)]
        rows.append(sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k_stored])
    return rows
