"""Rounding to float16's significant bits, against NumPy, and codes whose values were rounded."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts import SparseActivations, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.rounding import rounded, to_significant
from sae_assets.ops.sparse_code import SparseCode
from sae_assets_tests.strategies import PROPERTY

POSITIVE = st.floats(2.0**-149, float(np.finfo(np.float32).max), width=32)
ROW = st.lists(st.tuples(st.integers(0, 40), POSITIVE | st.floats(1, 1 + 2.0**-7, width=32)), max_size=6,
               unique_by=lambda entry: entry[0])  # fmt: skip


def code_of(rows: list[list[tuple[int, float]]]) -> SparseCode:
    """Rows as encoders give them: by value descending, equal ones by unit."""
    rows = [sorted(row, key=lambda entry: (-entry[1], entry[0])) for row in rows]
    entries = [entry for row in rows for entry in row]
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return SparseCode(
        row_offsets=offsets_of(lengths),
        unit_ids=torch.tensor([unit for unit, _ in entries], dtype=torch.int32),
        values=torch.tensor([value for _, value in entries], dtype=torch.float32),
        l0=lengths.int(),
        row_mass=torch.tensor([sum(value for _, value in row) for row in rows], dtype=torch.float64),
        row_dropped=torch.zeros(len(rows), dtype=torch.float64),
    )


def artifact_of(code: SparseCode, stored_values: str | None = "float16") -> SparseActivations:
    return SparseActivations(
        first_example=0, example_offsets=torch.tensor([0, len(code.l0)]), row_offsets=code.row_offsets,
        unit_ids=code.unit_ids, values=code.values, n_units=41, l0=code.l0, k_stored=None,
        total_mass=float(code.row_mass.sum()), dropped_mass=0.0, stored_values=stored_values,
    )  # fmt: skip


@PROPERTY
@given(st.lists(st.floats(2.0**-14, 65_504, width=32) | st.floats(-65_504, -(2.0**-14), width=32)))
def test_where_float16_has_its_whole_precision_it_is_float16(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    expected = numbers.astype(np.float16).astype(np.float32)
    assert np.array_equal(to_significant(torch.from_numpy(numbers)).numpy(), expected)


@PROPERTY
@given(st.floats(2.0**-126, 2.0**127, width=32))
def test_elsewhere_it_is_the_nearest_number_of_as_many_bits(value: float) -> None:
    mantissa, exponent = np.frexp(value)
    expected = np.ldexp(np.rint(np.ldexp(mantissa, 11)), exponent - 11)  # rint takes the even one of two
    assert float(to_significant(torch.tensor([value]))[0]) == expected


@PROPERTY
@given(st.lists(ROW, min_size=1, max_size=5))
def test_rows_hold_the_same_units_with_rounded_values_in_order(rows: list[list[tuple[int, float]]]) -> None:
    code = code_of(rows)
    result = rounded(code, "float16")
    artifact_of(result)  # which refuses another order, values that are 0 or infinite, and too many bits
    for name in ("row_offsets", "l0", "row_mass", "row_dropped"):
        assert torch.equal(getattr(result, name), getattr(code, name))
    row = torch.repeat_interleave(torch.arange(len(rows)), code.row_offsets.diff())
    before = dict(zip(zip(row.tolist(), code.unit_ids.tolist(), strict=True), code.values.double(), strict=True))
    after = dict(zip(zip(row.tolist(), result.unit_ids.tolist(), strict=True), result.values.double(), strict=True))
    assert before.keys() == after.keys()
    for entry, value in before.items():
        normal = 2.0**-126 <= float(value) < 2.0**127
        assert abs(after[entry] - value) <= 2.0**-11 * (value if normal else max(value, 2.0**-125))


def test_float32_changes_nothing() -> None:
    code = code_of([[(0, 1.0001), (1, 1.0002)]])
    assert rounded(code, "float32") is code


def test_an_artifact_says_what_its_values_are() -> None:
    code = code_of([[(0, 1.0001), (1, 3.0)]])
    with pytest.raises(ArtifactError, match="a value has more significant bits than float16"):
        artifact_of(code)
    with pytest.raises(ArtifactError, match="values are stored as 'float8', expected 'float16' or nothing"):
        artifact_of(code, "float8")
    same = rounded(code, "float16")
    assert artifact_of(same).content_hash() != artifact_of(same, None).content_hash()
