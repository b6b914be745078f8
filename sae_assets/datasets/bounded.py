"""Reading files of others as far as anybody's go: one that takes no room on a disk can say that it has terabytes."""

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TextIO

from sae_assets.errors import DatasetError

MOST_TEXT = 2**27  # bytes of a file that is one text
MOST_HEADER, MOST_LINE = 2**20, 2**25  # characters (or bytes) of the line that names columns, and of any other


class LongLineError(Exception):
    """A line is longer than anybody's."""


def open_file(path: str | Path) -> BufferedReader:
    """Return a file opened for reading; what is none, a pipe would wait for ever and a device never end.

    Raises:
        OSError: it is a pipe, a device or a folder, or as the file system gives it.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (asked for thousands of files)
        raise OSError(errno.EINVAL, "is no file, but a folder, a pipe or a device", str(path))
    return open(path, "rb")  # half the time of `Path`


def read_whole(path: str | Path, most: int) -> bytes:
    """Return the bytes of a file.

    Raises:
        DatasetError: it is larger than ``most``. OSError: as the file system gives it.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise DatasetError(f"{path} has {size:,} bytes, expected {most:,} at most.")
        return file.read()


def lines_of_text(file: TextIO) -> Iterator[str]:
    """Yield lines with their ends. Raises: LongLineError: one, which it numbers, is longer than lines are."""
    number, most = 1, MOST_HEADER
    while line := file.readline(most + 1):
        if len(line) > most:
            raise LongLineError(_long(number, most))
        yield line
        number, most = number + 1, MOST_LINE


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines of bytes with their ends, the first as long as any. Raises: LongLineError, as
    :func:`lines_of_text`."""
    number = 1
    while line := file.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise LongLineError(_long(number, MOST_LINE))
        yield line
        number += 1


def _long(number: int, most: int) -> str:
    return f"line {number} has more than {most:,} characters"
