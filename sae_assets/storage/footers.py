"""Headers out of the footers of Parquet files, without pyarrow: for who asks what there is and reads no column.

A footer is Thrift's compact protocol, in which a name and its value stand behind one another, each behind its length.
Its seal covers all of it, so nothing else of it has to be parsed. What is not as it is written now is pyarrow's.
"""

import io
from collections.abc import Mapping
from typing import Any

from upath import UPath

from sae_assets import storage
from sae_assets.storage import seal
from sae_assets.storage.atomic import is_local
from sae_assets.storage.header import KEY, Header, read_header, states

MOST_FOOTERS = 2**14  # bytes at the end of a file that hold the footer of most, got by one read
TEXT = 0x18  # in front of a field of text that follows the field before it
NAME = bytes([TEXT, len(KEY)]) + KEY.encode() + bytes([TEXT])


def load_header(path: UPath) -> Header:
    """Return the header alone. Raises: as :func:`sae_assets.storage.parquet.load`."""
    where, footer = str(path), read_footer(path)
    text = _stated(footer)
    header = None if text is None else read_header(text, where)
    if header is None or not header.sealed:
        return storage.parquet.load_header(path)
    seal.check_footer(footer, where, sealed=True)
    return header


def has_content(path: UPath, content_hash: str, fields: Mapping[str, Any]) -> bool:
    """Return whether a file's header is of this content and place; False where only :func:`load_header` can tell.

    Raises:
        StoredFileError: the footer is not as it was written.
    """
    footer = read_footer(path)
    if not states(footer, content_hash, fields):
        return False
    seal.check_footer(footer, str(path), sealed=True)
    return True


def read_footer(path: UPath) -> bytes:
    """Return the footer of a file and what stands behind it."""
    with open(path.path, "rb", buffering=0) if is_local(path) else path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - MOST_FOOTERS))
        tail = file.read()
        length = int.from_bytes(tail[-seal.FOOTER_END : -4], "little") + seal.FOOTER_END
        if length > len(tail):
            file.seek(max(0, size - length))
            tail = file.read()
    return tail[-length:]


def _stated(footer: bytes) -> bytes | None:
    """The text behind the last such name (statistics of columns stand further up); None where there is none."""
    start = footer.rfind(NAME)
    if start < 0:
        return None
    start, length, shift = start + len(NAME), 0, 0
    for byte in footer[start : start + 5]:  # the length, seven bits in each byte, the lowest ones first
        start, length, shift = start + 1, length | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return footer[start : start + length]
    return None
