"""Artifacts as Parquet: the default format, for every kind.

zstd(1); BYTE_STREAM_SPLIT for values and ids of activations, which no dictionary helps; row groups of 8,192 rows so
that a reader can take a slice. The header travels in the file's key-value metadata, and so do the seals.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from sae_assets.artifacts import Artifact
from sae_assets.errors import StoredFileError
from sae_assets.storage import seal
from sae_assets.storage.atomic import is_local
from sae_assets.storage.footers import read_footer
from sae_assets.storage.header import KEY, Header, read_header
from sae_assets.storage.tables import kinds, table_of

ROW_GROUP = 8192


def to_table(artifact: Artifact) -> tuple[pa.Table, dict[str, Any]]:
    """Return the artifact's columns, and the scalars that are no column."""
    return table_of(artifact.kind).encode(artifact)


def dump(artifact: Artifact, header: Callable[[dict[str, Any]], Header]) -> bytes:
    """Return the file's bytes; ``header`` makes the header from the scalars."""
    buffer = io.BytesIO()
    _write(artifact, header, buffer)
    with buffer.getbuffer() as content:
        seal.seal(content)
    return buffer.getvalue()


def write(artifact: Artifact, header: Callable[[dict[str, Any]], Header], file: BinaryIO) -> None:
    """The same into a file that is open for reading too, a row group at a time."""
    _write(artifact, header, file)
    seal.seal_file(file)


def _write(artifact: Artifact, header: Callable[[dict[str, Any]], Header], file: BinaryIO) -> None:
    table, scalars = to_table(artifact)
    marks = {mark.decode().rstrip(":"): seal.blank(mark) for mark in (seal.FOOTER, seal.FILE)}
    table = table.replace_schema_metadata({KEY: header(scalars).to_json(), **marks})
    split = [f"{name}.list.element" for name in table.column_names if pa.types.is_list(table.schema.field(name).type)
             and not pa.types.is_string(table.schema.field(name).type.value_type)]  # fmt: skip
    lists = {f"{name}.list.element" for name in table.column_names if pa.types.is_list(table.schema.field(name).type)}
    flat = [name for name in table.column_names if f"{name}.list.element" not in lists]
    sizes = getattr(table_of(artifact.kind), "row_groups", None)
    with pq.ParquetWriter(
        file,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=flat + sorted(lists - set(split)),
        use_byte_stream_split=split or False,
        write_statistics=flat,  # those of lists make footers longer, and nobody looks for a value there
        store_schema=True,
        write_page_checksum=True,
    ) as writer:
        if sizes is None:
            writer.write_table(table, ROW_GROUP if lists else 2**20)
            return
        first = 0
        for size in sizes(table):
            writer.write_table(table.slice(first, size), size)
            first += size


def is_streamed(kind: str) -> bool:
    """Return whether artifacts of a kind may be larger than memory, and are read and written a row group at a time."""
    return kind in kinds() and hasattr(table_of(kind), "read_groups")


def load_file(path: UPath) -> tuple[Artifact, Header]:
    """Return the artifact and header of a file, which lies in the folder of its kind. Raises: as :func:`load`."""
    if not is_streamed(path.parent.name):
        return load(path.read_bytes(), str(path))
    header = load_header(path)
    if is_local(path):
        seal.check(seal.mapped(path.path), str(path), sealed=header.sealed)
    module: Any = table_of(path.parent.name)
    with open_part(path) as file:
        return module.read_groups(file, dict(header.scalars)), header


def load(content: bytes, where: str) -> tuple[Artifact, Header]:
    """Return the artifact and header of a file's bytes.

    Raises:
        StoredFileError: not Parquet, not ours, damaged, or columns other than the kind's.
    """
    header, table = load_table(content, where, decoded=True)
    return decode(header, table, where), header


def load_table(
    content: bytes, where: str, columns: Sequence[str] | None = None, *, decoded: bool = False
) -> tuple[Header, pa.Table]:
    """Return the header and columns of a file's bytes, which are as they were written. Raises: as :func:`load`.

    Args:
        columns: None: all, or where they are only ``decoded``, those that the kind's table then reads (``READ``).
    """
    with _readable(where):
        header, file = _opened(content, where)
        if decoded and header.kind in kinds():
            columns = getattr(table_of(header.kind), "READ", None)
        # Not `read_table`, which starts Arrow's threads whatever it is told: one that is at work when the interpreter
        # ends aborts the process. With the bytes in memory they gain nothing.
        return header, file.read(columns=columns, use_threads=False)


def load_head(path: UPath, n: int) -> tuple[Header, int, pa.Table]:
    """Return the header, the number of rows, and the first ``n`` of them, of a file that is as it was written, all of
    it.

    Raises:
        StoredFileError: as :func:`load`.
    """
    content = seal.mapped(path.path) if is_local(path) else path.read_bytes()
    with _readable(str(path)):
        header, file = _opened(content, str(path))
        groups, rows = list[int](), 0
        while rows < max(n, 1) and len(groups) < file.num_row_groups:
            rows += file.metadata.row_group(len(groups)).num_rows
            groups.append(len(groups))
        return header, file.metadata.num_rows, file.read_row_groups(groups, use_threads=False)[:n]


def _opened(content: bytes | memoryview, where: str) -> tuple[Header, pq.ParquetFile]:
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)  # buffers would copy what is in memory
    header = read_header((file.metadata.metadata or {}).get(KEY.encode()), where)
    seal.check(content, where, sealed=header.sealed)
    return header, file


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turn what Arrow raises of a file into StoredFileError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no text
        if isinstance(error, StoredFileError):
            raise
        raise StoredFileError(f"{where} is not a readable Parquet file ({error}). Materialize it again.") from None


def decode(header: Header, table: pa.Table, where: str) -> Artifact:
    if header.kind not in kinds():
        raise StoredFileError(f"{where} holds {header.kind!r}, expected one of {', '.join(kinds())}.")
    with damaged(where):
        return table_of(header.kind).decode(table, dict(header.scalars))


@contextmanager
def damaged(where: str) -> Iterator[None]:
    """Turn whatever a decoder raises into StoredFileError: columns can be damaged in as many ways as it reads them."""
    try:
        yield
    except Exception as error:
        raise StoredFileError(
            f"{where} does not hold what its header says ({type(error).__name__}: {error}). Materialize it again."
        ) from None


def load_header(path: UPath) -> Header:
    """Return the header alone, from the file's footer. Raises: as :func:`load`."""
    return load_footer(path)[0]


def column_bytes(path: UPath) -> dict[str, int]:
    """Return how many bytes of a file each column takes, compressed, by its name. Raises: as :func:`load`."""
    metadata, sizes = load_footer(path)[1], dict[str, int]()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(metadata.num_columns)):
            name = column.path_in_schema.split(".")[0]
            sizes[name] = sizes.get(name, 0) + column.total_compressed_size
    return sizes


@contextmanager
def open_part(path: UPath, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """Give a file of which some row groups or columns are to be read, with checksums of its pages; a local one is
    mapped.

    Nothing is fetched beforehand, as that takes a thread of Arrow's (see :func:`load_table`), which calls Python here.

    Raises:
        StoredFileError: whatever went wrong within.
    """
    with pa.memory_map(path.path) if is_local(path) else path.open("rb") as file, damaged(str(path)):
        yield pq.ParquetFile(file, metadata=footer, page_checksum_verification=True, pre_buffer=False)


def load_footer(path: UPath) -> tuple[Header, pq.FileMetaData]:
    """Return the header, and what the footer says of row groups and columns. Raises: as :func:`load`."""
    where, tail = str(path), read_footer(path)
    with _readable(where):
        metadata = pq.read_metadata(pa.BufferReader(tail))
        header = read_header((metadata.metadata or {}).get(KEY.encode()), where)
    seal.check_footer(tail, where, sealed=header.sealed)
    return header, metadata
