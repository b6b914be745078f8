"""Artifacts that were read and verified are kept for those who read them next, as long as their files stay as they
were.

Passes of one run go through the same chunks in the same order. What was kept first therefore stays: whatever made room
for the last chunk would be the first one that the next pass asks for.
"""

import dataclasses
import time
from pathlib import Path
from threading import Lock
from typing import Generic, Protocol, TypeVar

from upath import UPath

from sae_assets.artifacts import Artifact
from sae_assets.storage.atomic import is_local

COARSEST = 2 * 10**9  # nanoseconds between two times that a file system tells apart (FAT's)
Version = tuple[int, int, int, int]  # disk, number on it, size and time of change of a file


class Holder(Protocol):
    """A holder has an artifact, with whatever else is known of it."""

    @property
    def artifact(self) -> Artifact: ...


H = TypeVar("H", bound=Holder)


class KeptReads(Generic[H]):
    """Artifacts by the files that they were read from, of so many bytes together; threads may share it.

    A file that changed is told by its size, its time of change and its number on the disk, which is another one after
    every atomic write. One that changed just now is not kept: another change could bear the same time.
    """

    def __init__(self, most_bytes: int):
        self._most_bytes, self._n_bytes = most_bytes, 0
        self._items: dict[str, tuple[Version, H, int]] = {}
        self._lock = Lock()

    def get(self, path: UPath) -> H | None:
        """Return what was read from a file, if the file is as it was; None if nothing was kept."""
        item = self._items.get(str(path))
        if item is None or item[0] != _version(path):
            return None
        return item[1]

    def version(self, path: UPath) -> Version | None:
        """Return what a file is now, to be asked before it is read; None where what is read of it cannot be kept."""
        if not self._most_bytes or not is_local(path):
            return None
        version = _version(path)
        return None if version is None or version[-1] > time.time_ns() - COARSEST else version

    def keep(self, path: UPath, version: Version | None, item: H) -> None:
        """Keep what was read from a file of this version, if there is room."""
        if version is None:
            return
        size = bytes_of(item.artifact)
        with self._lock:
            _, _, before = self._items.pop(str(path), (None, None, 0))
            self._n_bytes -= before
            if self._n_bytes + size <= self._most_bytes:
                self._items[str(path)] = (version, item, size)
                self._n_bytes += size


def _version(path: UPath) -> Version | None:
    try:
        stat = Path(path.path).stat()
    except OSError:  # whoever reads it is told
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def bytes_of(artifact: Artifact) -> int:
    """Return bytes of all its tensors."""
    fields = (getattr(artifact, field.name) for field in dataclasses.fields(artifact))
    return sum(getattr(value, "nbytes", 0) for value in fields)
