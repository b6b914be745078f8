"""Header and columns of a stored file; those of ``.pt`` files by way of the artifact."""

from typing import TYPE_CHECKING

from sae_assets.errors import NotMaterializedError
from sae_assets.storage import parquet
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets.storage.store import ArtifactStore

if TYPE_CHECKING:
    import pyarrow as pa


def columns_of(store: ArtifactStore, address: Address) -> "tuple[Header, pa.Table]":
    """A file's header and table.

    Raises:
        NotMaterializedError: there is no such file; the command that makes it is named.
        StoredFileError: a file that is damaged.
    """
    import pyarrow.parquet as pq

    path = store.find(address)
    if path is None:
        raise NotMaterializedError(f"{address} has not been made. Run: {address.making}")
    header = store.header(address)
    if path.suffix == ".parquet":
        with path.open("rb") as file:
            return header, pq.ParquetFile(file).read(use_threads=False)
    table, _ = parquet.to_table(store.read(address).artifact)
    return header, table
