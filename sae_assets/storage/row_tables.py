"""Chunk-level artifacts as Arrow tables, one table row per row or example.

Columns are plain (see ``docs/storage-format.md``), so pandas, Polars and DuckDB read them with a glob. Scalars that
are no column travel in the file's header.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from sae_assets.artifacts import (
    SPLITS,
    Examples,
    FilteredActivations,
    GroundTruth,
    Labels,
    SparseActivations,
    SparseRows,
    offsets_of,
)
from sae_assets.storage.provenance import digest

Scalars = dict[str, Any]
ACTIVATION_SCALARS = ("total_mass", "dropped_mass", "n_cut_examples", "n_cut_tokens")


def _example_columns(artifact: Examples | Labels) -> dict[str, Any]:
    return {
        "example_index": pa.array(range(artifact.first_index, artifact.first_index + len(artifact)), pa.int32()),
        "example_id": list(artifact.example_ids),
    }


def encode_examples(artifact: Examples) -> tuple[pa.Table, Scalars]:
    columns = {**_example_columns(artifact), "path": list(artifact.paths), "file_hash": list(artifact.file_hashes)}
    return pa.table(columns), {"first_index": artifact.first_index, "paths_hash": digest(artifact.paths)}


def decode_examples(table: pa.Table, scalars: Scalars) -> Examples:
    if "concepts" in scalars:
        raise ValueError("it is of an earlier version, which kept splits and labels in it")
    paths = tuple(table["path"].to_pylist())
    if digest(paths) != scalars["paths_hash"]:  # no part of the content hash
        raise ValueError("the paths are not those that were written")
    return Examples(
        first_index=scalars["first_index"],
        example_ids=tuple(table["example_id"].to_pylist()),
        paths=paths,
        file_hashes=tuple(table["file_hash"].to_pylist()),
    )


def encode_labels(artifact: Labels) -> tuple[pa.Table, Scalars]:
    columns = {
        **_example_columns(artifact),
        "split": list(artifact.splits),
        "region_hashes": list(artifact.region_hashes),
    }
    for place, concept in enumerate(artifact.concepts):
        columns[f"label:{concept}"] = artifact.labels[:, place].numpy()
    return pa.table(columns), {
        "concepts": list(artifact.concepts),
        "first_index": artifact.first_index,
        # Readable without the table:
        "n_by_split": {split: artifact.splits.count(split) for split in SPLITS},
    }


def decode_labels(table: pa.Table, scalars: Scalars) -> Labels:
    concepts = tuple(scalars["concepts"])
    labels = [torch.from_numpy(table[f"label:{concept}"].to_numpy().astype(bool)) for concept in concepts]
    return Labels(
        concepts=concepts,
        first_index=scalars["first_index"],
        example_ids=tuple(table["example_id"].to_pylist()),
        splits=tuple(table["split"].to_pylist()),
        labels=torch.stack(labels, 1) if labels else torch.zeros(len(table), 0, dtype=torch.bool),
        region_hashes=tuple(table["region_hashes"].to_pylist()),
    )


def _row_columns(first_example: int, example_offsets: Tensor) -> dict[str, pa.Array]:
    """``example_index`` (in the data set) and ``position`` (in the example) of every row."""
    lengths = example_offsets.diff()
    index = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    position = torch.arange(len(index)) - example_offsets[index]
    return {
        "example_index": pa.array((index + first_example).int().numpy()),
        "position": pa.array(position.int().numpy()),
    }


def _example_offsets(table: pa.Table, scalars: Scalars) -> Tensor:
    index = torch.from_numpy(_numpy(table["example_index"], np.int64)) - scalars["first_example"]
    n_examples = scalars["n_examples"]
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n_examples:
        raise ValueError(f"example_index leaves the chunk's {n_examples} examples")  # before memory is sized by it
    counts = torch.bincount(index, minlength=n_examples)
    return offsets_of(counts)


def _lists(offsets: Tensor, values: np.ndarray | pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets.int().numpy()), values if isinstance(values, pa.Array) else
                                    pa.array(values))  # fmt: skip


def _flat(column: pa.ChunkedArray) -> tuple[Tensor, pa.Array]:
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):  # no chunk at all
        combined = combined.chunk(0) if combined.num_chunks else pa.array([], column.type)
    lengths = torch.from_numpy(combined.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
    return offsets_of(lengths), combined.flatten()


def _numpy(column: pa.Array | pa.ChunkedArray, dtype: type) -> np.ndarray:
    if column.null_count:
        raise ValueError("a column that has no nulls holds some")
    array = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    return np.array(array, dtype=dtype)  # own, writable memory for torch


def _encode_rows(artifact: SparseRows) -> tuple[dict[str, pa.Array], Scalars]:
    columns = _row_columns(artifact.first_example, artifact.example_offsets)
    columns["unit_ids"] = _lists(artifact.row_offsets, artifact.unit_ids.numpy())
    columns["values"] = _lists(artifact.row_offsets, artifact.values.numpy())
    return columns, {
        "first_example": artifact.first_example,
        "n_examples": artifact.n_examples,
        "n_units": artifact.n_units,
    }


def _decode_rows(table: pa.Table, scalars: Scalars) -> dict[str, Any]:
    row_offsets, unit_ids = _flat(table["unit_ids"])
    _, values = _flat(table["values"])
    return {
        "first_example": scalars["first_example"],
        "example_offsets": _example_offsets(table, scalars),
        "row_offsets": row_offsets,
        "unit_ids": torch.from_numpy(_numpy(unit_ids, np.int32)),
        "values": torch.from_numpy(_numpy(values, np.float32)),
        "n_units": scalars["n_units"],
    }


def encode_sparse_activations(artifact: SparseActivations) -> tuple[pa.Table, Scalars]:
    columns, scalars = _encode_rows(artifact)
    columns["l0"] = pa.array(artifact.l0.numpy())
    return pa.table(columns), {
        **scalars,
        "k_stored": artifact.k_stored,
        **{name: getattr(artifact, name) for name in ACTIVATION_SCALARS},
        "summary": artifact.summary,  # readable without the table
    }


def decode_sparse_activations(table: pa.Table, scalars: Scalars) -> SparseActivations:
    return SparseActivations(
        **_decode_rows(table, scalars),
        l0=torch.from_numpy(_numpy(table["l0"], np.int32)),
        k_stored=scalars["k_stored"],
        **{name: scalars[name] for name in ACTIVATION_SCALARS},
    )


def encode_filtered_activations(artifact: FilteredActivations) -> tuple[pa.Table, Scalars]:
    columns, scalars = _encode_rows(artifact)
    columns["kept_indices"] = columns.pop("unit_ids")
    return pa.table(columns).select(["example_index", "position", "kept_indices", "values"]), {
        **scalars,
        "n_original": artifact.n_original,
    }


def decode_filtered_activations(table: pa.Table, scalars: Scalars) -> FilteredActivations:
    names = ["unit_ids" if name == "kept_indices" else name for name in table.column_names]
    return FilteredActivations(**_decode_rows(table.rename_columns(names), scalars), n_original=scalars["n_original"])


def encode_ground_truth(artifact: GroundTruth) -> tuple[pa.Table, Scalars]:
    names = pa.array(artifact.concepts, pa.string())
    chosen = pa.DictionaryArray.from_arrays(pa.array(artifact.concept_ids.numpy()), names)
    columns = _row_columns(artifact.first_example, artifact.example_offsets)
    columns["concepts"] = _lists(artifact.row_offsets, chosen.cast(pa.string()))
    return pa.table(columns), {
        "concepts": list(artifact.concepts),
        "first_example": artifact.first_example,
        "n_examples": len(artifact.example_offsets) - 1,
    }


def decode_ground_truth(table: pa.Table, scalars: Scalars) -> GroundTruth:
    row_offsets, names = _flat(table["concepts"])
    ids = pc.index_in(names, value_set=pa.array(scalars["concepts"], pa.string()))
    return GroundTruth(
        concepts=tuple(scalars["concepts"]),
        first_example=scalars["first_example"],
        example_offsets=_example_offsets(table, scalars),
        row_offsets=row_offsets,
        concept_ids=torch.from_numpy(_numpy(ids, np.int32)),
    )
