"""Row-level truth of a chunk: masks under the model's own transform cut into patches, spans met by tokens.

Where a data set locates nothing, every row of a positive example is positive (weak truth). The transform and the
tokens are the model's (``images``, ``texts``) or stand with the precomputed embeddings; weights are never needed.
"""

from collections.abc import Sequence
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


def row_truth(
    chunk: Labels, kind: str, dataset: Dataset, model: Model, reader: "Reader"
) -> "tuple[list[Tensor], int | None]":
    """bool [n_rows, n_concepts] per example, and how many rows every example has (None: it differs).

    Args:
        reader: the opened data set.

    Raises:
        DatasetError, CheckpointError: unreadable examples, masks or spans, or a transform that masks cannot follow.
        CatalogError: neither a transformer nor precomputed embeddings say what the rows are.
    """
    if kind == "cls":
        return [labels[None] for labels in chunk.labels], 1
    if isinstance(reader, ImageReader):
        return _patch_truth(chunk, reader, dataset, model)
    assert isinstance(reader, TextReader)
    return _token_truth(chunk, reader, dataset, model), None


def rows_per_example(kind: str, dataset: Dataset, model: Model, reader: "Reader") -> int | None:
    """How many rows every example has under a model; None where it differs (texts). Weights are not read.

    Raises:
        DatasetError, CheckpointError, CatalogError: as :func:`row_truth`.
    """
    if kind == "cls":
        return 1
    return _patches(reader, dataset, model) if isinstance(reader, ImageReader) else None


def _patch_truth(chunk: Labels, reader: "ImageReader", dataset: Dataset, model: Model) -> "tuple[list[Tensor], int]":
    import torch

    if not reader.has_regions:
        count = _patches(reader, dataset, model)
        return [labels.expand(count, -1) for labels in chunk.labels], count
    geometry = _geometry(model)
    rows = []
    for example, labels in track(list(zip(chunk.example_ids, chunk.labels, strict=True)), "masks"):
        truth = torch.zeros(geometry.n_patches, len(chunk.concepts), dtype=torch.bool, device="cpu")
        if bool(labels.any()):
            _cover(truth, reader, example, geometry, dataset.min_overlap)
        rows.append(truth & labels)
    return rows, geometry.n_patches


def _cover(
    truth: "Tensor", reader: "ImageReader", example: str, geometry: "Geometry", min_overlap: int | float
) -> None:
    patches: dict[int, Tensor] = {}  # one mask may serve several concepts
    for concept, mask in reader.masks(example).items():
        if id(mask) not in patches:
            patches[id(mask)] = ops.ground_truth.covered_patches(geometry.mask(mask), geometry.patch_size, min_overlap)
        truth[:, reader.concepts.index(concept)] = patches[id(mask)]


def _geometry(model: Model) -> "Geometry":
    if model.transformer is None:
        raise CatalogError(
            f"Model {model.name!r} has no transformer, so nothing says how masks become patches. Name the transformer "
            "in the catalog (its configuration is enough, weights are not read)."
        )
    return open_geometry(model.transformer)


def _patches(reader: "ImageReader", dataset: Dataset, model: Model) -> int:
    """How many rows an image has where no mask has to be followed, from the files or the model."""
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
