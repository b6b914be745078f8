"""The seal of a stored file: a sha256 over all of its bytes, so that nothing that is read can change unnoticed.

It stands in the file itself, near its end, behind a mark; what is hashed is the file with zeros in place of the digest.
Parquet has a second one over its footer alone, for readers of a header or of a few row groups: pages carry checksums of
their own there. Files of earlier versions have none, and are read as they are; a header says that there is one.
"""

import hashlib
import mmap
import os
from collections.abc import Iterable
from typing import BinaryIO

from sae_assets.errors import StoredFileError

FILE, FOOTER = b"sae_assets_seal:", b"sae_assets_footer_seal:"
BLANK = b"0" * 64
FOOTER_END = 8  # bytes behind the footer of Parquet: its length, and four letters
LAST = 512  # bytes at the end of other files that hold the seal


def blank(mark: bytes) -> str:
    """Return a seal that is not filled in yet."""
    return (mark + BLANK).decode()


def seal(content: memoryview) -> None:
    """Fill in the seals of a finished file, in its own memory."""
    start = _tail(content)
    tail = bytes(content[start:])
    places = {mark: start + offset for mark in (FOOTER, FILE) if (offset := _place(tail, mark)) is not None}
    if FOOTER in places:
        _fill(content, places[FOOTER], _digest(content, start, places.values()))
    _fill(content, places[FILE], _digest(content, 0, [places[FILE]]))


def seal_file(file: BinaryIO) -> None:
    """The same for a file that may be larger than memory, opened for reading and writing."""
    file.flush()
    with mmap.mmap(file.fileno(), 0) as mapped, memoryview(mapped) as content:
        seal(content)
        mapped.flush()


def check(content: bytes | memoryview, where: str, *, sealed: bool) -> None:
    """See that a whole file is as it was written.

    Args:
        sealed: what its header says; a file of an earlier version has no seal, and nothing is looked at then.

    Raises:
        StoredFileError: it is not.
    """
    view = memoryview(content)
    first = _tail(view)
    _check(view, first, bytes(view[first:]), FILE, where, sealed)


def check_footer(tail: bytes, where: str, *, sealed: bool) -> None:
    """See that the footer of Parquet, given up to the end of the file, is as it was written. Raises: the same."""
    _check(memoryview(tail), 0, tail, FOOTER, where, sealed)


def mapped(path: str) -> memoryview:
    """The bytes of a local file, not read before they are looked at; the file is closed when nobody does any more."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # nothing cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _check(content: memoryview, first: int, tail: bytes, mark: bytes, where: str, sealed: bool) -> None:
    """Compare with the seal behind ``mark``; ``tail`` is the content from ``first`` on, where the seals are."""
    offset = _place(tail, mark)
    if offset is None:
        if sealed:
            raise StoredFileError(f"{where} is damaged: its seal is not there.")
        return
    others = [] if mark == FILE else [other for other in (_place(tail, FILE),) if other is not None]
    recorded = tail[offset : offset + len(BLANK)].decode("ascii", "replace")
    expected = _digest(content, 0, [first + each for each in (offset, *others)])
    if recorded != expected:
        raise StoredFileError(f"{where} is damaged: its bytes hash to {expected[:12]}, its seal says {recorded[:12]}.")


def _tail(content: memoryview) -> int:
    """Return where the part begins that holds the seals: the footer of Parquet, the last bytes of other files."""
    if bytes(content[-4:]) == b"PAR1":
        length = int.from_bytes(content[-FOOTER_END:-4], "little")
        if length <= len(content) - FOOTER_END:
            return len(content) - FOOTER_END - length
    return max(0, len(content) - LAST)


def _place(tail: bytes, mark: bytes) -> int | None:
    """Return where the digest behind the last mark begins; None without one. (Data may hold marks too, but further
    up.)"""
    start = tail.rfind(mark)
    offset = start + len(mark)
    return None if start < 0 or len(tail) < offset + len(BLANK) else offset


def _digest(content: memoryview, start: int, blanks: Iterable[int]) -> str:
    """Return sha256 from ``start`` on, zeros in place of the digests at these places."""
    digest = hashlib.sha256()
    for offset in sorted(blanks):
        digest.update(content[start:offset])
        digest.update(BLANK)
        start = offset + len(BLANK)
    digest.update(content[start:])
    return digest.hexdigest()


def _fill(content: memoryview, offset: int, digest: str) -> None:
    content[offset : offset + len(BLANK)] = digest.encode()
