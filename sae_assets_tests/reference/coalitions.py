"""Greedy coalitions, exhaustively and in exact fractions (numerics 9)."""

from fractions import Fraction

import numpy as np


def f1(detected: np.ndarray, truth: np.ndarray) -> Fraction:
    """``2 TP / (P + |H|)``; 0/0 is 0."""
    bottom = int(detected.sum() + truth.sum())
    return Fraction(2 * int((detected & truth).sum()), bottom) if bottom else Fraction(0)


def grow(scores: np.ndarray, truth: np.ndarray, rule: str, max_units: int, min_support: int) -> list[tuple[int, float]]:
    """(unit, threshold) of the members in order: scores [examples, units], bool truth [examples], both of cal."""
    members: list[tuple[int, float]] = []
    detected = np.zeros(len(truth), bool)
    while len(members) < max_units:
        ranked = []
        for unit, column in enumerate(scores.T):
            if unit in [member for member, _ in members]:
                continue
            for threshold in np.unique(column[column > 0]):
                found = column >= threshold
                joined = found if not members else detected | found if rule == "or" else detected & found
                support = joined & truth & ~detected if rule == "or" else joined & truth
                if support.sum() >= min_support:
                    ranked.append((f1(joined, truth), int((joined & truth).sum()), float(threshold), -unit))
        if not ranked or (members and max(ranked)[0] <= f1(detected, truth)):
            break
        _, _, threshold, minus_unit = max(ranked)
        found = scores[:, -minus_unit] >= threshold
        detected = found if not members else detected | found if rule == "or" else detected & found
        members.append((-minus_unit, threshold))
    return members
