"""Figures of detections that were counted: TP, FP, FN, TN in the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


def two_classes(counts: Int[Tensor, "*n 4"]) -> Bool[Tensor, "*n"]:
    """Return where there are positive and negative examples; figures exist there alone."""
    true, false, missed, rest = counts.unbind(-1)
    return (true + missed > 0) & (false + rest > 0)


def f1_of(counts: Int[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """``2 TP / (2 TP + FP + FN)`` as float64; NaN where a class is missing."""
    import torch

    true, false, missed, _ = counts.double().unbind(-1)
    return torch.where(two_classes(counts), 2 * true / (2 * true + false + missed).clamp(min=1), torch.nan)
