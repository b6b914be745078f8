"""The spans layout: JSON lines with ``text`` and ``spans``, one file or all ``*.jsonl`` of a folder.

A span is ``{"start": …, "end": …, "label": …}`` or ``[start, end, label]``, in characters unless the catalog says what
offsets count; a span's own ``text`` must be what stands there. ``labels`` lists concepts
that are true without a span; ``id`` and ``split`` are optional as the catalog says.
"""

import codecs
from pathlib import Path

from sae_assets import plain_json
from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.bounded import LongLineError, lines_of, open_file
from sae_assets.datasets.listing import Line, Listing
from sae_assets.datasets.listing_reader import TEXTS_LOCATED, open_listing
from sae_assets.datasets.reader import Reader
from sae_assets.datasets.tables import raise_problems
from sae_assets.errors import DatasetError


def open_spans(entry: Dataset) -> Reader:
    """Return the reader of JSON lines.

    Raises:
        DatasetError: there is no such file, or lines are not JSON objects or hold wrong values (all are listed).
    """
    name, root = entry.name, Path(entry.root)
    files = sorted(root.glob("*.jsonl")) if root.is_dir() else [root]
    if not files or not files[0].is_file():
        missing = f"no *.jsonl in {root}" if root.is_dir() else f"{root} does not exist"
        raise DatasetError(f"Data set {name!r}: {missing}; JSON lines with `text` and `spans` are expected there.")
    base = root if root.is_dir() else root.parent
    return open_listing(entry, [base, *files], lambda: _read(name, files, root, base))


def _read(name: str, files: list[Path], root: Path, base: Path) -> Listing:
    lines: list[Line] = []
    columns: dict[str, None] = {}
    problems: list[str] = []
    for file in files:
        before = f"{file.name} " if len(files) > 1 else ""
        try:
            with open_file(file) as opened:
                contents = [*lines_of(opened)]
        except (LongLineError, OSError) as error:
            raise DatasetError(f"Data set {name!r}: {file} is not readable as JSON lines: {error}.") from None
        for number, content in enumerate(contents, start=1):
            content = content.removeprefix(codecs.BOM_UTF8) if number == 1 else content
            if not content.strip():
                continue
            origin = f"{before}line {number}"
            try:
                cells = plain_json.parse(content.decode("utf-8"))
            except ValueError as error:
                problems.append(f"{origin}: not JSON (UTF-8): {error}")
                continue
            if not isinstance(cells, dict):
                problems.append(f"{origin}: found {type(cells).__name__}, expected an object with `text` and `spans`")
                continue
            columns |= dict.fromkeys(cells)
            lines.append(Line(origin, f"{file.stem}-{number}" if len(files) > 1 else str(number), cells))
    source = files[0] if len(files) == 1 else root
    raise_problems(name, source, problems)
    if not lines:
        raise DatasetError(f"Data set {name!r}: {source} has no examples.")
    return Listing(source, base, list(columns), lines)


LAYOUT = Layout(
    name="spans",
    modalities=("text",),
    expected="JSON lines with `text` and `spans`: a .jsonl file, or a folder of them",
    open=open_spans,
    takes=("columns",),
    located=TEXTS_LOCATED,
    split_place="by key {column!r} of the JSON lines",
)
