"""Results are what was made of one data set with one model, for one token kind."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.chunks.manifests import read_manifests
from sae_assets.datasets import TextReader, open_contents
from sae_assets.datasets.inputs import named_inputs, read_input
from sae_assets.errors import CatalogError, MissingChunksError, NotMaterializedError
from sae_assets.reading import finding
from sae_assets.reading.activations import Activations
from sae_assets.reading.by_unit import ByUnit
from sae_assets.reading.display import results_html
from sae_assets.reading.files import columns_of
from sae_assets.reading.tables import Table
from sae_assets.reading.unit import Unit
from sae_assets.storage.address import Address
from sae_assets.storage.arrow import numbers
from sae_assets.storage.snapshot import StoreSnapshot
from sae_assets.storage.store import ArtifactStore

if TYPE_CHECKING:
    import numpy as np

    from sae_assets.datasets import Reader
    from sae_assets.reading.by_unit import ByUnit
    from sae_assets.reading.encoding import Encoded

OF_DATASET = ("examples", "labels")  # no model made them


@dataclass(frozen=True)
class LocatedTokens:
    """Tokens of all texts behind one another.

    Attributes:
        example: int32 [n_rows], position of each row's text in the data set; start, end: int32, its characters.
        offsets: int64 [n_texts + 1], rows of each text.
    """

    example: "np.ndarray"
    start: "np.ndarray"
    end: "np.ndarray"
    offsets: "np.ndarray"


class Results:
    """Tables, activations and units of a data set under a model."""

    def __init__(self, store: ArtifactStore, dataset: Dataset, model: str, token_kind: str, model_entry: Model):
        self.store, self.entry, self.model, self.token_kind = store, dataset, model, token_kind
        self.model_entry = model_entry

    def __repr__(self) -> str:
        return f"Results({self.entry.name}/{self.token_kind}/{self.model})"

    def _repr_html_(self) -> str:
        return results_html(self)

    def address(self, stage: str, chunk: str | None = None) -> Address:
        if stage in OF_DATASET:
            return Address(self.entry.name, stage, chunk=chunk)
        return Address(self.entry.name, stage, self.token_kind, self.model, chunk)

    @cached_property
    def chunks(self) -> list[str]:
        """Return keys of the registered chunks."""
        return [manifest.key for manifest in read_manifests(self.store.root, self.entry.name)]

    def table(self, stage: str) -> Table:
        """Return the table of a stage, chunks that were made behind one another.

        Raises:
            NotMaterializedError, MissingChunksError: it was not made; the command that makes it is named.
        """
        import pyarrow as pa

        if self.store.find(self.address(stage)) is not None:
            return Table(columns_of(self.store, self.address(stage))[1])
        addresses = [
            address for address in (self.address(stage, key) for key in self.chunks) if self.store.find(address)
        ]
        if not addresses:
            raise MissingChunksError(f"{self.address(stage)} has not been made. Run: {self.address(stage).making}")
        return Table(
            pa.concat_tables(columns_of(self.store, address)[1].replace_schema_metadata(None) for address in addresses)
        )

    def has(self, stage: str) -> bool:
        """Return whether anything of a stage was made."""
        return any(self.store.find(self.address(stage, chunk)) is not None for chunk in (None, *self.chunks))

    def best_pairs(self) -> Table:
        """Return the unit of each concept with its figures on cal and test."""
        return self.table("best_pairs")

    def unit_stats(self) -> Table:
        """Return count, mean, max, quantiles, density and selectivity of every unit on cal rows."""
        return self.table("unit_stats")

    def alignment(self) -> Table:
        """Return row figures of every (concept, unit) over all thresholds."""
        return self.table("row_alignment")

    def examples(self) -> Table:
        """Return ids and paths of the examples, by position in the data set."""
        return self.table("examples")

    def activations(self) -> Activations:
        """Return sparse activations of the chunks that were made, read one chunk at a time."""
        addresses = [self.address("sparse_activations", key) for key in self.chunks]
        return Activations(self.store, [address for address in addresses if self.store.find(address) is not None])

    @cached_property
    def by_unit(self) -> "ByUnit | None":
        """Return activations by unit, if they were made of the activations that there are now."""
        address = self.address("unit_rows")
        store = StoreSnapshot(self.store)  # looks for the files of all chunks by one listing
        path = store.find(address)
        if path is None:
            return None
        by_unit = ByUnit(path, address)
        inputs = by_unit.header.provenance.inputs
        same = (
            store.holds(self.address("sparse_activations", key), inputs.get(f"sparse_activations/{key}"))
            for key in self.chunks
        )
        return by_unit if all(same) else None

    @cached_property
    def n_rows(self) -> int:
        """Return rows of the chunks that were made."""
        return sum(len(chunk.example) for chunk in self.activations().firing())

    @cached_property
    def n_units(self) -> int:
        """Return units of the SAE. Raises: MissingChunksError: no activations were made."""
        for key in self.chunks:
            with suppress(NotMaterializedError):
                return int(self.store.header(self.address("sparse_activations", key)).scalars["n_units"])
        address = self.address("sparse_activations")
        raise MissingChunksError(f"{address} has not been made. Run: {address.making}")

    def unit(self, unit_id: int) -> Unit:
        """Return a unit by its original id.

        Raises:
            CatalogError: the SAE has no such unit.
        """
        n_units = self.n_units if self.by_unit is None else self.by_unit.n_units
        if not 0 <= unit_id < n_units:
            raise CatalogError(f"Unit {unit_id}: the SAE of {self.model} has units 0 to {n_units - 1}.")
        return Unit(self, unit_id)

    def find(
        self,
        *,
        concept: str | None = None,
        words: str | None = None,
        example: Any = None,
        label: str | None = None,
        labels: Path | str | None = None,
        n: int = 10,
    ) -> Table:
        """Return units worth a look, best first, by one of four things.

        Args:
            concept: for which they are good on cal; words: on whose tokens they fire; example: in which they fire and
                nowhere else (an id, or new input as of :meth:`encode`); label: what others call them in the file
                ``labels`` (explanations of Neuronpedia or Delphi).

        Raises:
            CatalogError: not exactly one of them, or a name that is not there.
        """
        questions = [name for name, value in (("concept", concept), ("words", words), ("example", example),
                                          ("label", label)) if value is not None]  # fmt: skip
        if len(questions) != 1:
            raise CatalogError(
                f"Name one of concept, words, example and label; found {' and '.join(questions) or 'none'}."
            )
        if concept is not None:
            return finding.units_of_concept(self, concept, n)
        if words is not None:
            return finding.units_of_words(self, words, n)
        if label is not None:
            if labels is None:
                raise CatalogError("`label` needs the file of labels (`labels`).")
            return finding.units_of_label(self, Path(labels), label, n)
        return finding.units_of_example(self, example, n)

    def encode(self, inputs: Sequence[Any], device: str = "auto") -> "Encoded":
        """Return new pictures or texts through its model and SAE, as its activations were made.

        Args:
            inputs: paths, pictures of Pillow or arrays; texts, or paths of texts (``datasets.inputs.read_input``).
            device: auto, cpu, cuda or cuda:<number>.

        Raises:
            DatasetError: an input that cannot be read; CheckpointError: weights that cannot be had.
            MismatchError: activations that were imported, or made with another model than the catalog names now.
        """
        from sae_assets.reading.encoding import Encoded, encode_inputs  # noqa: PLC0415  # numpy, torch
        from sae_assets.reading.stored_settings import stored_settings  # noqa: PLC0415

        settings = stored_settings(self)
        contents = {
            name: read_input(one, self.entry.modality, settings.white)
            for name, one in named_inputs(inputs, self.entry.modality).items()
        }
        rows, locations = encode_inputs(contents, self.model_entry, self.token_kind, settings, device=device)
        return Encoded(contents, rows, locations, lambda unit: self.unit(unit).threshold)

    @cached_property
    def reader(self) -> "Reader":
        """Return the data set itself, for pictures and texts.

        Raises:
            DatasetError: it is not on this machine as the catalog says.
        """
        return open_contents(self.entry)

    @cached_property
    def example_ids(self) -> list[str]:
        """Return id of every example, by position in the data set."""
        table = self.examples().to_arrow()
        by_index = zip(table["example_index"].to_pylist(), table["example_id"].to_pylist(), strict=True)
        return [example_id for _, example_id in sorted(by_index)]

    @cached_property
    def unit_counts(self) -> "np.ndarray":
        """Return int64 [n_units]: rows that each unit fires on, in the chunks that were made."""
        import numpy as np

        if self.by_unit is not None:
            return self.by_unit.n_rows()
        counts = np.zeros(self.n_units, np.int64)
        for chunk in self.activations().firing():
            counts += np.bincount(chunk.units, minlength=len(counts))
        return counts

    @cached_property
    def texts(self) -> list[str]:
        """Return every text, by position in the data set."""
        assert isinstance(self.reader, TextReader)
        return [self.reader.text(example) for example in self.example_ids]

    @cached_property
    def located_tokens(self) -> "LocatedTokens":
        """Return where every token row stands, in the data set's order."""
        import numpy as np

        table = self.table("row_locations").to_arrow()
        example, start, end = (numbers(table[name]) for name in ("example_index", "start", "end"))
        counts = np.bincount(example, minlength=len(self.example_ids))
        return LocatedTokens(example, start, end, np.concatenate([[0], counts.cumsum()]))

    def is_example(self, name: str) -> bool:
        """Return whether a chunk holds an example of this id."""
        return name in self._places

    def index_of(self, example_id: str) -> int:
        """Return position of an example in the data set. Raises: CatalogError: no chunk holds it."""
        self.place_of(example_id)
        return self.example_ids.index(example_id)

    def place_of(self, example_id: str) -> tuple[str, int]:
        """Return chunk of an example, and its number in it.

        Raises:
            CatalogError: no chunk holds it; the nearest ids are named.
        """
        places = self._places
        if example_id not in places:
            near = ", ".join(get_close_matches(example_id, places, n=3)) or "none"
            raise CatalogError(f"{self.entry.name} has no example {example_id!r}. Nearest: {near}.")
        return places[example_id]

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        manifests: list[Any] = read_manifests(self.store.root, self.entry.name)
        return {
            example: (manifest.key, number)
            for manifest in manifests
            for number, example in enumerate(manifest.example_ids)
        }
