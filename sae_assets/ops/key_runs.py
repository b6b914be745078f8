"""Keys of many chunks, given back some groups at a time: an external sort, for which chunks are gone through once.

What does not fit in memory is sorted and appended to a temporary file, run by run (Knuth 1998, vol. 3, section 5.4).
The entries of a group are the same however they were cut into runs, so neither chunks nor memory can be seen in them.
"""

import io
import sys
import tempfile
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from jaxtyping import Int
from torch import Tensor

from sae_assets.ops.segments import BITS, plan_blocks, sort_keys


@dataclass(frozen=True)
class Block:
    """What there is of groups ``start`` to ``stop - 1``, in any order.

    Attributes:
        keys: int64 [n], with groups counted from ``start``.
        tags: int32 [n], what came with each key; empty without any.
    """

    start: int
    stop: int
    keys: Int[Tensor, " n"]
    tags: Int[Tensor, " _"]


class KeyRuns:
    """Keys that come in any order, of groups 0, 1, … above their last ``shift`` bits.

    The file lies in the folder of temporary files and goes with this object: 8 bytes for a key, 4 for a tag.
    """

    def __init__(self, most: int, shift: int = BITS):
        """
        Args:
            most: keys that are held in memory, beside those of one chunk; one group's are always held together.
        """
        self._most, self._shift, self._held = max(1, most), shift, 0
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._runs: list[_Run] = []
        self._file: BinaryIO | None = None

    def add(self, keys: Int[Tensor, " n"], tags: Int[Tensor, " _"] | None = None) -> None:
        """Take in a chunk's keys, int64 on the CPU, and of each a tag, int32, if any has one."""
        if self._held and self._held + len(keys) > self._most:
            self._write()
        self._parts.append((keys, keys.new_empty(0, dtype=torch.int32) if tags is None else tags))
        self._held += len(keys)

    def blocks(self, counts: Int[Tensor, " groups"]) -> Iterator[Block]:
        """All keys, as many groups at a time as are held in memory, in their order; once only.

        Args:
            counts: keys of each group.
        """
        if not self._runs and self._held <= self._most:
            if len(counts):
                yield Block(0, len(counts), *self._gathered())
            return
        self._write()
        for start, stop in plan_blocks(counts, self._most):
            yield Block(start, stop, *self._read(start, stop))

    def _gathered(self) -> tuple[Tensor, Tensor]:
        """What is held, put together; a part is given up as soon as it is copied."""
        keys = torch.empty(self._held, dtype=torch.int64, device="cpu")
        tags = torch.empty(sum(len(tags) for _, tags in self._parts), dtype=torch.int32, device="cpu")
        ends = [self._held, len(tags)]
        self._held = 0
        while self._parts:
            for whole, part, place in zip((keys, tags), self._parts.pop(), range(2), strict=True):
                whole[ends[place] - len(part) : ends[place]] = part
                ends[place] -= len(part)
        return keys, tags

    def _write(self) -> None:
        """Append what is held to the file, as one more run."""
        if not self._held:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="sae-assets-")  # noqa: SIM115 (it goes with this object)
            weakref.finalize(self, self._file.close)
        keys, tags = self._gathered()
        if len(tags):
            order = torch.from_numpy(keys.numpy().argsort())
            keys, tags = keys[order], tags[order]
        else:
            sort_keys(keys)
        first = self._file.seek(0, io.SEEK_END)
        for column in (keys, tags):
            self._file.write(column.numpy().data)
        self._runs.append(_Run(self._file, len(keys), first, first + 8 * len(keys) if len(tags) else None))

    def _read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The keys of groups from ``start`` on, all before it having been read."""
        lengths = [bisect_left(run, stop << self._shift, run.read) - run.read for run in self._runs]
        keys = torch.empty(sum(lengths), dtype=torch.int64, device="cpu")
        tagged = any(run.tags is not None for run in self._runs)
        tags = torch.empty(len(keys) if tagged else 0, dtype=torch.int32, device="cpu")
        first = 0
        for run, length in zip(self._runs, lengths, strict=True):
            run.take(keys[first : first + length], tags[first : first + length])
            first += length
        keys -= start << self._shift
        return keys, tags


@dataclass
class _Run(Sequence[int]):
    """Sorted keys in a file, from byte ``keys`` on, with tags from byte ``tags`` on; ``read`` counts those taken."""

    file: BinaryIO
    n: int
    keys: int
    tags: int | None
    read: int = 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place: Any) -> Any:
        self.file.seek(self.keys + 8 * place)
        return int.from_bytes(self.file.read(8), sys.byteorder, signed=True)

    def take(self, keys: Tensor, tags: Tensor) -> None:
        """Fill these with what comes next."""
        for column, start in ((keys, self.keys), (tags, self.tags)):
            if len(column) and start is not None:
                self.file.seek(start + self.read * column.itemsize)
                self.file.readinto(column.numpy().data.cast("B"))  # type: ignore[attr-defined]
        self.read += len(keys)
