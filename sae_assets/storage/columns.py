"""Columns that several kinds of tables share: of examples, of sparse rows, of (concept, unit, tail fraction) triples.

What a kind's table is made of stands in its module of ``tables``.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sae_assets.artifacts import DetectionStats, Examples, Labels, SparseRows, Thresholds, offsets_of
from sae_assets.storage.arrow import numbers, split_lists

Scalars = dict[str, Any]

EXAMPLES = {
    "example_index": "position of the example in the data set",
    "example_id": "id of the example",
}
ROWS = {
    "example_index": "position of the example in the data set",
    "position": "position of the row in its example; patches row by row",
}
TRIPLES = {
    "concept": "the concept; null: over all calibration rows",
    "unit_id": "original id of the unit in the SAE",
    "kept_index": "number of the unit after pruning",
    "tail_fraction": "share of the positive values that the threshold keeps",
}
CELLS = {"tp": "true positives", "fp": "false positives", "fn": "false negatives", "tn": "true negatives"}


def by_split(names: dict[str, str]) -> dict[str, str]:
    """Return descriptions of columns that stand once for cal and once for test."""
    return {f"{split}_{name}": f"{text} on {split}" for split in ("cal", "test") for name, text in names.items()}


def example_columns(artifact: Examples | Labels) -> dict[str, Any]:
    """``example_index`` (in the data set) and ``example_id`` of every example."""
    return {
        "example_index": pa.array(range(artifact.first_index, artifact.first_index + len(artifact)), pa.int32()),
        "example_id": list(artifact.example_ids),
    }


def row_columns(first_example: int, example_offsets: Tensor) -> dict[str, pa.Array]:
    """``example_index`` (in the data set) and ``position`` (in the example) of every row."""
    lengths = example_offsets.diff()
    index = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
    position = torch.arange(len(index), device="cpu") - example_offsets[index]
    return {
        "example_index": pa.array((index + first_example).int().numpy()),
        "position": pa.array(position.int().numpy()),
    }


def offsets_of_examples(table: pa.Table, scalars: Scalars) -> Tensor:
    """Return where the rows of each example start, int64 [n_examples + 1].

    Raises:
        ValueError: a row belongs to an example that the chunk does not have.
    """
    index, first, n_examples = numbers(table["example_index"]), scalars["first_example"], scalars["n_examples"]
    if len(index) and not first <= int(index.min()) <= int(index.max()) < first + n_examples:
        raise ValueError(f"example_index leaves the chunk's {n_examples} examples")  # before memory is sized by it
    counts = np.bincount(index - first, minlength=n_examples)
    return torch.from_numpy(np.concatenate([[0], counts.cumsum()]))


def lists(offsets: Tensor, values: np.ndarray | pa.Array) -> pa.ListArray:
    """Return a column of lists from their offsets and all values behind one another."""
    return pa.ListArray.from_arrays(pa.array(offsets.int().numpy()), values if isinstance(values, pa.Array) else
                                    pa.array(values))  # fmt: skip


def flat(column: pa.ChunkedArray) -> tuple[Tensor, pa.Array]:
    """Return offsets, int64, and all values of a column of lists."""
    starts, values = split_lists(column)
    return torch.from_numpy(starts), values


def plain_numbers(column: pa.Array | pa.ChunkedArray, dtype: type) -> np.ndarray:
    """Return a column without nulls, copied into memory of its own.

    Raises:
        ValueError: the column has nulls.
    """
    return np.array(numbers(column), dtype=dtype)  # own, writable memory for torch


def sparse_columns(artifact: SparseRows) -> tuple[dict[str, pa.Array], Scalars]:
    """Return columns and scalars that all sparse rows have."""
    columns = row_columns(artifact.first_example, artifact.example_offsets)
    columns["unit_ids"] = lists(artifact.row_offsets, artifact.unit_ids.numpy())
    columns["values"] = lists(artifact.row_offsets, artifact.values.numpy())
    return columns, {
        "first_example": artifact.first_example,
        "n_examples": artifact.n_examples,
        "n_units": artifact.n_units,
    }


def sparse_fields(table: pa.Table, scalars: Scalars) -> dict[str, Any]:
    """Return fields of sparse rows from their columns and scalars."""
    return {
        "first_example": scalars["first_example"],
        "example_offsets": offsets_of_examples(table, scalars),
        "row_offsets": _starts(table["unit_ids"]),
        "unit_ids": _numbers(table["unit_ids"], np.int32),
        "values": _numbers(table["values"], np.float32),
        "n_units": scalars["n_units"],
    }


def _starts(column: pa.ChunkedArray) -> Tensor:
    """Return where each list starts and the last one ends, int64 [n + 1]."""
    parts = [split_lists(chunk)[0] for chunk in column.chunks]
    if len(parts) == 1:
        return torch.from_numpy(parts[0])
    return offsets_of(torch.from_numpy(np.concatenate([np.empty(0, np.int64), *map(np.diff, parts)])))


def _numbers(column: pa.ChunkedArray, dtype: type) -> Tensor:
    """Return all values of a column of lists, in Arrow's own memory where they lie there as they are needed.

    :func:`flat` and :func:`plain_numbers` copy twice.

    Raises:
        ValueError: the column has nulls.
    """
    parts = [split_lists(chunk)[1] for chunk in column.chunks]
    if len(parts) == 1 and len(parts[0]) and not parts[0].null_count and parts[0].type == pa.from_numpy_dtype(dtype):
        return torch.from_dlpack(parts[0])
    arrays = [numbers(part) for part in parts]
    return torch.from_numpy(np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False))


def nullable(tensor: Tensor) -> pa.Array:
    """Return a float tensor as a column, NaN as null."""
    values = tensor.contiguous().flatten().numpy()
    return pa.array(values, mask=np.isnan(values))


def floats(column: pa.ChunkedArray) -> Tensor:
    """Return a float column as float64, null as NaN."""
    return torch.from_numpy(np.array(numbers(column.fill_null(np.nan)), dtype=np.float64))


def integers(column: pa.ChunkedArray, dtype: type = np.int64) -> Tensor:
    """Return a column of integers as a tensor.

    Raises:
        ValueError: the column has nulls.
    """
    return torch.from_numpy(plain_numbers(column, dtype))


def triple_columns(concepts: list[str | None], kept_units: Tensor, tail_fractions: tuple[float, ...]) -> dict[str, Any]:
    """Return columns that name each cell of a [concepts, kept, fractions] block."""
    c, u, p = len(concepts), len(kept_units), len(tail_fractions)
    position = pa.array(np.repeat(np.arange(c, dtype=np.int32), u * p))
    return {
        "concept": pa.array(concepts, pa.string()).take(position),
        "unit_id": np.tile(np.repeat(kept_units.numpy().astype(np.int32), p), c),
        "kept_index": np.tile(np.repeat(np.arange(u, dtype=np.int32), p), c),
        "tail_fraction": np.tile(np.array(tail_fractions), c * u),
    }


def triple_scalars(artifact: Thresholds | DetectionStats) -> Scalars:
    """Return concepts, kept units and tail fractions, which no row has to be read for."""
    return {
        "concepts": list(artifact.concepts),
        "kept_units": artifact.kept_units.tolist(),
        "tail_fractions": list(artifact.tail_fractions),
    }


def triple_fields(scalars: Scalars) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Return the three axes as fields of an artifact, and their lengths."""
    fields = {
        "concepts": tuple(scalars["concepts"]),
        "kept_units": torch.tensor(scalars["kept_units"], dtype=torch.int64, device="cpu"),
        "tail_fractions": tuple(scalars["tail_fractions"]),
    }
    return fields, (len(fields["concepts"]), len(fields["kept_units"]), len(fields["tail_fractions"]))
