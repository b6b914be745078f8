"""A report shows of each concept's unit the test examples that it finds and misses, and its F1 at every threshold."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import unpack_descending
from sae_assets.ops.sorted_scores import ExampleScores


@dataclass(frozen=True)
class SortedOut:
    """Examples of one split by number, at most as many of each as were asked for; counts are of all.

    Attributes:
        scores: float32 [n_examples], of the unit, 0 where it does not fire.
        top: with the largest scores; hits, false_positives: detected, largest score first; misses: positives that are
            not, smallest score first. Equal scores come in the order of the data set.
        n_hits, n_false_positives, n_misses: how many there are in all.
    """

    scores: Float[Tensor, " examples"]
    top: list[int]
    hits: list[int]
    false_positives: list[int]
    misses: list[int]
    n_hits: int
    n_false_positives: int
    n_misses: int


@plain_arithmetic()
def scores_of(scores: ExampleScores, unit: int) -> Float[Tensor, " examples"]:
    """Return float32: a unit's score of every example of the split, 0 where it has none."""
    segment = slice(int(scores.starts[unit]), int(scores.starts[unit + 1]))
    whole = torch.zeros(len(scores.labels), dtype=torch.float32, device=scores.keys.device)
    whole[scores.example[segment]] = unpack_descending(scores.keys[segment])[1]
    return whole.cpu()


@plain_arithmetic()
def sort_out(scores: ExampleScores, unit: int, threshold: float, concept: int, most: int) -> SortedOut:
    """Return what a unit finds and misses of a concept at a threshold; unit -1 stands for none, and misses everything.

    Args:
        concept: column of the labels; most: examples of each kind.
    """
    truth = scores.labels[:, concept].cpu()
    if unit < 0:
        values, positive = torch.zeros(len(truth), dtype=torch.float32, device="cpu"), torch.zeros_like(truth)
    else:
        values, positive = scores_of(scores, unit), scores.detected(unit, threshold).cpu()
    falling = torch.sort(values, descending=True, stable=True).indices
    rising = torch.sort(values, stable=True).indices

    def first(order: Int[Tensor, " n"], among: Bool[Tensor, " n"]) -> list[int]:
        chosen: list[int] = order[among[order]][:most].tolist()
        return chosen

    kinds = (positive & truth, positive & ~truth, ~positive & truth)
    return SortedOut(
        values,
        first(falling, values > 0),
        first(falling, kinds[0]),
        first(falling, kinds[1]),
        first(rising, kinds[2]),
        *(int(kind.sum()) for kind in kinds),
    )


@plain_arithmetic()
def f1_curve(scores: ExampleScores, unit: int, concept: int) -> Float[Tensor, "thresholds 2"]:
    """Return float64: every distinct score of a unit, ascending, and the F1 of detecting from it on.

    NaN where the split has no positive.
    """
    values, order = torch.sort(scores_of(scores, unit), descending=True, stable=True)
    truth = scores.labels[:, concept].cpu()
    hits = truth[order].double().cumsum(0)
    last = torch.cat([values[1:] != values[:-1], torch.ones(min(1, len(values)), dtype=torch.bool, device="cpu")])
    ends = (last & (values > 0)).nonzero().flatten()
    f1 = 2 * hits[ends] / (ends + 1 + truth.sum())
    f1 = f1 if bool(truth.any()) else torch.full_like(f1, torch.nan)
    return torch.stack([values[ends].double(), f1], 1).flip(0)
