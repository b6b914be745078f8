"""Each kind of artifact is a table: one module per kind, by its name, and none of them is named elsewhere.

A module gives ``encode`` (the artifact's Arrow table, and the scalars that are no column and travel in the header),
``decode`` (the artifact again, from both) and ``COLUMNS`` (a sentence on each column, for the UI). Columns are plain
(``docs/storage-format.md``), so pandas, Polars and DuckDB read them with a glob. Derived columns (mean, density, F1)
are written for readers of the files and ignored when reading back. NaN in an artifact is null on disk. A kind whose
artifacts may be larger than memory (``unit_rows``) also gives ``row_groups``, of its table, and ``read_groups``:
the artifact from the opened file and the scalars, a row group at a time. One whose columns do not all grow with the
examples names those of sampled rows (``OF_SAMPLE``).
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

import pyarrow as pa

from sae_assets.artifacts import Artifact


class TableModule(Protocol):
    """Each module here offers this. The names of columns that exist once per concept stop at the colon in
    ``COLUMNS``."""

    COLUMNS: Mapping[str, str]

    def encode(self, artifact: Any) -> tuple[pa.Table, dict[str, Any]]:
        """Return the artifact's columns, and the scalars that are no column."""
        ...

    def decode(self, table: pa.Table, scalars: dict[str, Any]) -> Artifact:
        """Return the artifact of columns and scalars, which may be damaged; any exception says that they are."""
        ...


@cache
def kinds() -> tuple[str, ...]:
    """Return every kind of artifact that has a table."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


@cache
def table_of(kind: str) -> TableModule:
    """Return the table of a kind of artifact.

    Raises:
        KeyError: the kind has no table.
    """
    if kind not in kinds():
        raise KeyError(kind)
    table: TableModule = importlib.import_module(f"{__name__}.{kind}")
    return table
