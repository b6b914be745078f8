"""Unit mapping, one unit at a time (numerics 3)."""

import math
from collections.abc import Sequence

import numpy as np


def prune(
    stats: dict[str, np.ndarray],
    *,
    min_active: int = 1,
    max_density: float | None = None,
    max_count: float | None = None,
    strength_percentile: float = 0.0,
    target: int | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The three rules in order.

    Args:
        stats: arrays [units] ``n_active``, ``density``, ``p99``, ``selectivity``, as ``unit_stats`` gives them.

    Returns:
        Kept original unit ids, ascending, and per unit its reason (``kept`` or the first rule it fails).
    """
    reasons = []
    for count, density in zip(stats["n_active"], stats["density"], strict=True):
        if count == 0:
            reasons.append("dead")
        elif count < min_active:
            reasons.append("rare")
        elif (max_density is not None and density > max_density) or (max_count is not None and count > max_count):
            reasons.append("dense")
        else:
            reasons.append("kept")
    survivors = [unit for unit, reason in enumerate(reasons) if reason == "kept"]
    if survivors:
        cutoff = np.quantile([stats["p99"][unit] for unit in survivors], strength_percentile / 100)
        for unit in survivors:
            if stats["p99"][unit] < cutoff:
                reasons[unit] = "weak"
    survivors = [unit for unit in survivors if reasons[unit] == "kept"]
    if target is not None and len(survivors) > target:
        selectivity = np.nan_to_num(stats["selectivity"], nan=-1.0)
        for unit in sorted(survivors, key=lambda u: (-selectivity[u], -stats["p99"][u], u))[target:]:
            reasons[unit] = "over_target"
    return np.array([unit for unit, reason in enumerate(reasons) if reason == "kept"], np.int64), reasons


def adaptive_limits(positive_rows: Sequence[int], modality: str = "image") -> dict[str, float]:
    """``min_active``, ``max_count`` and ``strength_percentile`` from the concepts' counts of positive cal rows."""
    present = [count for count in positive_rows if count > 0]
    low = math.floor(0.75 * min(present)) if modality == "image" else max(10, math.floor(0.01 * min(present)))
    n = len(positive_rows)
    percentile = 50 if n == 1 else 60 if 2 <= n <= 9 else 70 if 10 <= n <= 29 else 80
    return {"min_active": low, "max_count": 1.25 * max(present), "strength_percentile": percentile}


def adaptive_mapping(
    stats: dict[str, np.ndarray], positive_rows: Sequence[int], target: int | None, modality: str = "image"
) -> tuple[np.ndarray, list[str]]:
    """``prune`` under the adaptive limits: (kept unit ids ascending, reason per unit)."""
    return prune(stats, **adaptive_limits(positive_rows, modality), target=target)


def active_mapping(stats: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """cls rows: every unit that is active at least once is kept."""
    return prune(stats)
