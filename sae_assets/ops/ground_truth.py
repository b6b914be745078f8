"""Ground truth of rows: which patches a mask covers, and the same for one row per example.

Masks arrive already under the image's geometric transform (``rows`` does that); here they are only cut into
patches and counted.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import GroundTruth, offsets_of
from sae_assets.errors import ArtifactError


def covered_patches(
    mask: Bool[Tensor, "height width"], patch_size: int, min_overlap: int | float = 1
) -> Bool[Tensor, " rows"]:
    """Patches (row by row) of which enough lies inside the mask.

    Args:
        min_overlap: below 1 the least share of a patch's pixels, from 1 on their least number.

    Raises:
        ArtifactError: the mask's size is no multiple of the patch's.
    """
    height, width = mask.shape
    if height % patch_size or width % patch_size:
        raise ArtifactError(f"A mask of {height}x{width} pixels cannot be cut into patches of {patch_size}.")
    tiles = mask.reshape(height // patch_size, patch_size, width // patch_size, patch_size)
    least = min_overlap if min_overlap >= 1 else Fraction(str(min_overlap)) * patch_size**2  # 0.07 of 100 is 7
    return (tiles.sum((1, 3)) >= math.ceil(least)).flatten()


def overlapping_tokens(tokens: Int[Tensor, "rows 2"], spans: Int[Tensor, "spans 2"]) -> Bool[Tensor, " rows"]:
    """Tokens whose characters [start, end) overlap a span's; an empty token or span overlaps nothing."""
    first = torch.maximum(tokens[:, None, 0], spans[None, :, 0])
    last = torch.minimum(tokens[:, None, 1], spans[None, :, 1])
    return (first < last).any(1)


def collect_truth(
    rows: Sequence[Bool[Tensor, "_ concepts"]], concepts: Sequence[str], first_example: int
) -> GroundTruth:
    """Sparse truth of a chunk from each example's bool [n_rows, n_concepts]."""
    per_example = torch.tensor([len(truth) for truth in rows], dtype=torch.int64, device="cpu")
    truth = torch.cat(list(rows))
    concept_ids = truth.nonzero()[:, 1].int()
    return GroundTruth(
        concepts=tuple(concepts),
        first_example=first_example,
        example_offsets=offsets_of(per_example),
        row_offsets=offsets_of(truth.sum(1)),
        concept_ids=concept_ids,
    )


def count_positive_rows(chunks: Iterable[tuple[GroundTruth, Bool[Tensor, " examples"]]]) -> list[int]:
    """|G_c ∩ chosen| per concept over chunks, each with the mask of its chosen (calibration) examples."""
    total: Tensor | None = None
    for truth, chosen in chunks:
        example = torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), truth.example_offsets.diff())
        inside = chosen[example][truth.row_of_positive()]
        counts = truth.concept_ids[inside].long().bincount(minlength=len(truth.concepts))
        total = counts if total is None else total + counts
    return [] if total is None else total.tolist()
