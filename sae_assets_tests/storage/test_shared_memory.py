"""Values of sparse rows as Arrow read them: in its own memory, and the same values wherever they lie."""

import numpy as np
import pyarrow as pa
import pytest

from sae_assets.artifacts import SparseActivations
from sae_assets.storage.parquet import to_table
from sae_assets.storage.tables.sparse_activations import decode
from sae_assets_tests.storage.small import small


@pytest.fixture
def table() -> tuple[pa.Table, dict]:
    """Columns and scalars of small activations."""
    return to_table(small("sparse_activations").artifact)


def test_values_are_not_copied(table: tuple[pa.Table, dict]) -> None:
    """Unit ids and values, which nearly all of a chunk consists of."""
    columns, scalars = table
    made = decode(columns, scalars)
    for name in ("unit_ids", "values"):
        there = columns[name].chunk(0).values
        assert getattr(made, name).data_ptr() == np.from_dlpack(there).ctypes.data


@pytest.mark.parametrize("first", [1, 2])
def test_parts_of_a_column_are_put_together(table: tuple[pa.Table, dict], first: int) -> None:
    """As one part: offsets count on."""
    columns, scalars = table
    parts = pa.concat_tables([columns[:first], columns[first:]])
    assert parts["values"].num_chunks == 2
    made = decode(parts, scalars)
    assert isinstance(made, SparseActivations)
    assert made == small("sparse_activations").artifact


def test_nulls_and_other_types_are_no_values(table: tuple[pa.Table, dict]) -> None:
    """A null is refused; numbers of another type become those of ours."""
    columns, scalars = table
    values = columns["values"].chunk(0)
    wider = pa.ListArray.from_arrays(values.offsets, values.values.cast(pa.float64()))
    index = columns.schema.get_field_index("values")
    assert decode(columns.set_column(index, "values", wider), scalars) == small("sparse_activations").artifact
    holed = pa.array([None, *values.values.to_pylist()[1:]], pa.float32())
    with pytest.raises(ValueError, match="nulls"):
        decode(columns.set_column(index, "values", pa.ListArray.from_arrays(values.offsets, holed)), scalars)
