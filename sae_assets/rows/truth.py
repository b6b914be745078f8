"""Row-level truth of a chunk: masks under the model's own transform cut into patches, spans met by tokens.

Where a data set locates nothing, every row of a positive example is positive (weak truth). The transform and the
tokens are the model's (``images``, ``texts``) or stand with the precomputed embeddings; weights are never needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sae_assets import ops
from sae_assets.artifacts import Labels
from sae_assets.catalog import Dataset, Model
from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import CatalogError
from sae_assets.progress import track
from sae_assets.rows.images import open_geometry
from sae_assets.rows.opening import token_spans
from sae_assets.rows.precomputed.rows import PrecomputedRows
from sae_assets.rows.source import precomputed_kinds

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import ImageReader, Reader, TextReader
    from sae_assets.rows.images import Geometry


@dataclass(frozen=True)
class RowTruth:
    """Truth of a chunk's rows.

    Attributes:
        rows: bool [n_rows, n_concepts] per example.
        pixels: int32 of the same shapes, pixels of each patch that show each concept; None where no mask was cut.
        patch_pixels: that a patch has, where ``pixels`` are given.
    """

    rows: "list[Tensor]"
    pixels: "list[Tensor] | None" = None
    patch_pixels: int | None = None


def row_truth(chunk: Labels, kind: str, dataset: Dataset, model: Model, reader: "Reader") -> RowTruth:
    """Return which rows of a chunk's examples are positive, and what masks cover of them.

    Args:
        reader: the opened data set.

    Raises:
        DatasetError, CheckpointError: unreadable examples, masks or spans, or a transform that masks cannot follow.
        CatalogError: neither a transformer nor precomputed embeddings say what the rows are.
    """
    if kind == "cls":
        return RowTruth([labels[None] for labels in chunk.labels])
    if isinstance(reader, ImageReader):
        return _patch_truth(chunk, reader, dataset, model)
    assert isinstance(reader, TextReader)
    return RowTruth(_token_truth(chunk, reader, dataset, model))


def rows_per_example(kind: str, dataset: Dataset, model: Model, reader: "Reader") -> int | None:
    """Return how many rows every example has under a model; None where it differs (texts). Weights are not read.

    Raises:
        DatasetError, CheckpointError, CatalogError: as :func:`row_truth`.
    """
    if kind == "cls":
        return 1
    return _patches(reader, dataset, model) if isinstance(reader, ImageReader) else None


def _patch_truth(chunk: Labels, reader: "ImageReader", dataset: Dataset, model: Model) -> RowTruth:
    import torch

    if not reader.has_regions:
        count = _patches(reader, dataset, model)
        return RowTruth([labels.expand(count, -1) for labels in chunk.labels])
    geometry = _geometry(model)
    patch_pixels = geometry.patch_size**2
    rows, cover = [], []
    for example, labels in track(list(zip(chunk.example_ids, chunk.labels, strict=True)), "masks"):
        pixels = torch.zeros(geometry.n_patches, len(chunk.concepts), dtype=torch.int32, device="cpu")
        if bool(labels.any()):
            _cover(pixels, reader, example, geometry)
        cover.append(pixels * labels)
        rows.append(ops.ground_truth.covered_patches(cover[-1], patch_pixels, dataset.min_overlap))
    return RowTruth(rows, cover, patch_pixels)


def _cover(pixels: "Tensor", reader: "ImageReader", example: str, geometry: "Geometry") -> None:
    patches: dict[int, Tensor] = {}  # one mask may serve several concepts
    for concept, mask in reader.masks(example).items():
        if id(mask) not in patches:
            patches[id(mask)] = ops.ground_truth.pixels_of_patches(geometry.mask(mask), geometry.patch_size)
        pixels[:, reader.concepts.index(concept)] = patches[id(mask)]


def _geometry(model: Model) -> "Geometry":
    if model.transformer is None:
        raise CatalogError(
            f"Model {model.name!r} has no transformer, so nothing says how masks become patches. Name the transformer "
            "in the catalog (its configuration is enough, weights are not read)."
        )
    return open_geometry(model.transformer)


def _patches(reader: "ImageReader", dataset: Dataset, model: Model) -> int:
    """Return how many rows an image has where no mask has to be followed, from the files or the model."""
    if "patch" in precomputed_kinds(dataset, model):
        source = PrecomputedRows(reader, dataset.embeddings[model.name], ("patch",), "cpu")
        count = source.rows_per_example("patch")
        assert count is not None  # patches are the same for every image
        return count
    return _geometry(model).n_patches


def _token_truth(chunk: Labels, reader: "TextReader", dataset: Dataset, model: Model) -> "list[Tensor]":
    import torch

    spans_of = token_spans(reader, dataset, model)
    rows = []
    for example, labels in track(list(zip(chunk.example_ids, chunk.labels, strict=True)), "spans"):
        tokens = spans_of(example)
        truth = labels.expand(len(tokens), -1).clone()
        if reader.has_regions:
            regions = reader.spans(example) if bool(labels.any()) else {}
            for index, concept in enumerate(reader.concepts):
                if bool(labels[index]):
                    spans: Sequence[tuple[int, int]] = regions.get(concept, ())
                    bounds = torch.tensor(list(spans), dtype=torch.int64, device="cpu").view(-1, 2)
                    truth[:, index] = ops.ground_truth.overlapping_tokens(tokens, bounds)
        rows.append(truth)
    return rows
