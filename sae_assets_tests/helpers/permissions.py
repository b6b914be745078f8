"""Folders that may only be read, also where tests run as root, whom permissions do not hold up."""

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION_3, THIS_THREAD = 0x20080522, 0
OVERRIDING = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER (linux/capability.h)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Within, nothing below a folder can be written by this thread and those that it starts."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        with _permissions_hold():
            yield
    finally:
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)


@contextmanager
def _permissions_hold() -> Iterator[None]:
    """Take root's right to pass over permissions from this thread, for a while."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", VERSION_3, THIS_THREAD))
    before = ctypes.create_string_buffer(24)
    assert libc.capget(header, before) == 0
    effective, *rest = struct.unpack("6I", before.raw[:24])
    lowered = ctypes.create_string_buffer(struct.pack("6I", effective & ~OVERRIDING, *rest))
    assert libc.capset(header, lowered) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0
