"""Pooling of rows and the AUROC of length, dense (numerics 9)."""

import numpy as np


def pooled(activations: np.ndarray, lengths: np.ndarray, name: str, k: int) -> np.ndarray:
    """float64 scores [examples, units] of activations [rows, units]; an example without rows scores 0."""
    scores = np.zeros((len(lengths), activations.shape[1]))
    start = 0
    for example, length in enumerate(lengths):
        rows = activations[start : start + length].astype(np.float64)
        start += length
        if length == 0:
            continue
        if name == "max":
            scores[example] = rows.max(0)
        elif name == "mean":
            scores[example] = rows.sum(0) / length
        elif name == "last":
            scores[example] = rows[-1]
        else:
            padded = np.concatenate([rows, np.zeros((k, rows.shape[1]))])
            scores[example] = np.sort(padded, 0)[::-1][:k].sum(0) / k
    return scores
