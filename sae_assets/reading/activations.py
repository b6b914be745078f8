"""Sparse activations of many chunks, read one at a time."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_assets.errors import MissingChunksError
from sae_assets.reading.files import columns_of
from sae_assets.storage.address import Address
from sae_assets.storage.arrow import numbers, split_lists
from sae_assets.storage.store import ArtifactStore
from sae_assets.wording import counted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FIRING = ("example_index", "position", "unit_ids")  # columns of what fires where


@dataclass(frozen=True)
class FiringChunk:
    """A firing chunk says which units fire on its rows, as compressed sparse rows without values.

    Attributes:
        key: of the chunk; n_units: width.
        example: int32 [n_rows], position of each row's example in the data set; position: int32, of the row in it.
        offsets: int64 [n_rows + 1]; units: int32 [n_entries], by value within a row, the greatest first.
    """

    key: str
    n_units: int
    example: "np.ndarray"
    position: "np.ndarray"
    offsets: "np.ndarray"
    units: "np.ndarray"

    @property
    def row_of_entry(self) -> "np.ndarray":
        """Return int64 [n_entries], row of each entry."""
        import numpy as np

        return np.repeat(np.arange(len(self.example)), np.diff(self.offsets))

    def entries_of(self, rows: "np.ndarray") -> "np.ndarray":
        """Return int64, places of the entries of some rows (bool [n_rows]), in order."""
        import numpy as np

        starts, lengths = self.offsets[:-1][rows], np.diff(self.offsets)[rows]
        return np.repeat(starts - (lengths.cumsum() - lengths), lengths) + np.arange(lengths.sum())


@dataclass(frozen=True)
class SparseChunk(FiringChunk):
    """The same with values: float32 [n_entries], descending within a row."""

    values: "np.ndarray"

    def to_scipy(self) -> Any:
        """``scipy.sparse.csr_array``, float32 [n_rows, n_units], units ascending within a row."""
        from scipy.sparse import csr_array  # noqa: PLC0415  # scikit-learn, which this package needs, brings it

        shape = (len(self.example), self.n_units)
        matrix = csr_array((self.values, self.units, self.offsets), shape=shape, copy=True)
        matrix.sort_indices()
        return matrix


class Activations:
    """All chunks' activations, in original unit ids; nothing is read before it is asked for."""

    def __init__(self, store: ArtifactStore, addresses: Sequence[Address], examples: "np.ndarray | None" = None):
        self._store, self._addresses, self._examples = store, addresses, examples

    def of_examples(self, examples: "np.ndarray") -> "Activations":
        """Return those row groups alone that hold a row of these examples, int32, ascending, by position in the data
        set."""
        return Activations(self._store, self._addresses, examples)

    def __iter__(self) -> Iterator[SparseChunk]:
        for fields, table in self._chunks((*FIRING, "values")):
            yield SparseChunk(**fields, values=numbers(split_lists(table["values"])[1]))

    def firing(self) -> Iterator[FiringChunk]:
        """Yield the same without values, which are half of what there is to read."""
        for fields, _ in self._chunks(FIRING):
            yield FiringChunk(**fields)

    def _chunks(self, columns: Sequence[str]) -> "Iterator[tuple[dict[str, Any], pa.Table]]":
        """Return the fields of each chunk that has rows, without values, and its table."""
        for address in self._addresses:
            header, table = columns_of(self._store, address, self._examples, columns)
            if not len(table):
                continue
            offsets, units = split_lists(table["unit_ids"])
            fields = {
                "key": address.chunk or "",
                "n_units": int(header.scalars["n_units"]),
                "example": numbers(table["example_index"]),
                "position": numbers(table["position"]),
                "offsets": offsets,
                "units": numbers(units),
            }
            yield fields, table

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self._addresses)

    def __repr__(self) -> str:
        return f"Activations of {counted(len(self), 'chunk')}"

    def to_scipy(self) -> Any:
        """Return every chunk in one ``scipy.sparse.csr_array``, float32 [n_rows, n_units]; SciPy is needed.

        Raises:
            MissingChunksError: no chunk was made.
        """
        from scipy.sparse import vstack  # noqa: PLC0415  # scikit-learn, which this package needs, brings it

        parts = [chunk.to_scipy() for chunk in self]
        if not parts:
            raise MissingChunksError("No chunk of these activations was made.")
        return vstack(parts, format="csr")

    def to_torch(self) -> Any:
        """Return every chunk in one ``torch.sparse_csr`` tensor, float32 [n_rows, n_units]."""
        return as_torch(self.to_scipy())


def as_torch(matrix: Any) -> Any:
    """Return a ``scipy.sparse.csr_array`` of float32 as a ``torch.sparse_csr`` tensor."""
    import torch

    offsets, units, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(
            offsets, units, values, size=matrix.shape, dtype=torch.float32, device="cpu", check_invariants=True
        )
