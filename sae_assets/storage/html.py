"""Artifacts as HTML: pages, which a browser opens as they lie in the store.

The header is a comment in the second line. Nothing of it can end the comment: JSON has two hyphens in texts alone, and
there the second one is written as an escape. The last line is a comment too, the seal.
"""

from collections.abc import Callable
from typing import Any

from sae_assets.artifacts import Artifact
from sae_assets.artifacts.report import DOCTYPE, Report
from sae_assets.errors import StoredFileError
from sae_assets.storage import seal
from sae_assets.storage.header import KEY, Header, read_header

KINDS = ("report",)
START, END = f"<!-- {KEY}: ", " -->\n"
SEAL = ("<!-- ", " -->\n")


def dump(artifact: Artifact, header: Callable[[dict[str, Any]], Header]) -> bytes:
    """Return the file's bytes; ``header`` makes the header from the scalars, of which a page has none."""
    assert isinstance(artifact, Report)
    comment = header({}).to_json().replace("--", "-\\u002d")
    page = (
        f"{DOCTYPE}{START}{comment}{END}{artifact.html.removeprefix(DOCTYPE)}{SEAL[0]}{seal.blank(seal.FILE)}{SEAL[1]}"
    )
    content = bytearray(page.encode())
    seal.seal(memoryview(content))
    return bytes(content)


def load_file(path: Any) -> tuple[Artifact, Header]:
    """Return the artifact and header of a file. Raises: as :func:`load`."""
    return load(path.read_bytes(), str(path))


def load(content: bytes, where: str) -> tuple[Artifact, Header]:
    """Return the artifact and header of a file's bytes.

    Raises:
        StoredFileError: no page of ours, or a damaged one.
    """
    try:
        doctype, comment, rest = content.decode().split("\n", 2)
    except ValueError:  # not UTF-8, or fewer lines
        raise StoredFileError(f"{where} is no page of sae_assets. Materialize it again.") from None
    header = _header(comment + "\n", where)
    seal.check(content, where, sealed=header.sealed)
    if header.kind not in KINDS:
        raise StoredFileError(f"{where} holds {header.kind!r}, expected one of {', '.join(KINDS)}.")
    if header.sealed:
        rest = rest[: -len(SEAL[0] + seal.blank(seal.FILE) + SEAL[1])]
    return Report(f"{doctype}\n{rest}"), header


def load_header(path: Any) -> Header:
    """Return the header; reads the file, whose seal is over all of it. Raises: as :func:`load`."""
    return load_file(path)[1]


def _header(line: str, where: str) -> Header:
    ours = line.startswith(START) and line.endswith(END)
    return read_header(line[len(START) : -len(END)] if ours else None, where)
