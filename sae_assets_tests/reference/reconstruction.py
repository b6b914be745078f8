"""Reference: how well an SAE reconstructs rows, dense and in float64, as two libraries define it."""

import numpy as np


def reconstruction(activations: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``activations @ W_dec + b_dec``, float64 [rows, d]: sparsify, SAELens, Gemma Scope and CLIP-Scope (``pre_b``)."""
    return activations.astype(np.float64) @ weight.astype(np.float64) + bias.astype(np.float64)


def fvu(x: np.ndarray, reconstructed: np.ndarray) -> float:
    """sparsify's: ``(x - x̂)² / (x - mean over rows)²``, each summed over all rows and dimensions."""
    exact = x.astype(np.float64)
    return float(((exact - reconstructed) ** 2).sum() / ((exact - exact.mean(0)) ** 2).sum())


def explained_variance(batches: list[np.ndarray], reconstructed: list[np.ndarray]) -> float:
    """SAELens' ``explained_variance`` over batches of equal size: means of squares, of rows and of residuals."""
    exact = [x.astype(np.float64) for x in batches]
    squares = np.mean([(x**2).sum(1).mean() for x in exact])
    mean = np.mean([x.mean(0) for x in exact], axis=0)
    residual = np.mean([((x - y) ** 2).sum(1).mean() for x, y in zip(exact, reconstructed, strict=True)])
    return float(1 - residual / (squares - (mean**2).sum()))
