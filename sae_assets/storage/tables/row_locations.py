"""Characters of each token, or the pixels that each patch sees."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts.row_locations import RowLocations
from sae_assets.storage.columns import ROWS, Scalars, offsets_of_examples, plain_numbers, row_columns

SPAN = {
    "start": "first character of the token in its text; null of pictures",
    "end": "the character after its last one",
}
BOX = {
    "left": "left edge of the patch, pixels of the picture as shown; null of texts",
    "top": "its upper edge",
    "right": "its right edge",
    "bottom": "its lower edge",
}
COLUMNS = ROWS | SPAN | BOX


def encode(artifact: RowLocations) -> tuple[pa.Table, Scalars]:
    columns: dict[str, Any] = row_columns(artifact.first_example, artifact.example_offsets)
    n, spans, transforms = artifact.n_rows, artifact.spans, artifact.transforms
    for index, name in enumerate(SPAN):
        columns[name] = pa.nulls(n, pa.int32()) if spans is None else spans[:, index].contiguous().numpy()
    boxes = None if transforms is None else torch.cat(_boxes(artifact, transforms.tolist()))
    for index, name in enumerate(BOX):
        columns[name] = pa.nulls(n, pa.float64()) if boxes is None else boxes[:, index].contiguous().numpy()
    return pa.table(columns), {
        "first_example": artifact.first_example,
        "n_examples": artifact.n_examples,
        "has_spans": spans is not None,
        "transforms": None if transforms is None else transforms.tolist(),
        "grid": list(artifact.grid),
        "patch": list(artifact.patch),
    }


def _boxes(artifact: RowLocations, transforms: list[list[int]]) -> list[torch.Tensor]:
    """Return boxes of every example's rows; pictures of one size share them."""
    by_transform: dict[tuple[int, ...], torch.Tensor] = {}
    for example, transform in enumerate(map(tuple, transforms)):
        if transform not in by_transform:
            by_transform[transform] = artifact.boxes(example)
    return [by_transform[tuple(transform)] for transform in transforms]


def decode(table: pa.Table, scalars: Scalars) -> RowLocations:
    spans, transforms = None, None
    if scalars["has_spans"]:
        spans = torch.from_numpy(np.stack([plain_numbers(table[name], np.int32) for name in SPAN], 1))
    if scalars["transforms"] is not None:
        transforms = torch.tensor(scalars["transforms"], dtype=torch.int32, device="cpu").view(-1, 6)
    return RowLocations(
        first_example=scalars["first_example"],
        example_offsets=offsets_of_examples(table, scalars),
        spans=spans,
        transforms=transforms,
        grid=tuple(scalars["grid"]),
        patch=tuple(scalars["patch"]),
    )
