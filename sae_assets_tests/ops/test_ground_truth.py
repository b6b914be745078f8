"""Ground truth of rows against pixel loops and dense counts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sae_assets.errors import ArtifactError
from sae_assets.ops.ground_truth import (
    collect_truth,
    count_positive_rows,
    covered_patches,
    overlapping_tokens,
    pixels_of_patches,
)
from sae_assets_tests.reference import ground_truth as reference
from sae_assets_tests.strategies import PROPERTY, chunkings, worlds


@PROPERTY
@given(
    st.data(), st.integers(1, 10), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 17) | st.integers(1, 99).map(lambda percent: percent / 100),
)  # fmt: skip
def test_covered_patches_are_those_with_enough_pixels(data, patch_size, high, wide, min_overlap):
    """Patches come row by row and need ``min_overlap`` pixels, or that share of theirs, compared exactly."""
    mask = data.draw(hnp.arrays(np.bool_, (high * patch_size, wide * patch_size), fill=st.nothing()))
    pixels = pixels_of_patches(torch.from_numpy(mask), patch_size)
    assert pixels.tolist() == reference.pixels_of_patches(mask, patch_size)
    got = covered_patches(pixels, patch_size**2, min_overlap)
    assert got.tolist() == reference.covered_patches(mask, patch_size, min_overlap).tolist()


def test_one_pixel_is_enough_by_default():
    """Any pixel in the mask makes its patch positive; as a share of a half, two of four are needed."""
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[3, 2] = mask[0, 0] = mask[0, 1] = True
    pixels = pixels_of_patches(mask, 2)
    assert covered_patches(pixels, 4).tolist() == [True, False, False, False, True, False]
    assert covered_patches(pixels, 4, 0.5).tolist() == [True, False, False, False, False, False]


def test_shares_are_compared_without_rounding():
    """7 pixels of 100 are a share of 0.07, though 0.07 times 100 is more than 7 in floating point."""
    pixels = torch.tensor([7])
    assert covered_patches(pixels, 100, 0.07).tolist() == [True]
    assert covered_patches(pixels, 100, 0.08).tolist() == [False]


@pytest.mark.parametrize("shape", [(5, 4), (4, 5)])
def test_a_mask_that_patches_do_not_tile_is_refused(shape):
    """Nothing is cut off silently."""
    with pytest.raises(ArtifactError, match=f"{shape[0]}x{shape[1]} pixels cannot be cut into patches of 2"):
        pixels_of_patches(torch.zeros(shape, dtype=torch.bool), 2)


stretches = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)).map(lambda s: (s[0], s[0] + s[1])), max_size=6)


@PROPERTY
@given(stretches, stretches)
def test_tokens_are_positive_where_they_share_a_character(tokens, spans):
    """Any tokens and spans, overlapping, empty or none at all."""
    got = overlapping_tokens(*(torch.tensor(each, dtype=torch.int64).view(-1, 2) for each in (tokens, spans)))
    assert got.tolist() == reference.overlapping_tokens(tokens, spans)


@PROPERTY
@given(worlds())
def test_collected_truth_holds_every_positive(world):
    """The sparse form is the dense truth, for examples of any number of rows."""
    ends = np.cumsum(world.lengths)
    rows = [torch.from_numpy(world.truth[a:b]) for a, b in zip(ends - world.lengths, ends, strict=True)]
    assert collect_truth(rows, world.concepts, 0) == world.ground_truth()


@PROPERTY
@given(worlds(), st.data())
def test_collected_pixels_are_those_of_every_patch(world, data):
    """Also of patches with too few of them to be positive."""
    shown = data.draw(hnp.arrays(np.int32, world.truth.shape, elements=st.integers(0, 3)))
    truth = shown > 1
    ends = np.cumsum(world.lengths)
    parts = [(torch.from_numpy(truth[a:b]), torch.from_numpy(shown[a:b]))
             for a, b in zip(ends - world.lengths, ends, strict=True)]  # fmt: skip
    got = collect_truth([rows for rows, _ in parts], world.concepts, 0, [pixels for _, pixels in parts], 3)
    dense = np.zeros_like(shown)
    dense[got.row_of_cover(), got.cover_ids] = got.cover_pixels
    assert (dense == shown).all() and got.patch_pixels == 3
    assert got.row_of_positive().tolist() == np.argwhere(truth)[:, 0].tolist()


@PROPERTY
@given(worlds(), st.data())
def test_positive_calibration_rows_are_counted_over_chunks(world, data):
    """|G_c ∩ cal| for any chunking."""
    parts = [world.take(part) for part in data.draw(chunkings(len(world.lengths)))]
    got = count_positive_rows((part.ground_truth(), part.mask("cal")) for part in parts)
    assert got == reference.positive_rows(world.truth, world.rows_in("cal"))
