"""Figures beside F1 that do not move with the share of positives, or that judge probabilities.

Scores of chosen units are dense here, one row per concept: an example in which a unit is silent scores 0, and all such
examples are one group of ties. Intervals live in ``ops.intervals``.
"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import BITS
from sae_assets.ops.sorted_scores import ExampleScores


@plain_arithmetic()
def unit_scores(scores: ExampleScores, units: Int[Tensor, " concepts"]) -> Float[Tensor, "concepts examples"]:
    """Return scores of each example under these units, float32, 0 where a unit is silent; NaN for unit −1."""
    result = torch.zeros(len(units), len(scores.labels), device=scores.keys.device, dtype=torch.float32)
    for row, unit in enumerate(units.tolist()):
        if unit < 0:
            result[row] = torch.nan
            continue
        segment = slice(int(scores.starts[unit]), int(scores.starts[unit + 1]))
        values = (0x7FFFFFFF - (scores.keys[segment] & (1 << BITS) - 1)).int().view(torch.float32)
        result[row, scores.example[segment]] = values
    return result


@plain_arithmetic()
def auroc(scores: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"]) -> Float[Tensor, "*n"]:
    """Return share of (positive, negative) pairs in order, ties half (Mann & Whitney 1947). NaN without two classes."""
    negative = torch.where(truth, torch.inf, scores.double()).sort(-1).values
    x = scores.double().contiguous()
    below = torch.searchsorted(negative, x) + torch.searchsorted(negative, x, right=True)
    pairs = truth.sum(-1) * (~truth).sum(-1)
    area = torch.where(truth, below, 0).sum(-1).double() / (2 * pairs)
    return torch.where(scores.isnan().any(-1), torch.nan, area)


@plain_arithmetic()
def average_precision(scores: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"]) -> Float[Tensor, "*n"]:
    """Return precision at the threshold of each positive, averaged; equal scores share a threshold. NaN without a
    positive.

    This is the sum over thresholds of (recall's increase) × precision, not interpolated.
    """
    x = scores.double().contiguous()
    every = x.sort(-1).values
    positive = torch.where(truth, x, -torch.inf).sort(-1).values
    above = x.shape[-1] - torch.searchsorted(every, x)
    true = x.shape[-1] - torch.searchsorted(positive, x)
    figure = torch.where(truth, true.double() / above.clamp(min=1), 0.0).sum(-1) / truth.sum(-1)
    return torch.where(scores.isnan().any(-1), torch.nan, figure)


@plain_arithmetic()
def matthews(
    tp: Shaped[Tensor, "*n"], fp: Shaped[Tensor, "*n"], fn: Shaped[Tensor, "*n"], tn: Shaped[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Return Matthews' correlation of truth and detection (1975); 0 where one of them is constant, NaN without
    examples."""
    tp, fp, fn, tn = (count.double() for count in (tp, fp, fn, tn))
    bottom = ((tp + fp).sqrt() * (tp + fn).sqrt()) * ((tn + fp).sqrt() * (tn + fn).sqrt())
    figure = torch.where(bottom > 0, (tp * tn - fp * fn) / bottom.clamp(min=1e-300), 0.0)
    return torch.where(tp + fp + fn + tn > 0, figure, torch.nan)


@plain_arithmetic()
def balanced_accuracy(
    tp: Shaped[Tensor, "*n"], fp: Shaped[Tensor, "*n"], fn: Shaped[Tensor, "*n"], tn: Shaped[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """Return mean of recall and specificity; NaN without two classes."""
    return (tp / (tp + fn).double() + tn / (tn + fp).double()) / 2


@plain_arithmetic()
def isotonic_probabilities(
    cal_scores: Float[Tensor, " cal"], cal_truth: Bool[Tensor, " cal"], scores: Float[Tensor, " examples"]
) -> Float[Tensor, " examples"]:
    """Return probabilities of scores by isotonic regression on cal, float64. NaN if cal has no example."""
    return interpolate(*isotonic_curve(cal_scores, cal_truth), scores)


@plain_arithmetic()
def isotonic_curve(
    cal_scores: Float[Tensor, " cal"], cal_truth: Bool[Tensor, " cal"]
) -> tuple[Float[Tensor, " knots"], Float[Tensor, " knots"]]:
    """Return scores, ascending, and the probability of each by pooled adjacent violators (Ayer et al. 1955), float64.

    Of scores that share a probability the first and the last stand there; nothing if cal has no example.
    """
    values, inverse, sizes = cal_scores.double().unique(return_inverse=True, return_counts=True)
    true = torch.bincount(inverse, weights=cal_truth.double(), minlength=len(values))
    blocks: list[tuple[float, int, int]] = []  # positives, examples, distinct scores
    for hits, size in zip(true.tolist(), sizes.tolist(), strict=True):
        block = (hits, size, 1)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    levels = torch.tensor([hits / size for hits, size, _ in blocks], dtype=torch.float64, device=cal_scores.device)
    lengths = torch.tensor([n for _, _, n in blocks], device=cal_scores.device, dtype=torch.int64)
    stops = lengths.cumsum(0)
    ends = torch.stack([stops - lengths, stops - 1], 1).flatten().unique()
    return values[ends], levels.repeat_interleave(lengths)[ends]


@plain_arithmetic()
def interpolate(
    knots: Float[Tensor, " knots"], heights: Float[Tensor, " knots"], scores: Float[Tensor, " examples"]
) -> Float[Tensor, " examples"]:
    """Return heights at scores, float64: linear between the knots and constant beyond them, as scikit-learn's. NaN
    without."""
    if not len(knots):
        return torch.full_like(scores, torch.nan, dtype=torch.float64)
    x = scores.double().clamp(knots[0], knots[-1])
    right = torch.searchsorted(knots, x).clamp(1, max(1, len(knots) - 1)).clamp(max=len(knots) - 1)
    left = (right - 1).clamp(min=0)
    width = knots[right] - knots[left]
    share = torch.where(width > 0, (x - knots[left]) / width.clamp(min=1e-300), 0.0)
    return heights[left] + share * (heights[right] - heights[left])


@plain_arithmetic()
def brier(probabilities: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"]) -> Float[Tensor, "*n"]:
    """Return mean squared difference of probability and truth (Brier 1950); NaN without examples."""
    return (probabilities.double() - truth.double()).square().mean(-1)


@plain_arithmetic()
def calibration_error(
    probabilities: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"], n_bins: int = 15
) -> Float[Tensor, "*n"]:
    """Return expected calibration error over bins of equal width, ``(k/n, (k+1)/n]`` (Guo et al. 2017); NaN without
    examples.

    Probabilities are within 0 and 1; 0 is in the first bin.
    """
    p = probabilities.double()
    which = (p * n_bins).ceil().long().clamp(1, n_bins) - 1
    gap = torch.zeros(*p.shape[:-1], n_bins, dtype=torch.float64, device=p.device)
    gap.scatter_add_(-1, which, truth.double() - p)
    return gap.abs().sum(-1) / p.shape[-1]
