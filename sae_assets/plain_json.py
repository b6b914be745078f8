"""JSON from files of others: what is nested to exhaust the parser, or far too large, is an error like any other.

Python's parser raises RecursionError for the one and takes all memory for the other.
"""

import json
from pathlib import Path
from typing import Any

MOST_BYTES = 2**28  # of a configuration or an index; those of the largest published models have a few MB


def parse(text: str | bytes, **options: Any) -> Any:
    """``json.loads``.

    Raises:
        ValueError: not JSON, or nested too deeply to be anybody's data.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read(path: Path) -> Any:
    """The content of a configuration.

    Raises:
        ValueError: not JSON, nested too deeply, or larger than a configuration can be.
        OSError: as the file system gives it.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes, expected {MOST_BYTES:,} at most")
    return parse(path.read_text(encoding="utf-8"))
