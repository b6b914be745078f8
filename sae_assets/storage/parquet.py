"""Artifacts as Parquet: the default format, for every kind.

zstd(1); BYTE_STREAM_SPLIT for values and ids of activations, which no dictionary helps; row groups of 8,192 rows so
that a reader can take a slice. The header travels in the file's key-value metadata.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from sae_assets.artifacts import Artifact
from sae_assets.errors import StoredFileError
from sae_assets.storage.header import KEY, Header, read_header
from sae_assets.storage.tables import kinds, table_of

ROW_GROUP = 8192


def to_table(artifact: Artifact) -> tuple[pa.Table, dict[str, Any]]:
    """The artifact's columns, and the scalars that are no column."""
    return table_of(artifact.kind).encode(artifact)


def dump(artifact: Artifact, header: Callable[[dict[str, Any]], Header]) -> bytes:
    """The file's bytes; ``header`` makes the header from the scalars."""
    buffer = io.BytesIO()
    write(artifact, header, buffer)
    return buffer.getvalue()


def write(artifact: Artifact, header: Callable[[dict[str, Any]], Header], file: BinaryIO) -> None:
    """The same into a file, a row group at a time."""
    table, scalars = to_table(artifact)
    table = table.replace_schema_metadata({KEY: header(scalars).to_json()})
    split = [f"{name}.list.element" for name in table.column_names if pa.types.is_list(table.schema.field(name).type)
             and not pa.types.is_string(table.schema.field(name).type.value_type)]  # fmt: skip
    lists = {f"{name}.list.element" for name in table.column_names if pa.types.is_list(table.schema.field(name).type)}
    flat = [name for name in table.column_names if f"{name}.list.element" not in lists]
    size = getattr(table_of(artifact.kind), "rows_per_group", None)
    pq.write_table(
        table,
        file,
        compression="zstd",
        compression_level=1,
        row_group_size=size(table) if size else ROW_GROUP if lists else 2**20,
        use_dictionary=flat + sorted(lists - set(split)),
        use_byte_stream_split=split or False,
        store_schema=True,
    )


def is_streamed(kind: str) -> bool:
    """Whether artifacts of a kind may be larger than memory, and are read and written a row group at a time."""
    return kind in kinds() and hasattr(table_of(kind), "read_groups")


def load_file(path: UPath) -> tuple[Artifact, Header]:
    """The artifact and header of a file, which lies in the folder of its kind. Raises: as :func:`load`."""
    if not is_streamed(path.parent.name):
        return load(path.read_bytes(), str(path))
    header = load_header(path)
    module: Any = table_of(path.parent.name)
    with path.open("rb") as file, damaged(str(path)):
        return module.read_groups(pq.ParquetFile(file), dict(header.scalars)), header


def load(content: bytes, where: str) -> tuple[Artifact, Header]:
    """The artifact and header of a file's bytes.

    Raises:
        StoredFileError: not Parquet, not ours, or columns other than the kind's.
    """
    try:
        # Not `read_table`, which starts Arrow's threads whatever it is told: one that is at work when the interpreter
        # ends aborts the process. With the bytes in memory they gain nothing.
        table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is no text
        raise StoredFileError(f"{where} is not a readable Parquet file ({error}). Materialize it again.") from None
    header = read_header((table.schema.metadata or {}).get(KEY.encode()), where)
    return decode(header, table, where), header


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


def load_header(path: Any) -> Header:
    """The header alone, from the file's footer."""
    try:
        with path.open("rb") as file:
            metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowException, ValueError) as error:
        raise StoredFileError(f"{path} is not a readable Parquet file ({error}). Materialize it again.") from None
    return read_header(metadata.get(KEY.encode()), str(path))
