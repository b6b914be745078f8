"""Concepts that each row is positive for and, of patches that masks were cut into, pixels that show each concept."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from sae_assets.artifacts import GroundTruth
from sae_assets.storage.columns import ROWS, Scalars, flat, lists, offsets_of_examples, plain_numbers, row_columns

COLUMNS = ROWS | {
    "concepts": "concepts that the row is positive for",
    "shown": "concepts of which the patch shows a pixel; only where masks were cut into patches, as `pixels`",
    "pixels": "pixels of the patch that show each of `shown`; header: `patch_pixels` that a patch has",
}


def encode(artifact: GroundTruth) -> tuple[pa.Table, Scalars]:
    columns = row_columns(artifact.first_example, artifact.example_offsets)
    columns["concepts"] = _named(artifact, artifact.row_offsets, artifact.concept_ids)
    scalars = {
        "concepts": list(artifact.concepts),
        "first_example": artifact.first_example,
        "n_examples": len(artifact.example_offsets) - 1,
    }
    if artifact.cover_offsets is not None and artifact.cover_ids is not None and artifact.cover_pixels is not None:
        columns["shown"] = _named(artifact, artifact.cover_offsets, artifact.cover_ids)
        columns["pixels"] = lists(artifact.cover_offsets, artifact.cover_pixels.numpy())
        scalars["patch_pixels"] = artifact.patch_pixels
    return pa.table(columns), scalars


def _named(artifact: GroundTruth, offsets: torch.Tensor, ids: torch.Tensor) -> pa.ListArray:
    names = pa.array(artifact.concepts, pa.string())
    return lists(offsets, pa.DictionaryArray.from_arrays(pa.array(ids.numpy()), names).cast(pa.string()))


def decode(table: pa.Table, scalars: Scalars) -> GroundTruth:
    row_offsets, concept_ids = _numbered(table["concepts"], scalars)
    cover: dict[str, Any] = {}
    if scalars.get("patch_pixels") is not None:  # neither in files of earlier versions
        offsets, ids = _numbered(table["shown"], scalars)
        _, pixels = flat(table["pixels"])
        cover = {
            "patch_pixels": scalars["patch_pixels"],
            "cover_offsets": offsets,
            "cover_ids": ids,
            "cover_pixels": torch.from_numpy(plain_numbers(pixels, np.int32)),
        }
    return GroundTruth(
        concepts=tuple(scalars["concepts"]),
        first_example=scalars["first_example"],
        example_offsets=offsets_of_examples(table, scalars),
        row_offsets=row_offsets,
        concept_ids=concept_ids,
        **cover,
    )


def _numbered(column: pa.ChunkedArray, scalars: Scalars) -> tuple[torch.Tensor, torch.Tensor]:
    offsets, names = flat(column)
    ids = pc.index_in(names, value_set=pa.array(scalars["concepts"], pa.string()))
    return offsets, torch.from_numpy(plain_numbers(ids, np.int32))
