"""Scores of units in blocks, as the exact search goes through them, by torch or by a compiled loop."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.ops.sorted_scores import ExampleScores

BLOCK = 8  # scores of a unit whose hits are added up together; at most 15, for two truths share a byte
GROUP = 64  # units whose best hits are looked at together


class Blocks:
    """Blocks of a split's scores: 7 bytes per score, rounded up to whole blocks.

    Slab j holds block j of every unit that has one, units with most blocks first, filled up to whole groups.

    Attributes:
        bounds: where each slab begins, and where the last ends.
        n_longer: int64 [slabs], blocks of each that are there.
        unit: int64 [blocks]; first: int64 [blocks], scores of the unit before the block.
        ends: bool [blocks, BLOCK], whether a threshold can lie at a score: behind the last of equal ones.
        examples: int32 [blocks, BLOCK], of each score; one more than there are where the unit has no more.
    """

    def __init__(self, scores: ExampleScores):
        self.scores = scores
        device, n_scores = scores.keys.device, len(scores.keys)
        lengths = scores.starts.diff()
        blocks = (lengths + BLOCK - 1) // BLOCK
        by_blocks = blocks.argsort(descending=True, stable=True)
        n_slabs = int(blocks.max()) if len(blocks) else 0
        longer = len(blocks) - torch.bincount(blocks, minlength=n_slabs + 1).cumsum(0)[:n_slabs]
        widths = (longer + GROUP - 1) // GROUP * GROUP
        self.bounds: list[int] = offsets_of(widths).tolist()
        slab = torch.repeat_interleave(torch.arange(n_slabs, device=device), widths)
        column = torch.arange(len(slab), device=device) - offsets_of(widths)[slab]
        unit = by_blocks[column.clamp(max=max(0, len(blocks) - 1))]
        start = scores.starts[unit] + slab * BLOCK
        each = start[:, None] + torch.arange(BLOCK, device=device)
        inside = (each < scores.starts[unit + 1][:, None]) & (column < longer[slab])[:, None]
        # A threshold lies behind the last of equal scores; the keys hold the unit too, so a unit's last one counts.
        last = torch.ones(n_scores, dtype=torch.bool, device=device)
        last[:-1] = scores.keys[1:] != scores.keys[:-1]
        each = each.clamp(max=max(0, n_scores - 1))
        self.unit, self.first, self.n_longer = unit, slab * BLOCK, longer
        self.ends = inside & last[each]
        self.examples = torch.where(inside, scores.example[each], len(scores.labels)).int()

    def __len__(self) -> int:
        return len(self.unit)


def packed_truths(truth: Integer[Tensor, "examples_1 truths"]) -> Integer[Tensor, "examples_1 half"]:
    """Return two truths in each byte, four bits of one: of the first half and of the second."""
    half = truth.shape[1] // 2
    return truth[:, :half] | truth[:, half:] << 4


def lower_float32(f1: Float[Tensor, " truths"]) -> Float[Tensor, " truths"]:
    """Return a float32 below these, against which bounds are held; 0 at least."""
    return f1.clamp(min=0).float() * (1 - 1e-6)
