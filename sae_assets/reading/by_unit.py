"""The rows of one unit from ``unit_rows``, without going through the activations of all."""

from typing import TYPE_CHECKING

from sae_assets.storage import parquet
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class ByUnit:
    """The file of ``unit_rows``. Its footer is read once, and then the row group of the unit that is asked for."""

    def __init__(self, store: ArtifactStore, address: Address):
        path = store.find(address)
        assert path is not None
        self._path = path
        _, self._metadata = parquet.load_footer(path)
        self._per_group = self._metadata.row_group(0).num_rows

    def rows(self, unit_id: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
        """Example and position, int32, and value, float32, of each row that a unit fires on, by data set order."""
        group, line = divmod(unit_id, self._per_group)
        table = self._read(["example_indices", "positions", "values"], group)
        example, position, value = (table[name].chunk(0)[line].values.to_numpy() for name in table.column_names)
        return example, position, value

    def n_rows(self) -> "np.ndarray":
        """int64 [n_units]: rows that each unit fires on."""
        import numpy as np

        return self._read(["n_rows"])["n_rows"].to_numpy().astype(np.int64)

    def _read(self, columns: list[str], group: int | None = None) -> "pa.Table":
        with self._path.open("rb") as opened, parquet.damaged(str(self._path)):
            file = parquet.open_part(opened, self._metadata)
            if group is None:
                return file.read(columns=columns, use_threads=False)
            return file.read_row_group(group, columns=columns, use_threads=False)
