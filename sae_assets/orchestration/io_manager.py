"""The IO manager: asset and partition keys to the store's addresses, and the lazy reading of many chunks.

It knows no file format; the store does. An input marked ``CHUNKS`` arrives as a ``ChunkReader`` that holds keys only,
any other as one ``Stored`` artifact; one that is ``OPTIONAL`` as None where there is no file.
"""

from typing import TYPE_CHECKING, Union

import dagster as dg

from sae_assets.orchestration.metadata import links, storage_metadata, table_metadata
from sae_assets.orchestration.partitions import CHUNK, address_of
from sae_assets.orchestration.resources import StoreResource
from sae_assets.storage.chunk_reader import ChunkReader
from sae_assets.storage.store import FileInPlace

if TYPE_CHECKING:
    from sae_assets.storage.store import Stored

# Metadata of an AssetIn that fans chunks in, and of one that need not be there.
CHUNKS, OPTIONAL = {"sae_assets/read": "chunks"}, {"sae_assets/read": "optional"}


class ArtifactIOManager(dg.ConfigurableIOManager):
    """Writes ``Stored`` artifacts atomically; of ``FileInPlace`` ones the file stays as it is. Reads by the seal."""

    artifact_store: dg.ResourceDependency[StoreResource]

    def handle_output(self, context: dg.OutputContext, obj: "Stored | FileInPlace") -> None:
        partition = context.partition_key if context.has_partition_key else None
        address, store = address_of(context.asset_key.path, partition), self.artifact_store.store
        if isinstance(obj, FileInPlace):
            item, written = obj.item, store.written(address)
        else:
            item, written = obj, store.write(address, obj)
        is_page = written.path.suffix == ".html"  # a table of it would be the page once more
        tables = {} if is_page else table_metadata(item.artifact)
        metadata = storage_metadata(item.artifact, written, store.root)
        context.add_output_metadata({**metadata, **links(address), **tables})

    def load_input(self, context: dg.InputContext) -> Union["Stored", "ChunkReader", None]:
        store, path = self.artifact_store.store, context.asset_key.path
        how = context.definition_metadata or {}
        if how.items() >= CHUNKS.items():
            addresses = [address_of(path, key) for key in context.asset_partition_keys]
            return ChunkReader(store, {address.chunk or CHUNK: address for address in addresses})
        partition = context.asset_partition_key if context.has_asset_partitions else None
        address = address_of(path, partition)
        if how.items() >= OPTIONAL.items() and store.find(address) is None:
            return None
        return store.read(address)
