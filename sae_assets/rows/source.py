"""The rows of an example come from a transformer, or from embeddings made elsewhere. One interface serves all.

A source gives the dense rows of examples, by token kind, in float32. It knows neither SAEs nor sparse rows; what a
model reads and how its rows are counted is decided by the source's own module (``images``, ``texts``, ``precomputed``),
which one serves a data set in ``opening``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sae_assets.catalog import Dataset, Model

if TYPE_CHECKING:
    from torch import Tensor, nn


Normalisation = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation per channel; white is 1


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
        d_model: width of the rows; origin: where they come from, for messages.
        final_norm: what the library has put between the last block and the rows, such as a final norm; empty: nothing.
            Of a library whose models do not say it (attribute ``final_norm``), nothing.
        network: the torch module that gives them, cut at the hook point; None of files.
        normalisation: of images, mean and standard deviation that the network's input has been normalised by.
        doubts: why the weights say that what reads inputs may be another model's; mostly empty.
        longest: ids of the longest text that has been read so far, special ones and no cut ones among them; None of
            images, and where nobody counted.
    """

    d_model: int
    origin: str
    final_norm: str
    network: "nn.Module | None"
    doubts: Sequence[str]
    normalisation: Normalisation | None
    longest: int | None

    @property
    def one_by_one(self) -> bool:
        """Return whether examples that were to go through a transformer together cannot, since they change each
        other."""
        ...

    def embed(self, example_ids: Sequence[str]) -> Iterator[ExampleRows]:
        """Return rows of these examples, in order, each made when its turn has come or a little before."""
        ...

    def rows_per_example(self, kind: str) -> int | None:
        """Return how many rows every example has in a token kind; None where it differs by example."""
        ...


def is_pooled(dataset: Dataset, model: Model, kind: str) -> bool:
    """Return whether rows of a token kind are pooled from codes of token rows, and are no embeddings that are
    encoded."""
    computed = kind == "cls" and kind not in precomputed_kinds(dataset, model)
    return computed and model.modality == "text" and model.cls_of_texts == "pooled"


def precomputed_kinds(dataset: Dataset, model: Model) -> frozenset[str]:
    """Return token kinds of a data set whose embeddings under this model are read from files."""
    return frozenset(dataset.embeddings.get(model.name, {}))
