"""Tensors that may be larger than memory, in temporary files: mapped from one, or one after another in one."""

import io
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

IN_MEMORY = 2**22  # elements up to which a tensor is an ordinary one


def scratch(n: int, dtype: torch.dtype) -> Tensor:
    """A tensor [n] on the CPU of any content, mapped from a file, to which the system moves what has no room.

    The file lies in the folder of temporary files and goes with it.
    """
    if n <= IN_MEMORY:
        return torch.empty(n, dtype=dtype, device="cpu")
    with tempfile.TemporaryDirectory(prefix="sae-assets-") as folder:  # what is mapped stays when its name is gone
        path = Path(folder) / "tensor"
        return torch.from_file(str(path), shared=True, size=n, dtype=dtype, device="cpu")


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

    def read(self, start: int, n: int) -> bytes:
        """``n`` bytes from there on."""
        self._file.seek(start)
        return self._file.read(n)
