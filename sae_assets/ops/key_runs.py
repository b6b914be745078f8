"""Keys of many chunks, given back some groups at a time: an external sort, for which chunks are gone through once.

What does not fit in memory is sorted and appended to a temporary file, run by run (Knuth 1998, vol. 3, section 5.4).
The entries of a group are the same however they were cut into runs, so neither chunks nor memory can be seen in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sae_assets.ops.scratch import ScratchFile, empty
from sae_assets.ops.segments import BITS, cut_blocks, sort_keys, sort_tagged

STEP = 512  # keys of a run between two that are held in memory


@dataclass(frozen=True)
class Block:
    """A block holds all entries of groups ``start`` to ``stop - 1``, in any order.

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

    What is written takes 8 bytes for a key and 4 for a tag.
    """

    def __init__(self, most: int, shift: int = BITS):
        """
        Args:
            most: keys that are held in memory, beside those of one chunk; one group's are always held together.
        """
        self._most, self._shift, self._held = max(1, most), shift, 0
        # The system gives memory as it is written to. Parts that are freed one by one would leave it in pieces.
        self._keys = empty(self._most, torch.int64)
        self._tags = torch.empty(0, dtype=torch.int32, device="cpu")
        self._runs: list[_Run] = []
        self._some = bytearray()  # every STEP-th key of all runs; one piece, as what stays between chunks is in the way
        self._file: ScratchFile | None = None

    def add(self, keys: Int[Tensor, " n"], tags: Int[Tensor, " _"] | None = None) -> None:
        """Take in a chunk's keys, int64 on the CPU, and a tag of each, int32: of all that come or of none."""
        first = 0
        while first < len(keys):
            if self._held == self._most:
                self._write()
            stop = min(len(keys), first + self._most - self._held)
            room = self.room(stop - first, tagged=tags is not None)
            assert room is not None
            room[0].copy_(keys[first:stop])
            if tags is not None:
                room[1].copy_(tags[first:stop])
            self.filled(stop - first)
            first = stop

    def room(self, n: int, *, tagged: bool) -> tuple[Tensor, Tensor] | None:
        """Return where to put the next ``n`` keys, or fewer, and their tags, if so many are held; then call
        ``filled``."""
        if self._held + n > self._most:
            return None
        if tagged and not len(self._tags):
            self._tags = empty(self._most, torch.int32)
        slot = slice(self._held, self._held + n)
        return self._keys[slot], self._tags[slot]

    def filled(self, n: int) -> None:
        """So many of those that there was room for are there."""
        self._held += n

    def blocks(self, counts: Int[Tensor, " groups"]) -> Iterator[Block]:
        """Yield all keys, as many groups at a time as are held in memory, in their order; once only.

        Args:
            counts: keys of each group.
        """
        if self._runs:
            self._write()
        n, expected = self._held + sum(run.n - run.read for run in self._runs), int(counts.sum())
        if n != expected:  # compiled loops would read what is not there
            raise RuntimeError(f"{expected} keys are asked for, and {n} are there: they are given back once.")
        whole = [Block(0, len(counts), self._keys[: self._held], self._tags[: self._held])]
        self._keys, self._tags, self._held = self._keys.new_empty(0), self._tags.new_empty(0), 0
        if not self._runs:
            if len(counts):
                yield whole.pop()  # that it is given up here, too, before it is looked at
            return
        whole.clear()
        for start, stop in cut_blocks(counts, self._most):
            yield Block(start, stop, *self._read(start, stop))

    def _write(self) -> None:
        """Append what is held to the file, as one more run."""
        if self._file is None:
            self._file = ScratchFile()
        keys, tags = self._keys[: self._held], self._tags[: self._held]
        if len(tags):
            keys, tags = sort_tagged(keys, tags)
        else:
            sort_keys(keys)
        starts = self._file.append(keys), self._file.append(tags)
        some = len(self._some) // 8
        self._some += keys[::STEP].numpy().tobytes()
        self._runs.append(_Run(self._file, self._some, len(keys), some, starts[0], starts[1] if len(tags) else None))
        self._held = 0

    def _read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the keys of groups from ``start`` on, all before it having been read."""
        lengths = [run.below(stop << self._shift) - run.read for run in self._runs]
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
class _Run:
    """``n`` sorted keys in a file, from byte ``keys`` on, with tags from byte ``tags`` on; ``read`` counts those taken.

    ``index`` holds every ``STEP``-th key, from the one numbered ``some`` on, so that one read of the file says where
    another one belongs.
    """

    file: ScratchFile
    index: bytearray
    n: int
    some: int
    keys: int
    tags: int | None
    read: int = 0

    def below(self, key: int) -> int:
        """Return how many of its keys are smaller."""
        n = -(-self.n // STEP)
        some = torch.frombuffer(self.index, dtype=torch.int64, count=n, offset=8 * self.some)
        first = max(0, int(torch.searchsorted(some, key)) - 1) * STEP
        near = torch.empty(min(STEP, self.n - first), dtype=torch.int64, device="cpu")
        self.file.fill(near, self.keys + first * near.itemsize)
        return first + int(torch.searchsorted(near, key))

    def take(self, keys: Tensor, tags: Tensor) -> None:
        """Fill these with what comes next."""
        for column, start in ((keys, self.keys), (tags, self.tags)):
            if len(column) and start is not None:
                self.file.fill(column, start + self.read * column.itemsize)
        self.read += len(keys)
