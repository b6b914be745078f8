"""One example as a data set describes it, and building the list of all of them with its checks.

Shared by every layout; where images, masks and texts lie is each reader's business.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from sae_assets.artifacts import SPLITS
from sae_assets.catalog import Dataset, SeededSplit
from sae_assets.catalog.registry import layouts
from sae_assets.datasets.dialect import Dialect
from sae_assets.datasets.tables import (
    MOST_SHOWN,
    Version,
    path_problems,
    raise_problems,
    read_csv,
    version_of,
    zero_or_one,
)
from sae_assets.errors import DatasetError
from sae_assets.wording import is_plain

__all__ = ["MOST_SHOWN", "Record", "RecordList", "draw_split", "read_metadata", "split_advice"]

MOST_ORIGINS = 5  # origins to name for one problem that occurs in many


@dataclass(frozen=True)
class Record:
    """One example: id, path relative to the root (of its file, or of the table that holds it), split, labels.

    ``origin`` is where the example comes from, as messages name it ("line 3").
    """

    example_id: str
    path: str
    split: str
    labels: tuple[bool, ...]
    origin: str = field(default="", compare=False)


def draw_split(split: SeededSplit, example_id: str) -> str:
    """Return the split of an example, drawn from the seed and its id alone, so that new data never move an example."""
    digest = hashlib.sha256(f"{split.seed}:{example_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    shares = [(name, share) for name in SPLITS if (share := getattr(split, name)) > 0]
    for name, share in shares[:-1]:
        if point < share:
            return name
        point -= share
    return shares[-1][0]


def split_advice(entry: Dataset) -> str:
    """Return advice on how a data set gets calibration examples, which names where its layout keeps an example's
    split."""
    if entry.split is not None:
        return "raise the share `split.cal` in the catalog, or add examples (splits are drawn by example id)"
    where = layouts()[entry.layout].split_place.format(column=entry.columns.split)
    return f"mark some examples 'cal' {where}, or let `split` in the catalog draw the splits"


class RecordList:
    """Collects records and problems of one table, so that all problems are raised together."""

    def __init__(self, name: str, source: Path, split: SeededSplit | None):
        self.problems: list[str] = []  # those of the whole table
        self._origins_by_problem: dict[str, list[str]] = {}
        self.records: list[Record] = []
        self._name, self._source, self._split = name, source, split
        self._origins_by_id: dict[str, list[str]] = {}

    def add(
        self,
        origin: str,
        example_id: str,
        path: str,
        split: object,
        labels: Sequence[int | None],
        cell_problems: Sequence[str],
    ) -> None:
        """Add one example, or its problems.

        Args:
            origin: where the example comes from, as messages name it ("line 3").
            split: the cell, which is ignored where splits are drawn.
            labels: per concept; None only where ``cell_problems`` says why.
            cell_problems: those of its other cells.
        """
        problems = list(cell_problems)
        if not is_plain(example_id) or not is_plain(path):
            odd = example_id if not is_plain(example_id) else path
            problems.append(f"{odd!r} has control characters or marks of text direction; rename it")
        if self._split is not None:
            split = draw_split(self._split, example_id)
        elif split not in SPLITS:
            problems.insert(0, f"column 'split': found {split!r}, expected one of {', '.join(SPLITS)}")
        for problem in problems:
            self._origins_by_problem.setdefault(problem, []).append(origin)
        if not problems:
            self._origins_by_id.setdefault(example_id, []).append(origin)
            self.records.append(Record(example_id, path, str(split), tuple(label == 1 for label in labels), origin))

    def finish(self) -> list[Record]:
        """Return the records.

        Raises:
            DatasetError: the table has problems, repeated ids among them; every one is named with all its origins.
        """
        raise_problems(self._name, self._source, self.all_problems())
        return self.records

    def all_problems(self) -> list[str]:
        """Return problems of rows, of the whole table, and of ids that appear more than once."""
        twice = [
            f"example {example!r} is named more than once ({_join(origins)}); ids (file stems) must differ"
            for example, origins in self._origins_by_id.items()
            if len(origins) > 1
        ]
        return [*with_origins(self._origins_by_problem), *self.problems, *twice]

    def sound(self) -> list[Record]:
        """Return the records of rows that are as they should be and share their id with no other."""
        return [record for record in self.records if len(self._origins_by_id[record.example_id]) == 1]


def with_origins(problems: Mapping[str, Sequence[str]]) -> list[str]:
    """Return problems with the origins of each."""
    return [f"{_join(origins)}: {problem}" for problem, origins in problems.items()]


def _join(origins: Sequence[str]) -> str:
    """Return origins as ``line 3`` or ``lines 3, 4, 5``; of many, the first few and their number."""
    numbers = [origin.removeprefix("line ") for origin in origins]
    before = "lines " if len(origins) > 1 and numbers[0] != origins[0] else ""
    names = numbers if before else list(origins)
    rest = f" … ({len(origins)} in all)" if len(origins) > MOST_ORIGINS else ""
    return before + ", ".join(names[:MOST_ORIGINS]) + rest


def read_metadata(entry: Dataset, path_column: str, *, lenient: bool = False) -> list[Record]:
    """Return all examples of ``metadata.csv``, in the order of the file. Ids are file stems.

    Args:
        lenient: leave out rows that are wrong, and both of two that share an id.

    Raises:
        DatasetError: every problem found, with its line number: missing table or columns (with the nearest name), other
            splits than train, cal and test, labels other than 0 and 1, paths that leave the folder.
    """
    name, root = entry.name, Path(entry.root)
    table = root / "metadata.csv"
    if not root.is_dir():
        raise DatasetError(
            f"Data set {name!r}: {root} is no folder. `datasets.{name}.root` in the catalog must name one that holds "
            "metadata.csv."
        )
    if not table.is_file():
        raise DatasetError(f"Data set {name!r}: {table} does not exist; one row per example is expected there.")
    records, problems = _read_records(
        name, version_of(table), path_column, entry.concepts, entry.split, Dialect.of(entry)
    )
    if not lenient:
        raise_problems(name, table, problems)
    return list(records)


@lru_cache(maxsize=1)  # a run opens its data set in every stage, a command of many runs in every run
def _read_records(
    name: str,
    version: Version,
    path_column: str,
    concepts: tuple[str, ...],
    split: SeededSplit | None,
    dialect: Dialect,
) -> tuple[Sequence[Record], Sequence[str]]:
    """Return sound records, and what is wrong with the others."""
    table = Path(version[0])
    needed = [path_column, *(["split"] if split is None else []), *concepts]
    records = RecordList(name, table, split)
    _, rows = read_csv(name, table, needed, dialect, ragged=records.problems)
    for line, row in rows:
        labels = [zero_or_one(row[concept]) for concept in concepts]
        problems = [
            f"column {concept!r}: found {row[concept]!r}, expected 0 or 1"
            for concept, label in zip(concepts, labels, strict=True)
            if label is None
        ]
        path = row[path_column] or ""
        problems += path_problems(path_column, path)
        records.add(f"line {line}", PurePosixPath(path).stem, path, row.get("split"), labels, problems)
    return records.sound(), records.all_problems()
