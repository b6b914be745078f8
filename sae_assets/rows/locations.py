"""Rows stand in their examples at the characters of tokens, or at the pixels of a picture that each patch sees.

The transform of a picture is read off the one that its masks go through, so that a heat map lies where the truth does:
pictures that spell the number of each column and row, bit by bit, are sent through it.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from sae_assets.artifacts import Examples, offsets_of
from sae_assets.artifacts.row_locations import RowLocations
from sae_assets.catalog import Dataset, Model
from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import CheckpointError
from sae_assets.progress import track
from sae_assets.rows.images import open_geometry
from sae_assets.rows.opening import token_spans
from sae_assets.rows.truth import rows_per_example

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sae_assets.datasets import Reader
    from sae_assets.rows.images import Geometry

ROUNDING = 1e-6  # of libraries that add up steps, in pixels
LONGEST = 64  # times input and picture together that an axis is resized to at most where its pixels do not say it


def locate_rows(chunk: Examples, dataset: Dataset, model: Model, reader: "Reader") -> RowLocations:
    """Return where the patches or tokens of a chunk's examples stand.

    Args:
        reader: the opened data set.

    Raises:
        DatasetError, CheckpointError, CatalogError: as ``rows.truth.row_truth``.
    """
    if isinstance(reader, ImageReader):
        return _patches(chunk, dataset, model, reader)
    assert isinstance(reader, TextReader)
    spans_of = token_spans(reader, dataset, model)
    return _spans_located(chunk, [spans_of(example) for example in track(chunk.example_ids, "tokens")])


def unlocated(chunk: Examples, count: int) -> RowLocations:
    """Return as many rows of each example, of which nothing says where they stand."""
    return RowLocations(chunk.first_index, _equal_offsets(chunk, count), None, None)


def _spans_located(chunk: Examples, spans: "Sequence[Tensor]") -> RowLocations:
    """Return rows of texts, from the characters of each text's tokens, int64 [n_tokens, 2]."""
    import torch

    lengths = torch.tensor([len(span) for span in spans], dtype=torch.int64, device="cpu")
    return RowLocations(chunk.first_index, offsets_of(lengths), torch.cat([*spans]).int(), None)


def _patches(chunk: Examples, dataset: Dataset, model: Model, reader: ImageReader) -> RowLocations:
    import torch

    count = rows_per_example("patch", dataset, model, reader)
    assert count is not None  # the same for every picture
    geometry = None if model.transformer is None else open_geometry(model.transformer)
    if geometry is None or count != geometry.n_patches:  # embeddings of another grid than the transformer's
        return unlocated(chunk, count)
    transform = cache(lambda size: transform_of(geometry, *size))
    try:
        transforms = [transform(reader.size(example)) for example in track(chunk.example_ids, "pictures")]
    except CheckpointError:  # masks cannot follow either: whoever needs it is told there
        return unlocated(chunk, count)
    return RowLocations(
        chunk.first_index,
        _equal_offsets(chunk, count),
        None,
        torch.tensor(transforms, dtype=torch.int32, device="cpu").view(len(chunk), 6),
        grid=geometry.grid,
        patch=(geometry.patch_size, geometry.patch_size),
    )


def _equal_offsets(chunk: Examples, count: int) -> "Tensor":
    import torch

    return offsets_of(torch.full((len(chunk),), count, dtype=torch.int64, device="cpu"))


def transform_of(geometry: "Geometry", width: int, height: int) -> tuple[int, int, int, int, int, int]:
    """Return how a picture of this size becomes the model's input: ``artifacts.row_locations.TRANSFORM``.

    Raises:
        CheckpointError: masks cannot follow the model's transform, or it is no resize with a crop or padding.
    """
    columns, rows = _sources(geometry, width, height)
    across, down = _resizes(columns, width), _resizes(rows, height)
    # Those that say the same of every pixel differ by less than one of them. An axis that is the input as it is stays
    # that, and pictures keep their ratio where it says nothing else.
    whole = [one for one in down if one == (len(rows), 0)]
    resized_height, top = (whole or down)[len(whole or down) // 2]
    whole = [one for one in across if one == (len(columns), 0)]
    ratio = resized_height * width / height
    resized_width, left = whole[0] if whole else min(across, key=lambda one: abs(one[0] - ratio))
    if whole and top:
        resized_height, top = min(down, key=lambda one: abs(one[0] - resized_width * height / width))
    return width, height, resized_width, resized_height, left, top


def _sources(geometry: "Geometry", width: int, height: int) -> "tuple[np.ndarray, np.ndarray]":
    """Return which column (row) of the picture each column (row) of the input comes from; -1 where it is padded."""
    import numpy as np
    from PIL import Image

    def moved(pixels: np.ndarray) -> np.ndarray:
        plane = np.broadcast_to(pixels, (height, width)).astype(np.uint8) * 255
        return geometry.mask(Image.fromarray(plane)).numpy()

    inside = moved(np.ones((1, 1), bool))
    line, column = inside.any(1).argmax(), inside.any(0).argmax()

    def source(numbers: np.ndarray, axis: int) -> np.ndarray:
        whole = np.where(inside.any(1 - axis), 0, -1)
        for bit in range(int(numbers.max()).bit_length()):
            plane = moved(numbers >> bit & 1)
            whole += np.where(whole >= 0, (plane[line] if axis else plane[:, column]).astype(int) << bit, 0)
        return whole

    return source(np.arange(width)[None], 1), source(np.arange(height)[:, None], 0)


def _resizes(sources: "np.ndarray", size: int) -> list[tuple[int, int]]:
    """Return lengths that an axis may be resized to, and where the input begins in them, from where its pixels come
    from.

    Those that say it of every pixel with a crop or padding in the middle; else the one that says it best.

    Raises:
        CheckpointError: none says it of every pixel to one pixel.
    """
    import numpy as np

    inside = np.flatnonzero(sources >= 0)
    if not len(inside):
        raise CheckpointError("Nothing of a picture is seen by the model.")
    first, last = int(inside[0]), int(inside[-1])
    low, high = int(sources[first]), int(sources[last])
    steps, n = last - first, len(sources)
    least = steps * size / (high - low + 1) - 1 if steps else 1
    clear = high - low > 1  # else one or two pixels fill the axis, and any length from some on would do
    most = steps * size / (high - low - 1) + 1 if clear else LONGEST * (n + size)
    exact: list[tuple[int, int]] = []
    near: tuple[float, int, int, int] | None = None
    for resized in range(max(1, int(least)), int(most) + 2):
        scale = size / resized
        for start in range(int(low / scale - first) - 2, int((low + 1) / scale - first) + 2):
            if first + start < 0 or last + start >= resized:
                continue
            position = (inside + start + 0.5) * scale - sources[inside]  # within its pixel: 0 to 1
            error = float(np.maximum(-position, position - 1).max())
            off = abs(2 * start - (resized - n))
            if error < ROUNDING and off <= 1:
                exact.append((resized, start))
            near = min(near or (np.inf, 0, 0, 0), (error, off, resized, start))
        if exact and not clear:
            break
    if exact:
        return exact
    if near is None or near[0] > 1:
        raise CheckpointError("The transform of pictures is no resize with a crop or padding.")
    return [(near[2], near[3])]
