"""Concepts that each row is positive for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sae_assets.artifacts import GroundTruth
from sae_assets.storage.columns import ROWS, Scalars, flat, lists, offsets_of_examples, plain_numbers, row_columns

COLUMNS = ROWS | {"concepts": "concepts that the row is positive for"}


def encode(artifact: GroundTruth) -> tuple[pa.Table, Scalars]:
    names = pa.array(artifact.concepts, pa.string())
    chosen = pa.DictionaryArray.from_arrays(pa.array(artifact.concept_ids.numpy()), names)
    columns = row_columns(artifact.first_example, artifact.example_offsets)
    columns["concepts"] = lists(artifact.row_offsets, chosen.cast(pa.string()))
    return pa.table(columns), {
        "concepts": list(artifact.concepts),
        "first_example": artifact.first_example,
        "n_examples": len(artifact.example_offsets) - 1,
    }


def decode(table: pa.Table, scalars: Scalars) -> GroundTruth:
    row_offsets, names = flat(table["concepts"])
    ids = pc.index_in(names, value_set=pa.array(scalars["concepts"], pa.string()))
    return GroundTruth(
        concepts=tuple(scalars["concepts"]),
        first_example=scalars["first_example"],
        example_offsets=offsets_of_examples(table, scalars),
        row_offsets=row_offsets,
        concept_ids=torch.from_numpy(plain_numbers(ids, np.int32)),
    )
