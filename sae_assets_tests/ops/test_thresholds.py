"""Thresholds against the dense reference, for any chunking and any budget."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.errors import ArtifactError
from sae_assets.ops.thresholds import TAIL_FRACTIONS, CalibrationChunk, calibrate_thresholds
from sae_assets_tests.helpers.ops_of_worlds import calibrate, cut, many_rows
from sae_assets_tests.reference import thresholds as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, chunkings, random_world, tail_fractions, worlds


def assert_matches(got, world: World, fractions) -> None:
    cal = world.rows_in("cal")
    dense, truth = world.activations, world.truth
    every = np.ones((len(dense), 1), bool)
    np.testing.assert_array_equal(got.n_positive[:-1].numpy(), reference.n_positive(dense, truth, cal))
    np.testing.assert_array_equal(got.n_positive[-1:].numpy(), reference.n_positive(dense, every, cal))
    expected = reference.thresholds(dense, truth, cal, fractions)
    np.testing.assert_allclose(got.values[:-1].numpy(), expected, rtol=1e-12, atol=0)
    expected = reference.unit_thresholds(dense, cal, fractions)
    np.testing.assert_allclose(got.values[-1].numpy(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(max_rows=6), fractions=tail_fractions)
def test_thresholds_are_the_dense_quantiles(device, world, fractions):
    """Per concept and per unit, over positive values of positive cal rows; null exactly where there is none."""
    got = calibrate(world, fractions, device=device)
    assert_matches(got, world, fractions)
    assert (got.concepts, got.tail_fractions) == (world.concepts, fractions)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_of_many_continuous_values(seed):
    """The same where quantiles interpolate between many different values, at the default fractions."""
    world = random_world(seed, n_examples=120, n_concepts=4)
    assert_matches(calibrate(world), world, TAIL_FRACTIONS)


@PROPERTY
@given(worlds(), st.data())
def test_chunking_and_order_change_nothing(world, data):
    """One exact quantile over all chunks: the same bits for any cut and order of examples."""
    parts = data.draw(chunkings(len(world.lengths)))
    assert calibrate(world, parts=parts) == calibrate(world)


@PROPERTY
@given(worlds(), st.integers(0, 400))
def test_the_memory_budget_changes_nothing(world, budget):
    """However few values are sorted at once, the result is the same bits."""
    assert calibrate(world, memory_budget=budget) == calibrate(world)


@pytest.mark.slow
@pytest.mark.parametrize("n_chunks", [1, 27, 500])
def test_many_chunks_are_one_global_sort(n_chunks):
    """Bit-equal to one chunk, and to numpy's quantiles of all values at once."""
    world = many_rows(500)
    got = calibrate(world, parts=cut(500, n_chunks), memory_budget=24 * 1000)
    assert got == calibrate(world)
    assert_matches(got, world, TAIL_FRACTIONS)


@PROPERTY
@given(worlds())
def test_rows_of_other_splits_do_not_matter(world):
    """Activations and truth outside cal may be anything."""
    outside = ~world.rows_in("cal")[:, None]
    dense = np.where(outside, np.float32(7), world.activations)
    changed = World(dense, world.lengths, world.splits, world.truth ^ outside, world.labels)
    assert calibrate(changed) == calibrate(world)


def test_overlapping_concepts_share_their_rows():
    """A row positive for two concepts counts for both; a row positive for none only for the unit."""
    dense = np.array([[1], [2], [4], [8]], np.float32)
    truth = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
    world = World(dense, np.array([4]), ("cal",), truth, np.ones((1, 2), bool))
    got = calibrate(world, (0.5,))
    assert got.values[:, 0, 0].tolist() == [1.5, 3.0, 3.0]
    assert got.n_positive[:, 0].tolist() == [2, 2, 4]


def test_a_pair_without_a_positive_value_is_null_and_never_zero():
    """Neither a unit that is silent on the concept's rows nor a concept without rows has a threshold."""
    dense = np.array([[0, 1], [3, 1]], np.float32)
    truth = np.array([[1, 0], [0, 0]], bool)
    got = calibrate(World(dense, np.array([2]), ("cal",), truth, np.ones((1, 2), bool)), (0.1, 0.9))
    assert got.n_positive.tolist() == [[0, 1], [0, 0], [1, 2]]
    assert got.values[..., 0].isnan().tolist() == [[True, False], [True, True], [False, False]]
    assert not bool((got.values == 0).any())


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.1), (0.1, 0.1), (0.0, 0.5), (0.5, 1.0), (-0.1,), (1.5,), (float("nan"),)]
)
def test_tail_fractions_ascend_within_0_and_1(fractions):
    """The message shows what was given."""
    with pytest.raises(ArtifactError, match=r"Tail fractions must ascend within \(0, 1\), found \["):
        calibrate(random_world(0), fractions)


def test_without_calibration_rows_there_is_an_error():
    """Chunks of other splits give no thresholds."""
    world = random_world(0)
    chunk = CalibrationChunk(world.filtered(), world.ground_truth(), torch.zeros(60, dtype=torch.bool))
    for chunks in ([chunk], []):
        with pytest.raises(ArtifactError, match="no calibration rows"):
            calibrate_thresholds(chunks, concepts=world.concepts, kept_units=torch.arange(world.n_units))


def test_a_chunk_of_another_width_is_refused():
    """Both widths are named."""
    world = random_world(0)
    chunk = CalibrationChunk(world.filtered(), world.ground_truth(), world.mask("cal"))
    with pytest.raises(ArtifactError, match="12 kept units, the mapping 5"):
        calibrate_thresholds([chunk], concepts=world.concepts, kept_units=torch.arange(5))


def test_truth_of_other_rows_is_refused():
    """Rows per example must agree, not only their number."""
    world, other = random_world(0), random_world(1)
    with pytest.raises(ArtifactError, match="they must agree"):
        CalibrationChunk(world.filtered(), other.ground_truth(), world.mask("cal"))


def test_truth_of_another_chunk_is_refused():
    """Chunks of images all have the same rows per example: their position in the data set tells them apart."""
    world = random_world(0)
    elsewhere = dataclasses.replace(world.ground_truth(), first_example=60)
    with pytest.raises(ArtifactError):
        CalibrationChunk(world.filtered(), elsewhere, world.mask("cal"))


@pytest.mark.parametrize("concepts", [("concept 0",), ("concept 1", "concept 0")])
def test_truth_of_other_concepts_is_refused(concepts):
    """Positions of concepts mean nothing in another list of concepts."""
    world = random_world(0)
    chunk = CalibrationChunk(world.filtered(), world.ground_truth(), world.mask("cal"))
    with pytest.raises(ArtifactError):
        calibrate_thresholds([chunk], concepts=concepts, kept_units=torch.arange(world.n_units))


def test_a_mask_of_another_chunk_is_refused():
    """One entry per example is expected."""
    world = random_world(0)
    chunk = CalibrationChunk(world.filtered(), world.ground_truth(), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ArtifactError, match="60 examples, but 3 splits"):
        calibrate_thresholds([chunk], concepts=world.concepts, kept_units=torch.arange(world.n_units))
