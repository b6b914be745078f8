"""Numbers between Arrow and numpy without a copy.

pyarrow's own ``to_numpy`` and ``pa.array`` load pandas the first time that a process calls them, and ``flatten`` and
``value_lengths`` all of ``pyarrow.compute``: most of what the first look at a home took. Nothing here needs either.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers as numpy has it, not to be written to; copied only if it has several chunks.

    Raises:
        ValueError: the column has nulls.
    """
    if column.null_count:
        raise ValueError("a column that has no nulls holds some")
    parts = [column] if isinstance(column, pa.Array) else column.chunks
    if not parts:
        return np.empty(0, column.type.to_pandas_dtype())
    arrays = [np.from_dlpack(part) for part in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def array(values: np.ndarray) -> pa.Array:
    """Return numbers [n] as a column of their dtype, which shares their memory if they lie behind one another."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def texts(values: Sequence[str]) -> pa.Array:
    """Return texts as a column."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def split_lists(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return where the lists of a column start, int64 [n + 1] from 0, and all their values behind one another.

    Raises:
        ValueError: a list is null.
    """
    whole = column if isinstance(column, pa.Array) else column.combine_chunks()
    if whole.null_count:
        raise ValueError("a column that has no nulls holds some")
    starts = numbers(whole.offsets).astype(np.int64)
    return starts - starts[0], whole.values[int(starts[0]) : int(starts[-1])]


def rows_with(table: pa.Table, column: str, value: int | str) -> pa.Table:
    """Return the rows that have this value in a column of integers or texts; null is none."""
    import pyarrow.compute as pc  # noqa: PLC0415 - numbers do without

    kind = table[column].type
    values = texts([value]) if isinstance(value, str) else array(np.array([value], kind.to_pandas_dtype()))
    return table.filter(pc.is_in(table[column], value_set=values))
