"""Exact order statistics of many groups at once, by one sort of packed (group, value) keys.

Positive float32 values order as their bit patterns do, so ``group << 32 | bits`` sorts by group, then value. Equal
keys are equal entries: the result depends on neither the order nor the chunking of the input, on any device.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of

BITS = 32
_LARGEST = 0x7FFFFFFF


def pack(groups: Int[Tensor, " n"], values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """int64 keys that order by group, then by value ascending; ``values`` float32 and > 0."""
    return groups.long() << BITS | values.view(torch.int32).long()


def pack_descending(groups: Int[Tensor, " n"], values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """int64 keys that order by group, then by value descending; ``values`` float32 and > 0."""
    return groups.long() << BITS | _LARGEST - values.view(torch.int32).long()


def unpack(keys: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """The (group, value) of keys made by :func:`pack`."""
    return keys >> BITS, (keys & _LARGEST).int().view(torch.float32)


def linear_quantiles(
    ordered: Float[Tensor, " n"], counts: Int[Tensor, " groups"], q: Float[Tensor, " fractions"]
) -> Float[Tensor, "groups fractions"]:
    """Quantiles of each run of ``ordered`` (values ascending within a run), as ``numpy.quantile(method="linear")``.

    Rank ``(n - 1) q`` in float64; the lerp starts from the nearer neighbour, as numpy's does. float64, NaN for an
    empty run.
    """
    n = counts.double()[:, None]
    rank = (n - 1).clamp(min=0) * q.double()
    low = rank.floor()
    weight = rank - low
    start = offsets_of(counts)[:-1, None]
    last = (counts[:, None] - 1).clamp(min=0)
    if len(ordered) == 0:
        return torch.full(rank.shape, torch.nan, dtype=torch.float64, device=ordered.device)
    limit = len(ordered) - 1
    below = ordered[(start + low.long()).clamp(max=limit)].double()
    above = ordered[(start + torch.minimum(low.long() + 1, last)).clamp(max=limit)].double()
    step = above - below
    value = torch.where(weight < 0.5, below + step * weight, above - step * (1 - weight))
    return torch.where(n > 0, value, torch.nan)


def plan_blocks(counts: Int[Tensor, " groups"], max_entries: int) -> Iterator[tuple[int, int]]:
    """Cut groups 0..n into runs [start, stop) whose entries sum to at most ``max_entries`` (one group at least)."""
    start, held = 0, 0
    for group, count in enumerate(counts.tolist()):
        if held and held + count > max_entries:
            yield start, group
            start, held = group, 0
        held += count
    if start < len(counts):
        yield start, len(counts)
