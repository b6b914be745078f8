"""Filtered activations are the kept columns, renumbered."""

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sae_assets.artifacts import UnitMapping
from sae_assets.errors import ArtifactError
from sae_assets.ops import filtered_activations
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets_tests.reference.filtered_activations import filtered
from sae_assets_tests.strategies import DEVICES, PROPERTY, chunkings, densify, random_world, worlds


def mapping_of(reasons) -> UnitMapping:
    return UnitMapping(torch.tensor(reasons, dtype=torch.uint8), "fixed", 1, math.inf, 0.0, math.nan, None)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(), data=st.data())
def test_filtered_rows_are_the_kept_columns(device, world, data):
    """Values are untouched, ids are positions among the kept units, rows and examples are the same; however many rows
    are filtered at a time."""
    reasons = data.draw(st.lists(st.integers(0, 5), min_size=world.n_units, max_size=world.n_units))
    assume(0 in reasons)
    mapping = mapping_of(reasons)
    with patch.object(filtered_activations, "SLICE", data.draw(st.sampled_from([1, 3, 2**17]))):
        got = filter_activations(world.sparse(), mapping, device=device)
    expected = filtered(world.activations, np.flatnonzero(np.array(reasons) == 0))
    np.testing.assert_array_equal(densify(got), expected)
    assert got.n_units == mapping.n_filtered and got.n_original == world.n_units
    assert torch.equal(got.example_offsets, world.sparse().example_offsets)
    assert got.n_entries == int((expected > 0).sum())
    assert not list(got.problems())  # which its maker takes to follow from those of the chunk


@PROPERTY
@given(worlds(), st.data())
def test_entries_keep_their_order(world, data):
    """The kept entries, mapped back to original ids, are a subsequence of the chunk's own."""
    reasons = data.draw(st.lists(st.integers(0, 1), min_size=world.n_units, max_size=world.n_units))
    assume(0 in reasons)
    mapping, chunk = mapping_of(reasons), world.sparse()
    got = filter_activations(chunk, mapping)
    kept = set(mapping.kept_units.tolist())
    expected = [pair for pair in zip(chunk.unit_ids.tolist(), chunk.values.tolist(), strict=True) if pair[0] in kept]
    original = mapping.kept_units[got.unit_ids.long()].tolist()
    assert list(zip(original, got.values.tolist(), strict=True)) == expected


@PROPERTY
@given(worlds(), st.data())
def test_chunks_are_filtered_alone(world, data):
    """Filtering each chunk is cutting the filtered whole."""
    mapping = mapping_of([0] + [data.draw(st.integers(0, 1)) for _ in range(world.n_units - 1)])
    parts = data.draw(chunkings(len(world.lengths), shuffled=False))
    pieces = [filter_activations(world.take(part).sparse(), mapping) for part in parts]
    whole = filter_activations(world.sparse(), mapping)
    assert torch.equal(torch.cat([piece.unit_ids for piece in pieces]), whole.unit_ids)
    assert torch.equal(torch.cat([piece.values for piece in pieces]), whole.values)
    assert torch.equal(torch.cat([piece.row_offsets.diff() for piece in pieces]), whole.row_offsets.diff())


def test_a_mapping_of_another_width_is_refused():
    """A mapping belongs to one SAE width."""
    with pytest.raises(ArtifactError, match="12 units, but the mapping covers 3"):
        filter_activations(random_world(0).sparse(), mapping_of([0, 0, 1]))
