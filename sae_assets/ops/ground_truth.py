"""Ground truth of rows: which patches a mask covers, and the same for one row per example.

Masks arrive already under the image's geometric transform (``rows`` does that); here they are only cut into
patches and counted.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import GroundTruth, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic


@plain_arithmetic()
def pixels_of_patches(mask: Bool[Tensor, "height width"], patch_size: int) -> Int[Tensor, " rows"]:
    """Return pixels of each patch (row by row) that lie inside the mask, int32.

    Raises:
        ArtifactError: the mask's size is no multiple of the patch's.
    """
    height, width = mask.shape
    if height % patch_size or width % patch_size:
        raise ArtifactError(f"A mask of {height}x{width} pixels cannot be cut into patches of {patch_size}.")
    tiles = mask.reshape(height // patch_size, patch_size, width // patch_size, patch_size)
    return tiles.sum((1, 3)).flatten().int()


@plain_arithmetic()
def covered_patches(
    pixels: Int[Tensor, "*rows"], patch_pixels: int, min_overlap: int | float = 1
) -> Bool[Tensor, "*rows"]:
    """Return patches of which enough lies inside the mask.

    Args:
        pixels: of each patch that lie inside, from :func:`pixels_of_patches`; patch_pixels: that a patch has.
        min_overlap: below 1 the least share of a patch's pixels, from 1 on their least number.
    """
    least = min_overlap if min_overlap >= 1 else Fraction(str(min_overlap)) * patch_pixels  # 0.07 of 100 is 7
    return pixels >= math.ceil(least)


@plain_arithmetic()
def overlapping_tokens(tokens: Int[Tensor, "rows 2"], spans: Int[Tensor, "spans 2"]) -> Bool[Tensor, " rows"]:
    """Return tokens whose characters [start, end) overlap a span's; an empty token or span overlaps nothing."""
    first = torch.maximum(tokens[:, None, 0], spans[None, :, 0])
    last = torch.minimum(tokens[:, None, 1], spans[None, :, 1])
    return (first < last).any(1)


@plain_arithmetic()
def collect_truth(
    rows: Sequence[Bool[Tensor, "_ concepts"]],
    concepts: Sequence[str],
    first_example: int,
    pixels: Sequence[Int[Tensor, "_ concepts"]] | None = None,
    patch_pixels: int | None = None,
) -> GroundTruth:
    """Return sparse truth of a chunk from each example's bool [n_rows, n_concepts].

    Args:
        pixels: int32 of the same shapes, pixels of each patch that show each concept; None where no mask was cut.
        patch_pixels: that a patch has, where ``pixels`` are given.
    """
    per_example = torch.tensor([len(truth) for truth in rows], dtype=torch.int64, device="cpu")
    truth = torch.cat(list(rows))
    cover: dict[str, Any] = {}
    if pixels is not None:
        shown = torch.cat(list(pixels))
        row, concept = shown.nonzero(as_tuple=True)
        cover = {
            "patch_pixels": patch_pixels,
            "cover_offsets": offsets_of((shown > 0).sum(1)),
            "cover_ids": concept.int(),
            "cover_pixels": shown[row, concept],
        }
    return GroundTruth(
        concepts=tuple(concepts),
        first_example=first_example,
        example_offsets=offsets_of(per_example),
        row_offsets=offsets_of(truth.sum(1)),
        concept_ids=truth.nonzero()[:, 1].int(),
        **cover,
    )


@plain_arithmetic()
def count_positive_rows(chunks: Iterable[tuple[GroundTruth, Bool[Tensor, " examples"]]]) -> list[int]:
    """Return |G_c ∩ chosen| per concept over chunks, each with the mask of its chosen (calibration) examples."""
    total: Tensor | None = None
    for truth, chosen in chunks:
        example = torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), truth.example_offsets.diff())
        inside = chosen[example][truth.row_of_positive()]
        counts = truth.concept_ids[inside].long().bincount(minlength=len(truth.concepts))
        total = counts if total is None else total + counts
    return [] if total is None else total.tolist()
