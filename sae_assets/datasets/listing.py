"""Examples listed in a table of any format. The catalog's ``columns`` says what the columns mean.

``table``, ``spans`` and ``huggingface`` open their formats as a :class:`Listing`; its readers live in
``listing_reader``. Small cells are in memory; cells with whole images are fetched when asked for.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sae_assets.catalog import Dataset
from sae_assets.datasets.records import Record, RecordList
from sae_assets.datasets.tables import check_columns
from sae_assets.errors import DatasetError
from sae_assets.wording import looks, spelt


@dataclass(frozen=True)
class Line:
    """One line of a table: its origin as messages name it ("line 3"), its default id, its small cells."""

    origin: str
    number: str
    cells: Mapping[str, Any]


def nothing_big(index: int, column: str) -> Any:
    """``fetch`` of tables whose cells are all small."""
    raise KeyError((index, column))


@dataclass(frozen=True)
class Listing:
    """A table of examples.

    Attributes:
        source: the file or folder that messages name; base: the folder that paths in it start from.
        classes: names of the classes behind numbers, by column.
        big: columns of images as bytes; ``fetch(index in lines, column)`` gives one of their cells.
        remarks: what is odd in the files and keeps nothing from being made.
    """

    source: Path
    base: Path
    columns: Sequence[str]
    lines: Sequence[Line]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    big: frozenset[str] = frozenset()
    fetch: Callable[[int, str], Any] = nothing_big
    remarks: Sequence[str] = ()


def content_column(listing: Listing, named: str, default: str) -> str:
    """Return the column of images or texts: as the catalog names it; by default that of paths where there is no
    other."""
    return f"{default}_path" if named == default and default not in listing.columns else named


def list_records(
    entry: Dataset,
    listing: Listing,
    content: str,
    *,
    paths: bool,
    read: Callable[[int, Line], tuple[Sequence[int | None], list[str]]],
    misspelt: Callable[[], list[str]],
) -> list[Record]:
    """List the records in the order of the lines.

    Args:
        content: the column of images or texts; ``paths``: whether it holds paths (ids are then file stems).
        read: labels of a line and the problems of its cells; misspelt: what only the whole table tells.

    Raises:
        DatasetError: the table has problems; every one is named with its origin.
    """
    columns = entry.columns
    needed = [content, *([columns.split] if entry.split is None else []), *([columns.id] if columns.id else [])]
    check_columns(entry.name, listing.source, listing.columns, needed, split_column=columns.split)
    records = RecordList(entry.name, listing.source, entry.split)
    for position, line in enumerate(listing.lines):
        cell = line.cells.get(content)
        path = cell if paths and isinstance(cell, str) else listing.source.name
        labels, problems = read(position, line)
        example = PurePosixPath(path).stem if paths else line.number
        if columns.id:
            identifier = line.cells.get(columns.id)
            example = str(identifier) if _is_id(identifier) else ""
            problems += [] if example else [f"column {columns.id!r}: found {identifier!r}, expected an id"]
        records.add(line.origin, example, path, line.cells.get(columns.split), labels, problems)
    records.problems += misspelt()
    return records.finish()


def _is_id(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return not isinstance(value, (bool, list, tuple, dict)) and value is not None and bool(str(value).strip())


def expect_no_lookalike(entry: Dataset, listing: Listing, optional: Sequence[str]) -> None:
    """Refuse a column that looks like one that need not be there, and would be passed over where that one is taken.

    Raises:
        DatasetError: there is one.
    """
    sought = {looks(column): column for column in optional}
    other = [column for column in listing.columns if looks(column) in sought and column not in optional]
    if other:
        raise DatasetError(
            f"Data set {entry.name!r}: {listing.source} has a column {spelt(other[0])}, which looks like "
            f"{sought[looks(other[0])]!r} and is not read; rename it, or name it by `columns` in the catalog."
        )


def odd_columns(listing: Listing, optional: Sequence[str]) -> list[str]:
    """Return what ``inspect`` says of columns that need not be there: those whose name is nearly one's, and those that
    only some lines have.
    """
    lacking = {column: sum(column not in line.cells for line in listing.lines) for column in optional}
    partly = [
        f"{count:,} of {len(listing.lines):,} examples have no {column!r}, which others have"
        for column, count in lacking.items()
        if column in listing.columns and count
    ]
    return partly + [
        f"column {other!r} is not read; is it {column!r}?"
        for column in optional
        for other in difflib.get_close_matches(
            column, [name for name in listing.columns if name not in optional], 2, 0.85
        )
    ]
