"""Units expected on fewer rows: the published formula in exact fractions, and what drawing rows gives."""

from fractions import Fraction
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts import SparseRows
from sae_assets.errors import ArtifactError
from sae_assets.ops.rarefaction import expected_units
from sae_assets_tests.strategies import PROPERTY, worlds


@PROPERTY
@given(worlds(max_rows=6), st.data())
def test_expected_units_are_hurlberts(world, data):
    """In exact fractions, to 1e-9; all units that fire if all rows are drawn, and none if none is."""
    rows = world.sparse()
    n = data.draw(st.integers(0, rows.n_rows))
    counts = (world.activations > 0).sum(0).tolist()
    expected = sum(1 - Fraction(comb(rows.n_rows - count, n), comb(rows.n_rows, n)) for count in counts)
    assert expected_units(rows, n) == pytest.approx(float(expected), abs=1e-9)
    assert expected_units(rows, rows.n_rows) == pytest.approx(sum(count > 0 for count in counts), abs=1e-9)


def test_it_is_what_drawing_gives():
    """Over 4,000 draws of 10 of 60 rows, within four standard errors."""
    generator = torch.Generator().manual_seed(0)
    fires = torch.rand(60, 30, generator=generator) < torch.linspace(0.01, 0.3, 30)
    lengths = fires.sum(1)
    rows = SparseRows(
        first_example=0, example_offsets=torch.arange(61), n_units=30,
        row_offsets=torch.nn.functional.pad(lengths.cumsum(0), (1, 0)),
        unit_ids=fires.nonzero()[:, 1].int(), values=torch.ones(int(lengths.sum())),
    )  # fmt: skip
    draws = [fires[torch.randperm(60, generator=generator)[:10]] for _ in range(4000)]
    drawn = torch.stack([draw.any(0).sum() for draw in draws]).double()
    assert abs(float(drawn.mean()) - expected_units(rows, 10)) < 4 * float(drawn.std()) / 4000**0.5
    with pytest.raises(ArtifactError, match="61 rows cannot be drawn from 60"):
        expected_units(rows, 61)
