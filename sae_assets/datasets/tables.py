"""Reading CSV tables and saying what is wrong with them: all problems at once, with line numbers and nearest names.

Shared by every layout. What the columns mean is each layout's business; records are built in ``records``.
"""

import csv
import difflib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sae_assets.datasets.bounded import LongLineError, lines_of_text
from sae_assets.datasets.dialect import Dialect, Doubts
from sae_assets.errors import DatasetError
from sae_assets.wording import alike, looks

Version = tuple[str, int, int, str]

MOST_SHOWN = 20
PLAIN = Dialect()
SEPARATORS = (";", "\t", "|", ",")
YOUNG = 2_000_000_000  # ns
MOST_DIGESTED = 2**27  # bytes
ZEROS_AND_ONES = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
FIELD_LIMIT = 2**27  # characters of one cell; the csv module's own limit of 131,072 is too small for long texts


def read_csv(
    name: str, table: Path, needed: Sequence[str], dialect: Dialect = PLAIN, *, ragged: list[str] | None = None
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns of a CSV file (UTF-8, a byte order mark is no part of the first column), and its rows with their lines.

    Args:
        name: the data set's, for messages.
        needed: columns that must be there, once each.
        dialect: as the catalog has it; without a separator a comma, in .tsv files a tab.
        ragged: takes what is wrong with rows of another number of cells than the header, or that can be read in two
            ways, which are then left out; None: they are refused.

    Raises:
        DatasetError: no such file, not CSV, columns missing (with the nearest name) or named twice, no rows, or rows of
            more or fewer cells than the header or that can be read in two ways.
    """
    if not table.is_file():
        raise DatasetError(f"Data set {name!r}: {table} does not exist; one row per example is expected there.")
    limit = csv.field_size_limit(FIELD_LIMIT)
    separator = dialect.separator or ("\t" if table.suffix.lower() == ".tsv" else ",")
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[tuple[int, str]] = []
    doubts, escape = Doubts(dialect, separator), "\\" if dialect.backslashes == "escape" else None
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            record: list[str] = []  # the lines of the row that is read
            source_lines = _record_lines(lines_of_text(file), record)
            reader = csv.reader(source_lines, strict=True, delimiter=separator, escapechar=escape)
            columns = next(reader, [])
            _expect_separator(name, table, columns, separator)
            check_columns(name, table, columns, needed)
            doubts.end_of_row("".join(record))
            record.clear()
            for cells in reader:
                raw, line = "".join(record), reader.line_num
                record.clear()
                wrong = doubts.end_of_row(raw)
                if not wrong and "\\" in raw:
                    wrong = doubts.backslashes(line, raw, cells)
                if not wrong and cells and len(cells) != len(columns):  # an empty line is no row
                    wrong = _ragged(cells, columns, separator)
                if wrong:
                    problems.append((line, wrong))
                elif cells:
                    rows.append((line, dict(zip(columns, cells, strict=True))))
    except (csv.Error, UnicodeDecodeError, LongLineError) as error:
        raise DatasetError(f"Data set {name!r}: {table} is not readable CSV (UTF-8): {error}") from None
    finally:
        csv.field_size_limit(limit)
    rest = doubts.rest()
    rows = [(line, row) for line, row in rows if line not in rest] if rest else rows
    messages = [f"line {line}: {wrong}" for line, wrong in sorted({**rest, **dict(problems)}.items())]
    if ragged is None:
        raise_problems(name, table, messages)
    else:
        ragged += messages
    if not rows and not messages:
        raise DatasetError(f"Data set {name!r}: {table} has a header but no examples.")
    return columns, rows


def _record_lines(lines: Iterator[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


def _expect_separator(name: str, table: Path, columns: Sequence[str], separator: str) -> None:
    """Refuse a header of one column that another separator would cut into several."""
    if not columns:
        raise DatasetError(f"Data set {name!r}: {table} has no columns: its first line, which names them, is empty.")
    if columns[0].startswith("sep="):
        raise DatasetError(
            f"Data set {name!r}: the first line of {table} is {columns[0]!r}, which spreadsheets write in front of the "
            "header; remove that line."
        )
    for other in SEPARATORS if len(columns) == 1 else ():
        if other != separator and other in columns[0]:
            raise DatasetError(
                f"Data set {name!r}: {table} has one column, {columns[0]!r}; its separator seems to be {other!r}. Set "
                f"`separator: {json.dumps(other)}` in the data set's entry of the catalog."
            )


def _ragged(cells: Sequence[str], columns: Sequence[str], separator: str) -> str:
    count = f"{len(cells)} cell{'s' * (len(cells) != 1)}"
    cause = f"cells that hold {separator!r} must be quoted" if len(cells) > len(columns) else "the rest is missing"
    for other in SEPARATORS:
        if other != separator and separator.join(columns).count(other) == separator.join(cells).count(other) > 0:
            cause = f"the separator seems to be {other!r}: `separator: {json.dumps(other)}` in the catalog says so"
    return f"{count}, the header has {len(columns)}; {cause} (it ends with {cells[-1][:40]!r})"


def check_columns(
    name: str, table: Path, columns: Sequence[str], needed: Sequence[str], *, split_column: str = "split"
) -> None:
    """Check that a table has each of these columns, and no two columns of one name, of which one would be taken, nor
    another one that looks like a needed one.

    Raises:
        DatasetError: columns are missing, named twice, or look alike; all are listed.
    """
    missing = [column for column in needed if column not in columns]
    if missing:
        raise DatasetError(
            f"Data set {name!r}: {table} lacks {len(missing)} column(s):",
            [missing_column(column, columns, split_column) for column in missing],
        )
    twice = sorted(column for column, count in Counter(map(str.strip, columns)).items() if count > 1 and column)
    if twice:
        raise DatasetError(f"Data set {name!r}: {table} names columns twice: {', '.join(twice)}.")
    sought = set(map(looks, needed))
    if same := alike([*needed, *(column for column in columns if looks(column) in sought)]):
        raise DatasetError(f"Data set {name!r}: {table} has columns that look alike: {', '.join(same)}; rename one.")


def missing_column(column: str, columns: Sequence[str], split_column: str = "split") -> str:
    """Return one line about a column that is missing."""
    advice = ""
    if column == split_column:
        advice = "; add it (train, cal or test), or let `split` in the catalog draw the splits by example id"
    return f"{column!r} not found among {', '.join(columns) or 'no columns'}{nearest(column, columns)}{advice}"


def nearest(word: str, words: Sequence[str]) -> str:
    """``; did you mean …?`` if a known word is near, else an empty string."""
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def zero_or_one(value: object) -> int | None:
    """Return 0 or 1 in the spellings that tables use; None for anything else."""
    if isinstance(value, str):
        return ZEROS_AND_ONES.get(value.lower())
    return int(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def path_problems(column: str, path: object) -> Iterator[str]:
    """Yield what is wrong with a path in a table: it must be relative and stay inside the data set's folder."""
    text = path if isinstance(path, str) else ""
    if not text or text.startswith("/") or ".." in text.split("/") or "\\" in text:
        yield f"column {column!r}: found {path!r}, expected a path inside the data set's folder"


def missing_file(column: str, path: str, root: Path) -> Iterator[str]:
    """Yield a problem if a path in a table names no file, else nothing."""
    if not os.path.isfile(os.path.join(root, path)):  # noqa: PTH113 (asked for each of many rows)
        yield f"column {column!r}: file {path!r} does not exist in {root}"


def raise_problems(name: str, table: Path, problems: Sequence[str]) -> None:
    """Raise the problems as one error, if there are any.

    Raises:
        DatasetError: there are problems; the first ones are listed, with the number of the rest.
    """
    if problems:
        lines = list(problems[:MOST_SHOWN])
        if len(problems) > MOST_SHOWN:
            lines.append(f"… and {len(problems) - MOST_SHOWN} more")
        raise DatasetError(f"Data set {name!r}: {table} has {len(problems)} problem(s):", lines)


class LastMade:
    """Keeps the last thing made until another is asked for, since tables are large and used one at a time."""

    def __init__(self) -> None:
        self._held: tuple[Hashable, Any] | None = None

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The last thing made, if it was made under this key; otherwise make it now."""
        if self._held is None or self._held[0] != key:
            self._held = None  # freed before the next one is made
            self._held = (key, make())
        return self._held[1]


def version_of(file: Path) -> Version:
    """Names a file or folder as it is now: parsed tables are kept in memory under it, and read again once it changed.

    Of one written just now the contents count too: the clock of a file system stands still between ticks, for long
    ones on a busy virtual machine, so that a file written twice can keep its time, and its size as well.
    """
    stat = file.stat()
    young = time.time_ns() - stat.st_mtime_ns < YOUNG
    return str(file), stat.st_mtime_ns, stat.st_size, _digest(file) if young else ""


def _digest(path: Path) -> str:
    """Hash a file's bytes (of a huge one, which nobody writes twice in a moment, the first ones), or the names in a
    folder.
    """
    if path.is_dir():
        return hashlib.sha256("\n".join(sorted(os.listdir(path))).encode()).hexdigest()  # noqa: PTH208
    if not path.is_file():  # a pipe, which whoever reads it refuses
        return ""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(MOST_DIGESTED)).hexdigest()
