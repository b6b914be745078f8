"""Registering newly arrived examples as chunks: which may be, cut, with their manifests written.

Nothing is computed here, and Dagster is told by ``orchestration``. Which examples may be registered is decided in
``arrivals``, manifests are written by ``manifests``.
"""

import time
from dataclasses import dataclass

from upath import UPath

from sae_assets.catalog import Dataset
from sae_assets.chunks.arrivals import Arrived, arrived
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.manifests import chunks_to_be, read_manifests, register_chunks
from sae_assets.datasets import expect_files, open_dataset
from sae_assets.datasets.links import expect_inside
from sae_assets.datasets.reader import Reader


@dataclass(frozen=True)
class Registered:
    """All registered chunk keys, and what still waits."""

    keys: list[str]
    unsettled: int
    tail: int
    missing: str = ""

    @property
    def waiting(self) -> str:
        """Return what waits, in words; empty if nothing does."""
        young = f"{self.unsettled} example(s) still being written"
        gap = f"{self.unsettled} example(s) from one on that is not there yet ({self.missing})"
        parts = [gap if self.missing else young] if self.unsettled else []
        parts += [f"{self.tail} in a chunk that is not full"] if self.tail else []
        return " and ".join(parts)


def register(entry: Dataset, root: UPath, *, close_tail: bool = True, limit: int | None = None) -> Registered:
    """Cut examples that no chunk holds yet into chunks and write their manifests.

    Args:
        close_tail: also what does not fill a chunk or may still be written (a person asked for it).
        limit: how many new chunks to register at most.

    Raises:
        DatasetError: the data set is not laid out as its catalog entry says, links lead out of its folder, or files of
            examples that are to be registered are not there (by the rules of ``arrivals`` these wait).
    """
    reader, arrivals = _arrived(entry, root, close_tail)
    manifests = register_chunks(
        root, entry.name, arrivals.ready, entry.chunk_size,
        hashes=reader.hashes, keep_splits=reader.places_split, limit=limit,
    )  # fmt: skip
    return Registered([manifest.key for manifest in manifests], arrivals.unsettled, arrivals.tail, arrivals.missing)


def to_be_registered(entry: Dataset, root: UPath) -> tuple[list[Manifest], list[Manifest]]:
    """Return the registered chunks, and those that :func:`register` would add if a person asked now.

    Raises:
        DatasetError: as :func:`register`.
    """
    reader, arrivals = _arrived(entry, root, True)
    return chunks_to_be(root, entry.name, arrivals.ready, entry.chunk_size, keep_splits=reader.places_split)


def _arrived(entry: Dataset, root: UPath, close_tail: bool) -> tuple[Reader, Arrived]:
    """Return the data set, and what of it may be registered."""
    reader = open_dataset(entry)
    example_ids = [example for manifest in read_manifests(root, entry.name) for example in manifest.example_ids]
    arrivals = arrived(reader, entry, example_ids, time.time(), close_tail=close_tail)
    if arrivals.ready:
        expect_inside(entry, reader)
    if close_tail:
        expect_files(reader, arrivals.ready)
    return reader, arrivals
