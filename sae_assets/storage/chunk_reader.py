"""Many chunks of one stage as a mapping: which there are is known at once, each is read when it is asked for."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sae_assets.errors import MissingChunksError
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets.storage.store import ArtifactStore, Stored


class ChunkReader(Mapping[str, Stored]):
    """Many chunks of one stage: keys first, artifacts read one at a time, each time they are asked for.

    Args:
        store: where the chunks are; addresses: the address of each chunk key.

    Attributes:
        missing: keys that are registered but not materialized; they are left out of the mapping.
    """

    def __init__(self, store: ArtifactStore, addresses: Mapping[str, Address]):
        self._store = store
        self._all = dict(addresses)
        presence = {key: store.find(address) is not None for key, address in sorted(addresses.items())}
        self._addresses = {key: addresses[key] for key, exists in presence.items() if exists}
        self.missing: Sequence[str] = [key for key, exists in presence.items() if not exists]
        self.stage = next(iter(addresses.values())).stage if addresses else ""

    def __getitem__(self, key: str) -> Stored:
        return self._store.read(self._addresses[key])

    def __contains__(self, key: object) -> bool:  # Mapping's own would read the file
        return key in self._addresses

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def header(self, key: str) -> Header:
        return self._store.header(self._addresses[key])

    def without(self, keys: Collection[str]) -> "ChunkReader":
        """Return the same stage for the other chunks, as if these were not registered."""
        return ChunkReader(self._store, {key: where for key, where in self._all.items() if key not in keys})

    def only(self, keys: Iterable[str]) -> "ChunkReader":
        """Return the same stage for these chunks only.

        Raises:
            MissingChunksError: one of these chunks is not materialized.
        """
        keys = list(keys)
        unknown = [key for key in keys if key not in self._all]
        if unknown:
            raise MissingChunksError(f"Chunks {', '.join(unknown)} of {self.stage} are not registered.")
        chosen = ChunkReader(self._store, {key: self._all[key] for key in keys})
        return chosen.complete()

    def complete(self, allow_missing: bool = False) -> "ChunkReader":
        """Return this reader, if every registered chunk exists (or, with gaps allowed, at least one).

        Raises:
            MissingChunksError: chunks are missing; the message names them and says what to do.
        """
        if self.missing and (not allow_missing or not self._addresses):
            names = ", ".join(self.missing[:10]) + (" …" if len(self.missing) > 10 else "")
            raise MissingChunksError(
                f"{len(self.missing)} of {len(self.missing) + len(self)} registered chunks of {self.stage} are not "
                f"materialized: {names}. Materialize them first ({self._all[self.missing[0]].making})"
                + (", at least one." if allow_missing else ", or set `allow_missing_chunks: true`.")
            )
        if not self._addresses:
            raise MissingChunksError("No chunk is registered. Register and materialize chunks first.")
        return self
