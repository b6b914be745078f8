"""New pictures and texts through a model and its SAE, by the code that makes the stored activations.

So a copy of an example gives the values that are stored of it, bit for bit, on the same kind of device.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts import Examples
from sae_assets.catalog import Model
from sae_assets.datasets.inputs import InputImages, InputTexts, inputs_entry
from sae_assets.errors import CatalogError
from sae_assets.reading.activations import SparseChunk, as_torch
from sae_assets.reading.marked import HeatMap, MarkedText, Token
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.loaded import open_encoder
from sae_assets.rows.locations import locate_rows, unlocated
from sae_assets.settings import memory_budget_mb
from sae_assets.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from sae_assets.artifacts import SparseActivations
    from sae_assets.artifacts.row_locations import RowLocations
    from sae_assets.rows.loaded import OpenedSae


@dataclass(frozen=True)
class EncodeSettings:
    """Activations depend on these of the settings that they were made with (``docs/commands.md``, materialize).

    Attributes:
        k_stored: entries kept of a row, None: all; forward_batch: None: as many as the device takes.
        white: the number that is white of pixels of more than 8 bits; stored_values: what values are rounded to.
    """

    k_stored: int | None = None
    precision: str = "float32"
    forward_batch: int | None = None
    white: float | None = None
    stored_values: str = "float32"


def encode_inputs(
    inputs: "Mapping[str, Image | str]",
    model: Model,
    token_kind: str,
    settings: EncodeSettings,
    *,
    device: str = "auto",
    sae: "OpenedSae | None" = None,
) -> "tuple[SparseActivations, RowLocations]":
    """Return activations of inputs, in their order, and where their rows stand.

    Args:
        inputs: by name, as ``datasets.inputs.read_input`` gives them; at least one.
        sae: in place of the model's own.

    Raises:
        CheckpointError: weights that cannot be had or do not fit; DatasetError: an input whose rows are not finite.
    """
    entry = inputs_entry(model, settings.white)
    reader = (InputImages if model.modality == "image" else InputTexts)(entry, inputs)  # type: ignore[arg-type]
    names = tuple(inputs)
    chunk = Examples(first_index=0, example_ids=names, paths=names, file_hashes=names)
    resolved = ops.device.resolve_device(device)
    budget = ops.device.memory_budget(memory_budget_mb(), resolved)
    encoded = encode_chunk(
        chunk,
        (token_kind,),
        dataset=entry,
        model=model,
        reader=reader,
        k_stored=settings.k_stored,
        precision=settings.precision,
        forward_batch=settings.forward_batch,
        stored_values=settings.stored_values,
        batch_size=len(names),
        device=resolved,
        memory_budget=budget,
        sae=sae or replace(open_encoder(model.sae, resolved, budget), decoder=None),
    )
    locations = unlocated(chunk, 1) if token_kind == "cls" else locate_rows(chunk, entry, model, reader)
    return encoded.artifacts[token_kind], locations


class EncodedInput:
    """One picture or text, encoded: which units fire on it, how strongly, and where.

    Attributes:
        name: its path, or ``input 0``; content: the picture as it is shown, or the text.
        code: its rows (``SparseChunk``).
    """

    def __init__(
        self,
        name: str,
        content: "Image | str",
        code: SparseChunk,
        edges: "np.ndarray | None",
        threshold_of: Callable[[int], float],
    ):
        self.name, self.content, self.code = name, content, code
        self._edges, self._threshold_of = edges, threshold_of

    def __repr__(self) -> str:
        return f"EncodedInput({self.name}, {len(self.code.example)} rows)"

    def values(self, unit_id: int) -> "np.ndarray":
        """Return float32 [n_rows]: a unit's value on every row, 0 where it does not fire.

        Raises:
            CatalogError: the SAE has no such unit.
        """
        import numpy as np

        if not 0 <= unit_id < self.code.n_units:
            raise CatalogError(f"Unit {unit_id}: the SAE has units 0 to {self.code.n_units - 1}.")
        values, mine = np.zeros(len(self.code.example), np.float32), self.code.units == unit_id
        values[self.code.row_of_entry[mine]] = self.code.values[mine]
        return values

    def top_units(self, n: int = 5) -> list[tuple[int, float]]:
        """Return the ``n`` units with the largest value on any row, and that value; smaller ids first among equals."""
        import numpy as np

        largest = np.zeros(self.code.n_units, np.float32)
        np.maximum.at(largest, self.code.units, self.code.values)
        best = np.lexsort((np.arange(len(largest)), -largest))[:n]
        return [(int(unit), float(largest[unit])) for unit in best if largest[unit] > 0]

    def heat_map(self, unit_id: int, threshold: float | None = None) -> HeatMap:
        """Return where in the picture a unit fires.

        Args:
            threshold: from where on it says its concept; default: that of the best pairs, as units have it.

        Raises:
            CatalogError: its rows are no patches of a picture, or there is no such unit.
        """
        if isinstance(self.content, str) or self._edges is None:
            raise CatalogError(f"{self.name}: its rows are no patches of a picture.")
        names = ("left", "top", "right", "bottom")
        edges = {name: self._edges[:, index] for index, name in enumerate(names)}
        return HeatMap(self.content, edges, self.values(unit_id), self._threshold(unit_id, threshold))

    def tokens(self, unit_id: int, threshold: float | None = None) -> MarkedText:
        """Return the tokens of the text and a unit's value on each; ``threshold`` as of :meth:`heat_map`.

        Raises:
            CatalogError: its rows are no tokens of a text, or there is no such unit.
        """
        if not isinstance(self.content, str) or self._edges is None:
            raise CatalogError(f"{self.name}: its rows are no tokens of a text.")
        text, spans = self.content, zip(self._edges.tolist(), self.values(unit_id).tolist(), strict=True)
        tokens = tuple(Token(text[start:end], start, end, value) for (start, end), value in spans)
        return MarkedText(text, tokens, self._threshold(unit_id, threshold))

    def _threshold(self, unit_id: int, threshold: float | None) -> float:
        return self._threshold_of(unit_id) if threshold is None else threshold


class Encoded(Sequence[EncodedInput]):
    """Pictures or texts that were encoded together; each by its number."""

    def __init__(
        self,
        inputs: "Mapping[str, Image | str]",
        rows: "SparseActivations",
        locations: "RowLocations",
        threshold_of: Callable[[int], float],
    ):
        self._names, self._contents = list(inputs), list(inputs.values())
        self._rows, self._locations, self._threshold_of = rows, locations, threshold_of

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        """Return one input by its number, or a list of them by a slice."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"input {index} of {len(self)}")
        index %= len(self)
        start, stop = self._rows.example_offsets[index : index + 2].tolist()
        return EncodedInput(
            self._names[index], self._contents[index], self._code(start, stop), self._edges(index, start, stop),
            self._threshold_of,
        )  # fmt: skip

    def __iter__(self) -> Iterator[EncodedInput]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{counted(len(self), 'input')}, {counted(self._rows.n_rows, 'row')} × {self._rows.n_units:,} units"

    def to_scipy(self) -> Any:
        """``scipy.sparse.csr_array``, float32 [n_rows, n_units], inputs behind one another; SciPy is needed."""
        return self._code(0, self._rows.n_rows).to_scipy()

    def to_torch(self) -> Any:
        """``torch.sparse_csr`` tensor, float32 [n_rows, n_units]."""
        return as_torch(self.to_scipy())

    def _code(self, start: int, stop: int) -> SparseChunk:
        """Return rows ``start`` to ``stop``."""
        import torch

        rows = self._rows
        first, last = int(rows.row_offsets[start]), int(rows.row_offsets[stop])
        example = rows.example_of_row()[start:stop]
        position = torch.arange(start, stop, device="cpu") - rows.example_offsets[example]
        return SparseChunk(
            key="",
            n_units=rows.n_units,
            example=example.int().numpy(),
            position=position.int().numpy(),
            offsets=(rows.row_offsets[start : stop + 1] - first).numpy(),
            units=rows.unit_ids[first:last].numpy(),
            values=rows.values[first:last].numpy(),
        )

    def _edges(self, index: int, start: int, stop: int) -> "np.ndarray | None":
        """Left, top, right and bottom of patches, or start and end of tokens; None where nothing says it."""
        if self._locations.spans is not None:
            return self._locations.spans[start:stop].numpy()
        return None if self._locations.transforms is None else self._locations.boxes(index).numpy()
