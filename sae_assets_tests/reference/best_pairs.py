"""Choice of the best pair, exhaustively and in exact fractions (numerics 6)."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from sae_assets_tests.reference.detection_stats import confusion, f1


def best_pair(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, valid: np.ndarray) -> tuple[int, int] | None:
    """(unit position, fraction position) of the highest calibration F1 of one concept.

    Ties: higher recall, then smaller tail fraction, then lower unit. None without a valid unit or without a positive.

    Args:
        tp, fp, fn: ints [units, fractions], fractions ascending, units by ascending id; valid: bool [units].
    """
    ranked = []
    for unit, place in np.ndindex(*tp.shape):
        hit, false, missed = int(tp[unit, place]), int(fp[unit, place]), int(fn[unit, place])
        if valid[unit] and hit + missed > 0:
            f1 = Fraction(2 * hit, 2 * hit + false + missed)
            ranked.append((-f1, -Fraction(hit, hit + missed), place, unit))
    if not ranked:
        return None
    _, _, place, unit = min(ranked)
    return unit, place


def always_positive_f1(n_positive: int, n_examples: int) -> float:
    """F1 of calling every example positive, from its precision and recall; NaN without positives."""
    if n_positive == 0:
        return float("nan")
    precision, recall = n_positive / n_examples, 1.0
    return 2 * precision * recall / (precision + recall)


def weighted_mean(figures: Sequence[float], n_positive: Sequence[int]) -> float:
    """Mean of the concepts' figures weighted by their test positives; nulls count neither way."""
    pairs = [(figure, weight) for figure, weight in zip(figures, n_positive, strict=True) if not np.isnan(figure)]
    total = sum(weight for _, weight in pairs)
    return sum(figure * weight for figure, weight in pairs) / total if total else float("nan")


def chance(
    scores: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    thresholds: np.ndarray,
    orders: Sequence[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """F1 that the choice reaches on shuffled labels, one shuffle after another: [2, concepts, shuffles]; NaN is null.

    Args:
        scores: of cal and of test, [examples, units]; labels: the same, bool [examples, concepts].
        thresholds: [concepts, units, fractions]; orders: per shuffle the order of cal and of test labels.
    """
    reached = np.full((2, thresholds.shape[0], len(orders)), np.nan)
    for draw, order in enumerate(orders):
        shuffled = [truth[places] for truth, places in zip(labels, order, strict=True)]
        counts = [confusion(score, truth, thresholds)[:3] for score, truth in zip(scores, shuffled, strict=True)]
        for concept in range(thresholds.shape[0]):
            pair = best_pair(*(cell[concept] for cell in counts[0]), ~np.isnan(thresholds[concept, :, 0]))
            for split in range(2):
                if pair is not None and shuffled[split][:, concept].any():
                    reached[split, concept, draw] = f1(*(cell[concept][pair] for cell in counts[split]))
    return reached


def held_out_f1(scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, fold: np.ndarray) -> list[float]:
    """F1 per concept of counts added up over folds, each counted with the pair chosen on the others; NaN is null.

    Args:
        scores: of cal, [examples, units]; labels: bool [examples, concepts]; fold: int [examples].
        thresholds: [concepts, units, fractions].
    """
    figures = []
    for concept in range(thresholds.shape[0]):
        cells = np.zeros(3, np.int64)
        for number in range(fold.max(initial=0) + 1):
            inside = fold == number
            others, here = (confusion(scores[m], labels[m], thresholds)[:3] for m in (~inside, inside))
            pair = best_pair(*(cell[concept] for cell in others), ~np.isnan(thresholds[concept, :, 0]))
            if pair is None:
                cells = None
                break
            cells += [cell[concept][pair] for cell in here]
        figures.append(float("nan") if cells is None else float(f1(*cells)))
    return figures
