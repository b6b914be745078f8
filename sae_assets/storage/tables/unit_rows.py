"""Activations by unit: a line per unit, with its rows and values as lists. Read and written a few units at a time."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sae_assets import ops
from sae_assets.artifacts import offsets_of
from sae_assets.artifacts.unit_rows import UnitRows
from sae_assets.storage.arrow import numbers
from sae_assets.storage.columns import Scalars, flat, lists, plain_numbers

COLUMNS = {
    "unit_id": "original id of the unit in the SAE; every unit has a line, in order",
    "n_rows": "rows on which it fires, of all splits",
    "example_indices": "position in the data set of each row's example, ascending",
    "positions": "position of each row in its example, ascending within one",
    "values": "its activation on each row, > 0",
}
GROUP = 2**17  # entries that a row group has at most, but where one unit has more: read for one unit
PART = 2**28  # entries that are one Arrow array at most, whose offsets have 32 bits


def row_groups(table: pa.Table) -> list[int]:
    """Return units in each row group. Statistics of ``unit_id`` tell which one has a unit."""
    counts = torch.from_numpy(plain_numbers(table["n_rows"], np.int64))
    return [stop - start for start, stop in ops.segments.cut_blocks(counts, GROUP)]


def encode(artifact: UnitRows) -> tuple[pa.Table, Scalars]:
    counts = artifact.unit_offsets.diff()
    blocks = list(ops.segments.cut_blocks(counts, PART)) or [(0, 0)]

    def column(values: Tensor) -> pa.ChunkedArray:
        parts = []
        for start, stop in blocks:
            offsets = artifact.unit_offsets[start : stop + 1]
            parts.append(lists(offsets - offsets[0], values[int(offsets[0]) : int(offsets[-1])].numpy()))
        return pa.chunked_array(parts).cast(pa.list_(pa.field("item", parts[0].type.value_type, nullable=False)))

    columns = {
        "unit_id": pa.array(range(artifact.n_units), pa.int32()),
        "n_rows": counts.int().numpy(),
        "example_indices": column(artifact.examples),
        "positions": column(artifact.positions),
        "values": column(artifact.values),
    }
    table = pa.table(columns)  # nothing is null, and a reader who is told so need not look: a quarter of the time
    table = table.cast(pa.schema([field.with_nullable(False) for field in table.schema]))
    return table, {"n_units": artifact.n_units, "n_rows": artifact.n_rows}


def decode(table: pa.Table, scalars: Scalars) -> UnitRows:
    return _joined(torch.from_numpy(plain_numbers(table["n_rows"], np.int64)), [table], scalars)


def read_groups(file: pq.ParquetFile, scalars: Scalars) -> UnitRows:
    """Return the artifact of a file, of which one row group is in memory at a time."""
    counts = file.read(columns=["n_rows"], use_threads=False)["n_rows"]
    groups = (file.read_row_group(group, use_threads=False) for group in range(file.num_row_groups))
    return _joined(torch.from_numpy(plain_numbers(counts, np.int64)), groups, scalars)


def _joined(counts: Tensor, tables: Iterable[pa.Table], scalars: dict[str, Any]) -> UnitRows:
    """Return the artifact of tables that follow each other.

    Raises:
        ValueError: lists of other lengths than the counts say.
    """
    offsets = offsets_of(counts)
    if len(counts) != scalars["n_units"] or bool((counts < 0).any()):
        raise ValueError(f"{len(counts)} lines, expected one for each of {scalars['n_units']} units")
    n_entries, unit, index = int(offsets[-1]), 0, 0
    columns = {
        "example_indices": ops.scratch.scratch(n_entries, torch.int32),
        "positions": ops.scratch.scratch(n_entries, torch.int32),
        "values": ops.scratch.scratch(n_entries, torch.float32),
    }
    for table in tables:
        stop = int(offsets[unit + len(table)])
        for name, whole in columns.items():
            starts, values = flat(table[name])
            if not torch.equal(starts, offsets[unit : unit + len(table) + 1] - index) or values.null_count:
                raise ValueError(f"{name} has lists of other lengths than n_rows says")
            whole[index:stop] = torch.from_numpy(np.array(numbers(values)))
        unit, index = unit + len(table), stop
    if index != n_entries:
        raise ValueError("units are missing")
    return UnitRows(
        offsets, columns["example_indices"], columns["positions"], columns["values"], n_rows=scalars["n_rows"]
    )
