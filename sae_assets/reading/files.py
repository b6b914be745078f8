"""Header and columns of a stored file; those of ``.pt`` files by way of the artifact."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sae_assets.errors import NotMaterializedError
from sae_assets.storage import parquet
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets.storage.store import ArtifactStore, expect_place

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq


def columns_of(
    store: ArtifactStore,
    address: Address,
    examples: "np.ndarray | None" = None,
    columns: Sequence[str] | None = None,
) -> "tuple[Header, pa.Table]":
    """Return a file's header and table.

    Args:
        examples: leave out row groups of Parquet without any of these (``example_index``, ascending).
        columns: of these alone; None: all.

    Raises:
        NotMaterializedError: there is no such file; the command that makes it is named.
        StoredFileError: a file that is damaged.
    """
    path = store.find(address)
    if path is None:
        raise NotMaterializedError(f"{address} has not been made. Run: {address.making}")
    if path.suffix != ".parquet":
        table, _ = parquet.to_table(store.read(address).artifact)
        return store.header(address), table if columns is None else table.select(list(columns))
    if examples is None:
        header, table = parquet.load_table(path.read_bytes(), str(path), columns)
        expect_place(header.provenance, address, path)
        return header, table
    header, footer = parquet.load_footer(path)
    expect_place(header.provenance, address, path)
    with parquet.open_part(path, footer) as part:
        groups = list(_groups_of(part, examples))
        return header, part.read_row_groups(groups, columns=columns, use_threads=False)


def _groups_of(file: "pq.ParquetFile", examples: "np.ndarray") -> "Iterator[int]":
    """Return row groups that may hold a row of these examples, by the least and the greatest that each says to hold."""
    import numpy as np

    column = file.schema_arrow.get_field_index("example_index")
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            yield group
            continue
        first = np.searchsorted(examples, statistics.min)
        if first < len(examples) and examples[first] <= statistics.max:
            yield group
