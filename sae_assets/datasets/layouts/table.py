"""The table layout: your own CSV or Parquet table of images or texts, a file or a folder that holds one.

In a folder the table is ``metadata.csv``, ``.tsv`` or ``.parquet``, else all of its Parquet files, else its one CSV
file.
Images are paths, or bytes in Parquet (also as structs with ``bytes``); they are read in batches when asked for.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.dialect import Dialect
from sae_assets.datasets.listing import Line, Listing
from sae_assets.datasets.listing_reader import IMAGES_LOCATED, TEXTS_LOCATED, open_listing
from sae_assets.datasets.reader import Reader
from sae_assets.datasets.tables import read_csv
from sae_assets.errors import DatasetError

BATCH = 32  # images held in memory
MOST_GROWTH, SMALL_BYTES = 1000, 2**26  # of a Parquet file; what stays smaller than the latter may grow more
ROWS_PER_BYTE = 8  # of a Parquet file; rows that differ take a bit each, and those of a bomb next to nothing
PART = re.compile(r"(.*)-(\d+)-of-(\d+)(?:-\w+)?")  # of a table in several Parquet files, as libraries name them


def open_table(entry: Dataset) -> Reader:
    """Return the reader of a table.

    Raises:
        DatasetError: there is no table, or it has problems (all of them are listed).
    """
    name, root = entry.name, Path(entry.root)
    files = _tables(name, root)
    base = root if root.is_dir() else root.parent
    parquet = files[0].suffix == ".parquet"
    read = partial(_read_parquet, entry, files, base) if parquet else partial(_read_csv, entry, files[0], base)
    return open_listing(entry, [base, *files], read)


def _read_csv(entry: Dataset, table: Path, base: Path) -> Listing:
    columns, rows = read_csv(entry.name, table, [], Dialect.of(entry))
    lines = [Line(f"line {line}", str(position), row) for position, (line, row) in enumerate(rows, start=1)]
    return Listing(table, base, columns, lines)


def _tables(name: str, root: Path) -> list[Path]:
    if root.is_file() and root.suffix in (".csv", ".tsv", ".parquet"):
        return [root]
    if root.is_dir():
        names = ("metadata.csv", "metadata.tsv", "metadata.parquet")
        named = [root / file for file in names if (root / file).is_file()]
        files = named or sorted(root.glob("*.parquet")) or sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
        if len(files) == 1 or (len(files) > 1 and not named and files[0].suffix == ".parquet"):
            return files
        tables = f"{len(files)} tables ({', '.join(file.name for file in files)})" if files else "no table"
        raise DatasetError(
            f"Data set {name!r}: {root} holds {tables}; one CSV table or Parquet files are expected. Set `root` to the "
            "table itself, or call it metadata.csv."
        )
    raise DatasetError(f"Data set {name!r}: {root} is neither a folder nor a .csv, .tsv or .parquet file. Set `root`.")


def _read_parquet(entry: Dataset, files: list[Path], base: Path) -> Listing:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column_names = {*entry.columns.model_dump().values(), "image_path", "text_path", "labels", *entry.concepts}
    lines: list[Line] = []
    columns: list[str] = []
    big: frozenset[str] = frozenset()
    sources: list[tuple[Path, int]] = []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                rows_said, n_bytes = opened.metadata.num_rows, file.stat().st_size
                if rows_said > ROWS_PER_BYTE * n_bytes:
                    raise DatasetError(
                        f"Data set {entry.name!r}: {file} says {rows_said:,} rows in {n_bytes:,} bytes, so nearly all "
                        "of them say the same; expected examples that differ."
                    )
                groups = (opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups))
                grown = sum(group.total_byte_size for group in groups)
                if grown > max(MOST_GROWTH * n_bytes, SMALL_BYTES):
                    raise DatasetError(
                        f"Data set {entry.name!r}: {file} grows from {n_bytes:,} to {grown:,} bytes when it is read, "
                        "more than data do that differ."
                    )
                schema = opened.schema_arrow
                large = frozenset(field.name for field in schema if field.name in column_names and _is_big(field.type))
                if columns and (schema.names, large) != (columns, big):
                    raise DatasetError(f"Data set {entry.name!r}: {file.name} has other columns than {files[0].name}.")
                columns, big = schema.names, large
                plain = [column for column in columns if column in column_names - large]
                rows = opened.read(plain, use_threads=False).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"Data set {entry.name!r}: {file} is not readable Parquet: {error}") from None
        before = f"{file.name} " if len(files) > 1 else ""
        for number, cells in enumerate(rows, start=1):
            identifier = f"{file.stem}-{number}" if len(files) > 1 else str(number)
            lines.append(Line(f"{before}row {number}", identifier, cells))
            sources.append((file, number - 1))
    source = files[0] if len(files) == 1 else base
    if not lines:
        raise DatasetError(f"Data set {entry.name!r}: {source} has columns but no examples.")
    return Listing(source, base, columns, lines, big=big, fetch=BigCells(sources).fetch, remarks=_absent_parts(files))


def _absent_parts(files: Sequence[Path]) -> list[str]:
    """Return parts that names like ``train-00000-of-00003`` promise and that are not there."""
    numbers_by_name: dict[tuple[str, str], set[int]] = {}
    for file in files:
        if match := PART.fullmatch(file.stem):
            numbers_by_name.setdefault((match[1], match[3]), set()).add(int(match[2]))
    return [
        f"{name}: {len(numbers)} of its {int(of):,} Parquet files are there; the examples of the others are not"
        for (name, of), numbers in numbers_by_name.items()
        if len(numbers) < int(of)
    ]


def _is_big(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


class BigCells:
    """Cells with whole images, read by scanning their column forwards; going back starts the scan again."""

    def __init__(self, sources: list[tuple[Path, int]]):
        self._sources = sources
        self._scans: dict[str, tuple[Path, Iterator[tuple[int, list[Any]]], int, list[Any]]] = {}

    def fetch(self, index: int, column: str) -> Any:
        """Return the bytes of one cell; a cell that holds anything else is returned as it is."""
        file, number = self._sources[index]
        scan = self._scans.get(column)
        if scan is None or scan[0] != file or number < scan[2]:
            scan = (file, _batches(file, column), 0, [])
        _, batches, start, cells = scan
        while number >= start + len(cells):
            start, cells = next(batches)
        self._scans[column] = (file, batches, start, cells)
        cell = cells[number - start]
        return cell.get("bytes") if isinstance(cell, dict) else cell


def _batches(file: Path, column: str) -> Iterator[tuple[int, list[Any]]]:
    import pyarrow.parquet as pq

    start = 0
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH, columns=[column], use_threads=False):
            cells = batch.column(0).to_pylist()
            yield start, cells
            start += len(cells)


LAYOUT = Layout(
    name="table",
    modalities=("image", "text"),
    expected="a table: a .csv, .tsv or .parquet file, or a folder that holds one",
    open=open_table,
    takes=("columns", "labels", "separator"),
    located=f"images: {IMAGES_LOCATED}; texts: {TEXTS_LOCATED}",
    split_place="in column {column!r} of the table",
)
