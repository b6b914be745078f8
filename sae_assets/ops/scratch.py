"""Tensors that may be larger than memory, in temporary files: mapped from one, or one after another in one."""

import contextlib
import io
import math
import mmap
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

IN_MEMORY = 2**18  # elements up to which a tensor is an ordinary one
LARGE = 2**24  # bytes of a tensor that gets large pages


def scratch(n: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor [n] on the CPU of any content, mapped from a file, to which the system moves what has no room.

    The file lies in the folder of temporary files and goes with it.
    """
    if n <= IN_MEMORY:
        return torch.empty(n, dtype=dtype, device="cpu")
    with tempfile.TemporaryDirectory(prefix="sae-assets-") as folder:  # what is mapped stays when its name is gone
        path = Path(folder) / "tensor"
        return torch.from_file(str(path), shared=True, size=n, dtype=dtype, device="cpu")


class ScratchColumn:
    """A tensor [n] that is filled from its beginning, part by part; what is filled of a large one lies in a file.

    A mapped tensor counts as memory of the process once it was written to, as long as the system has room; a file that
    was written does not.

    Raises:
        OSError: as of :class:`ScratchFile`.
    """

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device | str):
        self._n, self._filled, self._dtype = n, 0, dtype
        self._file = ScratchFile() if n > IN_MEMORY and torch.device(device).type == "cpu" else None
        self._whole = None if self._file else torch.empty(n, dtype=dtype, device=device)

    def append(self, part: Tensor) -> None:
        """Fill what comes next."""
        if self._whole is not None:
            self._whole[self._filled : self._filled + len(part)] = part
        elif self._file is not None:
            self._file.append(part)
        self._filled += len(part)

    def tensor(self) -> Tensor:
        """Return the tensor, which is full."""
        if self._file is None:
            assert self._whole is not None and self._filled == self._n
            return self._whole
        return self._file.mapped(self._n, self._dtype)


class GrowingColumn:
    """A tensor that is filled part by part, on the CPU, of a length that is not known before; in a file if it is large.

    Raises:
        OSError: as of :class:`ScratchFile`.
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype, self._n = dtype, 0
        self._parts: list[Tensor] = []
        self._file: ScratchFile | None = None

    def append(self, part: Tensor) -> None:
        """Add what comes next."""
        self._n += len(part)
        self._parts.append(part.to(self.dtype))
        if self._file is None and self._n > IN_MEMORY:
            self._file = ScratchFile()
        if self._file is not None:
            for each in self._parts:
                self._file.append(each)
            self._parts.clear()

    def tensor(self) -> Tensor:
        """Return all of it; of a large one, what is looked at is read from its file."""
        if self._file is not None:
            return self._file.mapped(self._n, self.dtype)
        return torch.cat([torch.empty(0, dtype=self.dtype, device="cpu"), *self._parts])


def zeros(*shape: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Return ``torch.zeros``; a large one on the CPU in large pages where the system has them, as each first touch of
    one of 4 KiB takes a microsecond."""
    large = _in_large_pages(shape, dtype) if torch.device(device).type == "cpu" else None
    return torch.zeros(*shape, dtype=dtype, device=device) if large is None else large


def empty(n: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor [n] on the CPU of any content, which the system gives as it is written to; a large one as
    ``zeros``."""
    large = _in_large_pages((n,), dtype)
    return torch.empty(n, dtype=dtype, device="cpu") if large is None else large


def contiguous(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in this type and contiguous: itself if it is, else a copy; a large one on the CPU as ``zeros``."""
    if tensor.device.type != "cpu" or (tensor.dtype == dtype and tensor.is_contiguous()):
        return tensor.to(dtype).contiguous()
    return empty(tensor.numel(), dtype).view(tensor.shape).copy_(tensor)


def _in_large_pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """Return zeros, if these are many and the system has such pages."""
    n = math.prod(shape) * dtype.itemsize
    if n < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    content = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a system without large pages
        content.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(content, dtype=dtype).view(shape)


class ScratchFile:
    """Tensors one after another, in the folder of temporary files; the file goes with this object.

    Raises:
        OSError: it cannot be written, with the folder's name, since a full disk names none.
    """

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="sae-assets-")  # noqa: SIM115 (it goes with this object)
        weakref.finalize(self, self._file.close)

    def append(self, tensor: Tensor) -> int:
        """Add a tensor on the CPU; the byte from which on it stands there."""
        try:
            start = self._file.seek(0, io.SEEK_END)
            if tensor.numel():
                self._file.write(tensor.contiguous().numpy().data)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (another folder: TMPDIR)", tempfile.gettempdir()) from None
        return start

    def fill(self, tensor: Tensor, start: int) -> None:
        """Fill a contiguous tensor on the CPU with what stands there from a byte on."""
        if tensor.numel():
            self._file.seek(start)
            self._file.readinto(tensor.view(-1).numpy().data.cast("B"))  # type: ignore[attr-defined]

    def mapped(self, n: int, dtype: torch.dtype) -> Tensor:
        """Return its first ``n`` elements, which are read when they are looked at; they stay when this object goes."""
        self._file.flush()
        content = mmap.mmap(self._file.fileno(), n * dtype.itemsize, access=mmap.ACCESS_COPY)
        tensor = torch.frombuffer(content, dtype=dtype)
        _MAPPED[tensor.data_ptr()] = content
        return tensor


_MAPPED: "weakref.WeakValueDictionary[int, mmap.mmap]" = weakref.WeakValueDictionary()  # by the first byte's address


def let_go(*tensors: Tensor) -> None:
    """Let the system take back the memory of tensors that are mapped from a file and as they were read: it is read
    again when somebody looks. Of other tensors, and where the system cannot, nothing happens."""
    for tensor in tensors:
        content = _MAPPED.get(tensor.data_ptr())
        if content is not None and hasattr(mmap, "MADV_DONTNEED"):
            content.madvise(mmap.MADV_DONTNEED)
