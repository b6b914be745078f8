"""A unit: what it fires on, and where in a picture or a text, which ``reading.marked`` shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import CatalogError, CheckpointError
from sae_assets.reading.display import unit_html
from sae_assets.reading.files import columns_of
from sae_assets.reading.marked import HeatMap, MarkedText, Token
from sae_assets.saes import locate_sae, open_decoder
from sae_assets.storage.arrow import numbers, rows_with

if TYPE_CHECKING:
    import numpy as np

    from sae_assets.reading.results import Results


@dataclass(frozen=True)
class TopExample:
    """An example that a unit fires on: id, position in the data set, largest value and how many rows fire."""

    example_id: str
    example_index: int
    value: float
    n_rows: int


@dataclass(frozen=True)
class CoActive:
    """A unit that fires on the same rows: its id, rows of both, and both over either (Jaccard)."""

    unit_id: int
    n_rows: int
    jaccard: float


@dataclass(frozen=True)
class Neighbour:
    """A unit whose decoder row points the same way: its id, and the cosine of both rows."""

    unit_id: int
    cosine: float


class Unit:
    """One unit of a results."""

    def __init__(self, results: "Results", unit_id: int):
        self.results, self.unit_id = results, unit_id

    def __repr__(self) -> str:
        return f"Unit({self.unit_id} of {self.results})"

    def _repr_html_(self) -> str:
        return unit_html(self)

    @cached_property
    def _entries(self) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """Return example, position and value of every row that it fires on, in the order of the data set."""
        import numpy as np

        if self.results.by_unit is not None:
            return self.results.by_unit.rows(self.unit_id)
        parts = []
        for chunk in self.results.activations():
            mine = np.flatnonzero(chunk.units == self.unit_id)
            rows = chunk.row_of_entry[mine]
            parts.append((chunk.example[rows], chunk.position[rows], chunk.values[mine]))
        if not parts:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
        example, position, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        return example, position, value

    @property
    def n_rows(self) -> int:
        """Return rows that it fires on, in the chunks that were made."""
        return len(self._entries[2])

    def stats(self) -> dict[str, Any]:
        """Return its line of ``unit_stats``."""
        return self._lines("unit_stats")[0]

    def concepts(self) -> list[dict[str, Any]]:
        """Return its lines of ``row_alignment``, the best concept on cal first; none where nothing is located."""
        return sorted(self._lines("row_alignment"), key=lambda line: -(line["cal_f1"] or 0))

    def _lines(self, stage: str) -> list[dict[str, Any]]:
        table = self.results.table(stage).to_arrow()
        lines: list[dict[str, Any]] = rows_with(table, "unit_id", self.unit_id).to_pylist()
        return lines

    @cached_property
    def n_examples(self) -> int:
        """Return examples that it fires on, in the chunks that were made."""
        return len(set(self._entries[0].tolist()))

    def top_examples(self, n: int = 5) -> list[TopExample]:
        """Return the ``n`` examples with its largest values; equal values in the order of the data set."""
        import numpy as np

        example, _, value = self._entries
        ids, index = np.unique(example, return_inverse=True)
        largest, counts = np.zeros(len(ids), np.float32), np.bincount(index, minlength=len(ids))
        np.maximum.at(largest, index, value)
        best = np.lexsort((ids, -largest))[:n]
        names = self.results.example_ids
        return [TopExample(names[ids[i]], int(ids[i]), float(largest[i]), int(counts[i])) for i in best]

    def decoder_neighbours(self, n: int = 5) -> list[Neighbour]:
        """Return the ``n`` units whose decoder rows point most in its direction, smaller ids first among equals; needs
        torch.

        Empty where the SAE's format has no decoder that is read.

        Raises:
            CheckpointError: the SAE is not on this machine.
        """
        import numpy as np

        sae = self.results.model_entry.sae
        if locate_sae(sae, download=False) is None:
            raise CheckpointError(f"The SAE of {self.results.model} is not on this machine.")
        decoder = open_decoder(sae, "cpu", 2**28)
        if decoder is None:
            return []
        weight = decoder.weight.double().numpy()
        lengths = np.linalg.norm(weight, axis=1)
        cosine = weight @ weight[self.unit_id] / np.maximum(lengths * lengths[self.unit_id], 1e-300)
        order = np.lexsort((np.arange(len(cosine)), -cosine))
        return [Neighbour(int(unit), float(cosine[unit])) for unit in order[order != self.unit_id][:n]]

    def stratified_examples(self, strata: int = 5, n: int = 2) -> list[list[TopExample]]:
        """Return examples from equal parts of those that it fires on, by largest value, weakest part first.

        Of each part up to ``n``, evenly from its weakest to its strongest; fewer parts where there are fewer examples.
        """
        import numpy as np

        ascending = self.top_examples(len(self._entries[0]))[::-1]
        parts = [part for part in np.array_split(np.arange(len(ascending)), strata) if len(part)]
        even = [part[np.unique(np.linspace(0, len(part) - 1, n).round().astype(int))] for part in parts]
        return [[ascending[index] for index in places] for places in even]

    def co_active(self, n: int = 5) -> list[CoActive]:
        """Return the ``n`` units that share most of their rows with it, by Jaccard; smaller ids first among equals."""
        import numpy as np

        both = np.zeros(self.results.n_units, np.int64)
        either = np.zeros(self.results.n_units, np.int64)
        by_unit = self.results.by_unit
        activations = self.results.activations()
        if by_unit is not None:
            either += by_unit.n_rows()
            activations = activations.of_examples(np.unique(self._entries[0]))
        for chunk in activations.firing():
            if by_unit is None:
                either += np.bincount(chunk.units, minlength=len(either))
            rows = chunk.row_of_entry
            fires = np.zeros(len(chunk.example), bool)
            fires[rows[chunk.units == self.unit_id]] = True
            both += np.bincount(chunk.units[fires[rows]], minlength=len(both))
        either += self.n_rows - both
        share = both / np.maximum(either, 1)
        share[self.unit_id] = 0
        best = np.lexsort((np.arange(len(share)), -share))[:n]
        return [CoActive(int(unit), int(both[unit]), float(share[unit])) for unit in best if both[unit]]

    def histogram(self, bins: int = 20) -> "tuple[np.ndarray, np.ndarray]":
        """Return how many of its values, all > 0, lie in each of equal parts of 0 to the largest: counts, and edges."""
        import numpy as np

        values = self._entries[2]
        return np.histogram(values, bins, (0, float(values.max()) if len(values) else 1))

    def pairs(self) -> list[dict[str, Any]]:
        """Return its lines of ``best_pairs``: the concepts that it was chosen for."""
        return self._lines("best_pairs")

    def values(self, example: str | TopExample) -> "np.ndarray":
        """Return float32 [n_rows]: its value on every row of an example (or the one with this id), 0 where it does not
        fire.

        Raises:
            CatalogError: no such example.
        """
        import numpy as np

        name = _id_of(example)
        _, locations = self._located(name)
        result = np.zeros(locations.num_rows, np.float32)
        examples, position, value = self._entries
        mine = examples == self._index(name)
        result[position[mine]] = value[mine]
        return result

    def heat_map(self, example: str | TopExample) -> "HeatMap":
        """Return where in a picture (or the one with this id) it fires, as the picture is shown.

        Raises:
            CatalogError: no such example, rows that are no patches, or nothing that says where they are.
        """
        name = _id_of(example)
        reader, (_, locations) = self.results.reader, self._located(name)
        if not isinstance(reader, ImageReader) or locations["left"].null_count:
            raise CatalogError(f"{self.results}: its rows are no patches of pictures, or nothing says where they are.")
        edges = {name: numbers(locations[name]) for name in ("left", "top", "right", "bottom")}
        return HeatMap(reader.image(name), edges, self.values(name), self.threshold)

    def tokens(self, example: str | TopExample) -> "MarkedText":
        """Return the tokens of a text (or of the one with this id) and its value on each.

        Raises:
            CatalogError: no such example, or rows that are no tokens.
        """
        name = _id_of(example)
        reader, (_, locations) = self.results.reader, self._located(name)
        if not isinstance(reader, TextReader) or locations["start"].null_count:
            raise CatalogError(f"{self.results}: its rows are no tokens of texts.")
        text, values = reader.text(name), self.values(name)
        spans = zip(locations["start"].to_pylist(), locations["end"].to_pylist(), values.tolist(), strict=True)
        return MarkedText(text, tuple(Token(text[a:b], a, b, value) for a, b, value in spans), self.threshold)

    @cached_property
    def threshold(self) -> float:
        """From where on it says its concept: the lowest threshold of the best pairs it is in, else its median value."""
        import numpy as np

        chosen = [line["threshold"] for line in self.pairs() if line["threshold"] is not None]
        if chosen:
            return float(min(chosen))
        values = self._entries[2]
        return float(np.median(values)) if len(values) else 1.0

    def _index(self, example_id: str) -> int:
        chunk, number = self.results.place_of(example_id)
        header = self.results.store.header(self.results.address("row_locations", chunk))
        return int(header.scalars["first_example"]) + number

    def _located(self, example_id: str) -> "tuple[Mapping[str, Any], Any]":
        """Return header's scalars and the table of the example's rows."""
        chunk, _ = self.results.place_of(example_id)
        header, table = columns_of(self.results.store, self.results.address("row_locations", chunk))
        return header.scalars, rows_with(table, "example_index", self._index(example_id))


def _id_of(example: str | TopExample) -> str:
    return example.example_id if isinstance(example, TopExample) else example
