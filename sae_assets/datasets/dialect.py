"""CSV tables are written in several ways, and their writer may have meant another one than is read.

Some writers put a backslash in front of a backslash, a quote or a separator, others mean a backslash by one; and some
leave a carriage return in a cell without quotes, where it ends the line. What can be either is a problem.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from sae_assets.catalog import Dataset


ESCAPED = '\\"'
RUN = re.compile(r"\\+")
NULL = "\\N"  # what databases write where there is no value
DECLARE = "say `backslashes: literal` or `backslashes: escape` in the data set's entry of the catalog"


class Dialect(NamedTuple):
    """The catalog gives a CSV table's separator (None: by the file's name), and says what a backslash means."""

    separator: str | None = None
    backslashes: Literal["literal", "escape"] | None = None

    @classmethod
    def of(cls, entry: "Dataset") -> "Dialect":
        return cls(entry.separator, entry.backslashes)


class Doubts:
    """Collects what can be read in two ways, row by row.

    Args:
        dialect: as the catalog has it; separator: between cells.
    """

    def __init__(self, dialect: Dialect, separator: str):
        self._meaning, self._special = dialect.backslashes, {'"', "\r", "\n", separator}
        self._unknown = re.compile(rf'(?:\\[\\"\r\n{re.escape(separator)}])|(\\.?)')
        self._end: str | None = None
        self._literal = False
        self._doubtful: dict[int, str] = {}

    def end_of_row(self, raw: str) -> str:
        """Return what is wrong with the end of a row, given as the file has it, the header first; empty if nothing
        is."""
        end = "\r\n" if raw.endswith("\r\n") else raw[-1:] if raw.endswith(("\r", "\n")) else ""
        if self._end is None:
            self._end = end
        if end in ("", self._end) or (self._end, end) == ("\r\n", "\n"):
            return ""
        return (
            f"it ends with {end!r}, the header with {self._end!r}: a cell without quotes may hold a carriage return; "
            "put it between quotes, or end all lines alike"
        )

    def backslashes(self, line: int, raw: str, cells: Sequence[str]) -> str:
        """Return what is wrong with a row in which there is a backslash; empty if nothing is, or :meth:`rest` will
        tell."""
        if self._meaning == "literal":
            return ""
        if self._meaning == "escape":
            unknown = next(filter(None, (match[1] for match in self._unknown.finditer(raw))), None)
            return f"{unknown} is no escaped backslash, quote, separator or end of a line" if unknown else ""
        if ESCAPED in raw and any(
            ESCAPED in cell and '"{}"'.format(cell.replace('"', '""')) not in raw for cell in cells
        ):
            return f"{ESCAPED} may be an escaped quote or a backslash and a quote; {DECLARE}"
        for index, cell in enumerate(cells):
            for stretch, following in self._stretches(cell):
                if not following and index == len(cells) - 1 and raw.rstrip("\r\n").endswith(stretch):
                    following = "\n"  # of a cell without quotes
                self._literal |= len(stretch) % 2 == 1 and following not in {"", "0", *self._special} and cell != NULL
                if len(stretch) > 1 or following in self._special - {'"'} or cell == NULL:
                    self._doubtful.setdefault(line, cell if cell == NULL else stretch)
        return ""

    @staticmethod
    def _stretches(cell: str) -> Iterator[tuple[str, str]]:
        """Yield backslashes that stand together, and the character behind them."""
        for match in RUN.finditer(cell):
            yield match[0], cell[match.end() : match.end() + 1]

    def rest(self) -> dict[int, str]:
        """Return by line what is wrong with rows, once all have been seen.

        A lone backslash in front of any other character shows that none of them escapes anything.
        """
        if self._literal:
            return {}
        return {
            line: f"{shown} may escape what is behind it, or stand for itself; {DECLARE}"
            for line, shown in self._doubtful.items()
        }
