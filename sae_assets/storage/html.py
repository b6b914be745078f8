"""Artifacts as HTML: pages, which a browser opens as they lie in the store.

The header is a comment in the second line. Nothing of it can end the comment: JSON has two hyphens in texts alone, and
there the second one is written as an escape.
"""

from collections.abc import Callable
from typing import Any

from sae_assets.artifacts import Artifact
from sae_assets.artifacts.report import DOCTYPE, Report
from sae_assets.errors import StoredFileError
from sae_assets.storage.header import KEY, Header, read_header

KINDS = ("report",)
START, END = f"<!-- {KEY}: ", " -->\n"


def dump(artifact: Artifact, header: Callable[[dict[str, Any]], Header]) -> bytes:
    """The file's bytes; ``header`` makes the header from the scalars, of which a page has none."""
    assert isinstance(artifact, Report)
    comment = header({}).to_json().replace("--", "-\\u002d")
    return f"{DOCTYPE}{START}{comment}{END}{artifact.html.removeprefix(DOCTYPE)}".encode()


def load_file(path: Any) -> tuple[Artifact, Header]:
    """The artifact and header of a file. Raises: as :func:`load`."""
    return load(path.read_bytes(), str(path))


def load(content: bytes, where: str) -> tuple[Artifact, Header]:
    """The artifact and header of a file's bytes.

    Raises:
        StoredFileError: no page of ours, or damaged.
    """
    try:
        doctype, comment, rest = content.decode().split("\n", 2)
    except ValueError:  # not UTF-8, or fewer lines
        raise StoredFileError(f"{where} is no page of sae_assets. Materialize it again.") from None
    header = _header(comment + "\n", where)
    if header.kind not in KINDS:
        raise StoredFileError(f"{where} holds {header.kind!r}, expected one of {', '.join(KINDS)}.")
    return Report(f"{doctype}\n{rest}"), header


def load_header(path: Any) -> Header:
    """The header alone, from the second line."""
    with path.open("rb") as file:
        file.readline()
        return _header(file.readline().decode(errors="replace"), str(path))


def _header(line: str, where: str) -> Header:
    ours = line.startswith(START) and line.endswith(END)
    return read_header(line[len(START) : -len(END)] if ours else None, where)
