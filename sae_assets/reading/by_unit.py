"""The rows of one unit from ``unit_rows``, without going through the activations of all."""

from bisect import bisect_right
from typing import TYPE_CHECKING

from upath import UPath

from sae_assets.storage import parquet
from sae_assets.storage.address import Address
from sae_assets.storage.arrow import numbers
from sae_assets.storage.store import expect_place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class ByUnit:
    """The file of ``unit_rows``. Its footer is read once, and then the row group of the unit that is asked for.

    Args:
        path: of the file; address: where it has to be.

    Attributes:
        header: what made the file; n_units: units of the SAE.
    """

    def __init__(self, path: UPath, address: Address):
        self._path = path
        self.header, self._metadata = parquet.load_footer(path)
        expect_place(self.header.provenance, address, path)
        self.n_units = int(self.header.scalars["n_units"])

    def rows(self, unit_id: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """Return example and position, int32, and value, float32, of each row that a unit fires on, by data set
        order."""
        group, first = self._group_of(unit_id)
        table = self._read(["example_indices", "positions", "values"], group)
        line = unit_id - first
        example, position, value = (numbers(table[name].chunk(0)[line].values) for name in table.column_names)
        return example, position, value

    def n_rows(self) -> "np.ndarray":
        """Return int64 [n_units]: rows that each unit fires on."""
        import numpy as np

        return numbers(self._read(["n_rows"])["n_rows"]).astype(np.int64)

    def _group_of(self, unit_id: int) -> tuple[int, int]:
        """Return the row group of a unit, by the least id that each says to hold, and that id."""

        def first(group: int) -> int:
            with parquet.damaged(str(self._path)):
                return int(self._metadata.row_group(group).column(0).statistics.min)

        group = bisect_right(range(self._metadata.num_row_groups), unit_id, key=first) - 1
        return group, first(group)

    def _read(self, columns: list[str], group: int | None = None) -> "pa.Table":
        with parquet.open_part(self._path, self._metadata) as file:
            if group is None:
                return file.read(columns=columns, use_threads=False)
            return file.read_row_group(group, columns=columns, use_threads=False)
