"""Chunks of several stages side by side, the next of them read while one is worked on."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_assets.storage.store import Stored


def chunk_by_chunk(*readers: "Mapping[str, Stored]") -> Iterator[tuple[Any, ...]]:
    """Yield the artifacts of each chunk, one of each reader, in the order of the first reader's keys.

    The next chunk is read in a thread meanwhile, so two are in memory, and beside them the one before until the caller
    lets go of it: parsing and hashing leave the interpreter to others. What is wrong with a chunk is raised when its
    turn comes.
    """

    def read() -> Iterator[tuple[Any, ...]]:
        for key in readers[0]:
            yield tuple(reader[key].artifact for reader in readers)

    chunks = read()
    with ThreadPoolExecutor(1, "chunks") as thread:
        following = thread.submit(next, chunks, None)
        while (chunk := following.result()) is not None:
            following = thread.submit(next, chunks, None)
            yield chunk
            del chunk  # before the one after the next is read
