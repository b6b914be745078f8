"""Numbers between Arrow and numpy: as pyarrow's own functions, of which they stand in the place."""

import numpy as np
import pyarrow as pa
import pytest

from sae_assets.storage.arrow import array, numbers, rows_with, split_lists, texts

TYPES = (pa.int32(), pa.int64(), pa.uint8(), pa.float32(), pa.float64())


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("parts", [[], [[]], [[1, 2, 3]], [[1], [], [2, 3]]])
def test_columns_come_out_as_pyarrow_gives_them(kind: pa.DataType, parts: list[list[int]]) -> None:
    """Values and dtype, of any number of chunks, also of a part of a column."""
    column = pa.chunked_array([pa.array(part, kind) for part in parts], kind)
    for each in (column, column[1:], *(chunk[1:] for chunk in column.chunks)):
        expected = each.to_numpy() if isinstance(each, pa.ChunkedArray) else each.to_numpy(zero_copy_only=False)
        found = numbers(each)
        assert found.dtype == kind.to_pandas_dtype()
        assert found.tolist() == expected.tolist()


def test_columns_are_not_copied() -> None:
    """Neither way, and what is read cannot be written to."""
    values = np.arange(5, dtype=np.int32)
    column = array(values)
    assert column.equals(pa.array(values)) and np.shares_memory(numbers(column), values)
    assert not numbers(column).flags.writeable
    assert array(values[::2]).to_pylist() == [0, 2, 4]


@pytest.mark.parametrize("values", [[], ["", "é", "a\n🙂", ""]])
def test_texts_become_a_column(values: list[str]) -> None:
    """As pyarrow makes it."""
    column = texts(values)
    column.validate(full=True)
    assert column.equals(pa.array(values, pa.string()))


def test_nulls_are_refused() -> None:
    """A number that is not there, and a list."""
    with pytest.raises(ValueError, match="no nulls holds some"):
        numbers(pa.array([1, None]))
    with pytest.raises(ValueError, match="no nulls holds some"):
        split_lists(pa.array([[1], None]))


@pytest.mark.parametrize("lists", [[], [[]], [[1, 2], [], [3]], [[], [4]]])
def test_lists_are_split(lists: list[list[int]]) -> None:
    """Starts from 0 and values, of a whole column and of what is left behind its first list."""
    column = pa.array(lists, pa.list_(pa.int32()))
    whole = pa.chunked_array([column, column])
    for each, kept in ((column, lists), (column[1:], lists[1:]), (whole, lists * 2)):
        starts, values = split_lists(each)
        assert starts.dtype == np.int64 and starts[0] == 0
        assert np.diff(starts).tolist() == [len(part) for part in kept]
        assert values.to_pylist() == [value for part in kept for value in part]


def test_rows_are_picked_by_a_value() -> None:
    """By a number and by a text, from several chunks, also where some are missing; others are no match."""
    lines = [{"number": 1, "text": "é"}, {"number": 2, "text": None}, {"number": None, "text": "b"}]
    table = pa.Table.from_pylist(lines * 2)
    twice = pa.concat_tables([table, table])
    assert rows_with(table, "number", 1).to_pylist() == lines[:1] * 2
    assert rows_with(twice, "text", "é").to_pylist() == lines[:1] * 4
    assert not len(rows_with(table, "number", 0)) and not len(rows_with(table, "text", ""))
