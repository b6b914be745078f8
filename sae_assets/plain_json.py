"""JSON from files of others: what is nested to exhaust the parser, far too large, or says one thing twice, is an error.

Python's parser raises RecursionError for the first, takes all memory for the second, and of the third takes the last.
"""

import json
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 2**28  # of a configuration or an index; those of the largest published models have a few MB
MOST_KEYS = 8  # that a message names


def parse(text: str | bytes, encoding: str | None = None) -> Any:
    """``json.loads``.

    Args:
        encoding: of bytes; None: the one that they seem to be in.

    Raises:
        ValueError: not JSON, nested too deeply to be anybody's data, or an object names a key twice.
    """
    try:
        text = text.decode(encoding) if encoding and isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_keys_once)
    except UnicodeDecodeError as error:
        raise _no_utf8(error) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        shown = ", ".join(keys[:MOST_KEYS]) + (", …" if len(keys) > MOST_KEYS else "")
        raise ValueError(f"keys are named twice among {shown}")
    return content


def read(path: Path) -> Any:
    """The content of a configuration.

    Raises:
        ValueError: not JSON, nested too deeply, larger than a configuration can be, or no file.
        OSError: as the file system gives it.
    """
    seen = path.stat()
    if not stat.S_ISREG(seen.st_mode):  # a pipe, for which reading would wait
        raise ValueError("it is no file, but a folder, a pipe or a device")
    size = seen.st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, expected {MOST_BYTES:,} at most")
    return parse(path.read_bytes(), encoding="utf-8")


def _no_utf8(error: UnicodeDecodeError) -> ValueError:
    """Return an error without the whole file, which the library's own one carries."""
    return ValueError(f"it is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}); save it as UTF-8")
