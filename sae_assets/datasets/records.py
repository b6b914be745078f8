"""One example as a data set describes it, and the table of all of them with its checks.

Shared by every layout that has a ``metadata.csv``; where images, masks and texts lie is each reader's business.
"""

import csv
import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sae_assets.artifacts import SPLITS
from sae_assets.errors import DatasetError

MOST_SHOWN = 20


@dataclass(frozen=True)
class Record:
    """One row of ``metadata.csv``: id (file stem of the path), path relative to the root, split, labels in order."""

    example_id: str
    path: str
    split: str
    labels: tuple[bool, ...]


def read_metadata(name: str, root: Path, path_column: str, concepts: Sequence[str]) -> list[Record]:
    """All examples, in the order of the file.

    Raises:
        DatasetError: every problem found, with its line number: missing file or columns (with the nearest name), splits
            other than train, cal and test, labels other than 0 and 1, paths that leave the folder, missing files.
    """
    table = root / "metadata.csv"
    if not root.is_dir():
        raise DatasetError(f"Data set {name!r}: the folder {root} does not exist. Set `root` in the catalog.")
    if not table.is_file():
        raise DatasetError(f"Data set {name!r}: {table} does not exist; one row per example is expected there.")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            missing = [column for column in (path_column, "split", *concepts) if column not in columns]
            if missing:
                raise DatasetError(
                    f"Data set {name!r}: {table} lacks {len(missing)} column(s):",
                    [_missing_column(column, columns) for column in missing],
                )
            twice = sorted({column for column in columns if columns.count(column) > 1})
            if {path_column, "split", *concepts} & set(twice):
                raise DatasetError(f"Data set {name!r}: {table} names columns twice: {', '.join(twice)}.")
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"Data set {name!r}: {table} is not readable CSV (UTF-8): {error}") from None
    if not rows:
        raise DatasetError(f"Data set {name!r}: {table} has a header but no examples.")
    problems: list[str] = []
    records: list[Record] = []
    lines: dict[str, list[int]] = {}
    for line, row in rows:
        found = list(_row_problems(row, root, path_column, concepts))
        problems += [f"line {line}: {problem}" for problem in found]
        if not found:
            path = row[path_column]
            labels = tuple(_label(row[concept]) == 1 for concept in concepts)
            lines.setdefault(PurePosixPath(path).stem, []).append(line)
            records.append(Record(str(PurePosixPath(path).with_suffix("").name), path, row["split"], labels))
    repeated = [example for example, count in Counter(r.example_id for r in records).items() if count > 1]
    problems += [
        f"example {example!r} is named more than once (lines {', '.join(map(str, lines[example]))}); ids (file stems) "
        "must differ"
        for example in repeated
    ]
    if problems:
        shown = problems[:MOST_SHOWN]
        if len(problems) > MOST_SHOWN:
            shown.append(f"… and {len(problems) - MOST_SHOWN} more")
        raise DatasetError(f"Data set {name!r}: {table} has {len(problems)} problem(s):", shown)
    return records


def _missing_column(column: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, columns, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{column!r} not found among {', '.join(columns) or 'no columns'}{hint}"


def _label(text: str | None) -> int | None:
    return {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1}.get(text or "")


def _row_problems(row: dict[str, str], root: Path, path_column: str, concepts: Sequence[str]):
    if row["split"] not in SPLITS:
        yield f"column 'split': found {row['split']!r}, expected one of {', '.join(SPLITS)}"
    for concept in concepts:
        if _label(row[concept]) is None:
            yield f"column {concept!r}: found {row[concept]!r}, expected 0 or 1"
    path = row[path_column] or ""
    inside = PurePosixPath(path)
    if not path or inside.is_absolute() or ".." in inside.parts or "\\" in path:
        yield f"column {path_column!r}: found {path!r}, expected a path inside the data set's folder"
    elif not (root / path).is_file():
        yield f"column {path_column!r}: file {path!r} does not exist in {root}"
