"""Where the rows of an example come from: a transformer, or embeddings made elsewhere. One interface for all.

A source gives the dense rows of examples, by token kind, in float32. It knows neither SAEs nor sparse rows; what a
model reads and how its rows are counted is decided by the source's own module (``images``, ``texts``, ``precomputed``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sae_assets.catalog import Dataset, Model
from sae_assets.errors import CatalogError

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import Reader


@dataclass(frozen=True)
class ExampleRows:
    """Dense rows of one example.

    Attributes:
        rows: by token kind, float32 [n_rows, d_model] on the device.
        n_cut: tokens that ``max_tokens`` cut off.
        silent: token kinds whose row stands for nothing (``cls`` of a text without tokens): nothing is active on it.
        blank: the image is one colour, or the text is empty.
    """

    rows: "dict[str, Tensor]"
    n_cut: int = 0
    silent: frozenset[str] = field(default=frozenset())
    blank: bool = False


class RowSource(Protocol):
    """Gives the rows of examples.

    Attributes:
        d_model: width of the rows; place: where they are read, for messages.
    """

    d_model: int
    place: str

    def embed(self, example_ids: Sequence[str]) -> list[ExampleRows]:
        """Rows of these examples, in order; they may go through a transformer together."""
        ...

    def rows_per_example(self, kind: str) -> int | None:
        """How many rows every example has in a token kind; None where it differs by example."""
        ...


def precomputed_kinds(dataset: Dataset, model: Model) -> frozenset[str]:
    """Token kinds of a data set whose embeddings under this model are read from files."""
    return frozenset(dataset.embeddings.get(model.name, {}))


def open_sources(
    reader: "Reader", dataset: Dataset, model: Model, kinds: Sequence[str], device: Any, precision: str
) -> list[tuple[tuple[str, ...], RowSource]]:
    """The sources of these token kinds: each with the kinds it gives. Files come first where the catalog names them.

    Raises:
        CatalogError: a kind without files for a model that has no transformer.
        CheckpointError: weights that cannot be had or do not fit; DatasetError: embedding files that do not.
    """
    given = precomputed_kinds(dataset, model)
    from_files = tuple(kind for kind in kinds if kind in given)
    computed = tuple(kind for kind in kinds if kind not in given)
    sources: list[tuple[tuple[str, ...], RowSource]] = []
    if from_files:
        from sae_assets.rows.precomputed.rows import PrecomputedRows

        sources.append((from_files, PrecomputedRows(reader, dataset.embeddings[model.name], from_files, device, model)))
    if computed:
        if model.transformer is None:
            raise CatalogError(
                f"Model {model.name!r} has no transformer, and data set {reader.name!r} names no embeddings for "
                f"{', '.join(computed)} (`embeddings.{model.name}`)."
            )
        if model.modality == "image":
            from sae_assets.rows.images import open_image_rows

            sources.append((computed, open_image_rows(reader, model, computed, device, precision)))
        else:
            from sae_assets.rows.texts import open_text_rows

            sources.append((computed, open_text_rows(reader, model, computed, device, precision)))
    return sources
