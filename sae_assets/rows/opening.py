"""Each token kind of a data set is served by one source, and tokens stand somewhere: files first, a transformer
else."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.datasets import TextReader
from sae_assets.errors import CatalogError
from sae_assets.rows.images import open_image_rows
from sae_assets.rows.precomputed.rows import PrecomputedRows
from sae_assets.rows.source import RowSource, precomputed_kinds
from sae_assets.rows.texts import open_text_rows, open_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import Reader


def open_sources(
    reader: "Reader", dataset: Dataset, model: Model, kinds: Sequence[str], device: Any, precision: str,
    forward_batch: int | None = 1,
) -> list[tuple[tuple[str, ...], RowSource]]:  # fmt: skip
    """The sources of these token kinds, each with the kinds it gives; files come first where the catalog names them.

    Args:
        forward_batch: examples of one pass through a transformer; None: as many as the device takes.

    Raises:
        CatalogError: a kind without files for a model that has no transformer.
        CheckpointError: weights that cannot be had or do not fit; DatasetError: embedding files that do not.
    """
    file_kinds = precomputed_kinds(dataset, model)
    from_files = tuple(kind for kind in kinds if kind in file_kinds)
    computed = tuple(kind for kind in kinds if kind not in file_kinds)
    sources: list[tuple[tuple[str, ...], RowSource]] = []
    if from_files:
        sources.append((from_files, PrecomputedRows(reader, dataset.embeddings[model.name], from_files, device, model)))
    if computed:
        if model.transformer is None:
            raise CatalogError(
                f"Model {model.name!r} has no transformer, and data set {reader.name!r} names no embeddings for "
                f"{', '.join(computed)} (`embeddings.{model.name}`)."
            )
        if model.modality == "image":
            sources.append((computed, open_image_rows(reader, model, computed, device, precision, forward_batch)))
        else:
            sources.append((computed, open_text_rows(reader, model, computed, device, precision, forward_batch)))
    return sources


def token_spans(reader: "Reader", dataset: Dataset, model: Model) -> "Callable[[str], Tensor]":
    """Return characters [start, end) of an example's token rows, int64 [n_tokens, 2]; weights are not read.

    Raises:
        CatalogError: neither a tokenizer nor the precomputed embeddings say where tokens stand.
        CheckpointError: tokenizer files that cannot be read; DatasetError: embedding files that do not fit.
    """
    if "token" in precomputed_kinds(dataset, model):
        source = PrecomputedRows(reader, dataset.embeddings[model.name], ("token",), "cpu", model)
        return source.spans
    if model.transformer is None:
        raise CatalogError(
            f"Model {model.name!r} has no transformer and data set {reader.name!r} names no embeddings for `token` "
            f"(`embeddings.{model.name}`): nothing says what its tokens are."
        )
    assert isinstance(reader, TextReader)
    tokens = open_tokens(model)
    return lambda example: tokens.encode(reader.text(example)).spans
