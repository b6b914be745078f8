"""Sums of ranks of units' scores, from which the AUROC of many truths follows at once."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.block_search import ENTRIES_AT_ONCE
from sae_assets.ops.compiled import loops_for
from sae_assets.ops.segments import positions
from sae_assets.ops.sorted_scores import ExampleScores
from sae_assets.ops.truth_sets import spread


def midrank_excess(scores: ExampleScores) -> Float[Tensor, " scores"]:
    """Return how far the midrank of each score lies above that of the unit's zeros, float64, ranks over all
    examples."""
    keys, n_examples = scores.keys, len(scores.labels)
    group = torch.ones(len(keys), dtype=torch.int64, device=keys.device)
    group[1:] = keys[1:] != keys[:-1]
    group = group.cumsum(0) - 1
    sizes = torch.bincount(group)
    ends = sizes.cumsum(0)
    lengths = scores.starts.diff()
    unit = torch.repeat_interleave(torch.arange(len(lengths), device=keys.device), lengths)
    # Descending places first..last (from 1) are ascending ranks n + 1 − position; zeros have (n − length + 1) / 2.
    middle = (ends[group] - scores.starts[unit]).double() - (sizes[group] - 1).double() / 2
    return n_examples + 1 - middle - (n_examples - lengths[unit] + 1).double() / 2


def rank_sums(
    scores: ExampleScores,
    excess: Float[Tensor, " scores"],
    units: Int[Tensor, " truths"],
    detected: Int[Tensor, " truths"],
    truths: Bool[Tensor, "examples truths"],
    n_positive: Int[Tensor, " truths"],
) -> tuple[Int[Tensor, " truths"], Float[Tensor, " truths"]]:
    """True examples among the first ``detected`` of a unit's list, and the midranks of all true ones, added up.

    Args:
        excess: of these scores, by :func:`midrank_excess`.
        n_positive: true examples of each truth.
    """
    lengths = scores.starts.diff()[units]
    hits = torch.zeros(len(units), dtype=torch.int64, device=units.device)
    ranks = n_positive.double() * (len(scores.labels) - lengths + 1) / 2
    starts = scores.starts[units]
    loops = loops_for(int(lengths.sum()), units.device)
    if loops:
        columns = scores.example, excess, starts, lengths, detected, truths.T.contiguous(), hits, ranks
        loops.search.add_up_ranks(*(column.numpy() for column in columns))
        return hits, ranks
    at_once = max(1, ENTRIES_AT_ONCE // max(1, int(lengths.max()) if len(lengths) else 1))
    flat = truths.reshape(-1)
    for some in torch.arange(len(units), device=units.device).split(at_once):
        position, draw = spread(starts[some], lengths[some])
        draw += some[0]
        cell = scores.example.index_select(0, position) * len(units) + draw
        true = positions(flat.index_select(0, cell))
        draw, position = draw.index_select(0, true), position.index_select(0, true)
        within = position < (starts + detected).index_select(0, draw)
        hits += torch.bincount(draw.index_select(0, positions(within)), minlength=len(units))
        ranks += torch.bincount(draw, weights=excess.index_select(0, position), minlength=len(units))
    return hits, ranks


def auroc_of(ranks: Float[Tensor, " n"], n_positive: Int[Tensor, " n"], n_examples: int) -> Float[Tensor, " n"]:
    """Return AUROC from sums of the positives' midranks (Mann & Whitney 1947): ties count half. NaN without two
    classes."""
    pairs = n_positive * (n_examples - n_positive)
    area = (ranks - (n_positive * (n_positive + 1)).double() / 2) / pairs.clamp(min=1)
    return torch.where(pairs > 0, area, torch.nan)
