"""Order and uniqueness of a row's entries, looked at for many rows at once, against one row after another."""

from itertools import pairwise
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.artifacts import FilteredActivations, offsets_of, rows
from sae_assets.errors import ArtifactError
from sae_assets_tests.strategies import PROPERTY, World, worlds

N_UNITS = 4
ENTRY = st.tuples(st.integers(0, N_UNITS - 1), st.sampled_from([1.0, 2.0, 3.0]))
SORTED = st.lists(ENTRY, max_size=4, unique_by=lambda entry: entry[0]).map(lambda row: sorted(row, key=place))
ANY = st.lists(ENTRY, max_size=4)


def place(entry: tuple[int, float]) -> tuple[float, int]:
    """By which entries of a row are sorted."""
    return -entry[1], entry[0]


def problems(table: list[list[tuple[int, float]]]) -> list[str]:
    ordered = [all(place(one) < place(next_one) for one, next_one in pairwise(row)) for row in table]
    found = [f"row {number} is not sorted" for number, right in enumerate(ordered) if not right]
    twice = any(len({unit for unit, _ in row}) < len(row) for row in table)
    return found[:1] + ["a row names the same unit twice"] * twice


@pytest.mark.parametrize("at_once", [1, 5, rows.ENTRIES_AT_ONCE])
@settings(PROPERTY, max_examples=100)
@given(table=st.lists(SORTED | ANY, min_size=1, max_size=12))
def test_what_is_wrong_with_entries_is_what_one_row_after_another_shows(
    at_once: int, table: list[list[tuple[int, float]]]
) -> None:
    entries = [entry for row in table for entry in row]
    columns = {
        "unit_ids": torch.tensor([unit for unit, _ in entries], dtype=torch.int32),
        "values": torch.tensor([value for _, value in entries], dtype=torch.float32),
    }
    expected, said = problems(table), ""
    with patch.object(rows, "ENTRIES_AT_ONCE", at_once):
        try:
            FilteredActivations(
                first_example=0,
                example_offsets=offsets_of(torch.tensor([len(table)])),
                row_offsets=offsets_of(torch.tensor([len(row) for row in table])),
                n_units=N_UNITS,
                n_original=N_UNITS,
                **columns,
            )
        except ArtifactError as error:
            said = str(error)
    assert bool(said) == bool(expected) and all(part in said for part in expected), (expected, said)


@PROPERTY
@given(worlds())
def test_active_units_are_those_with_a_value(world: World) -> None:
    """Ascending, each once; none of a chunk that stores nothing."""
    assert world.sparse().active_units().tolist() == (world.activations > 0).any(0).nonzero()[0].tolist()
