"""A table of figures, to be taken along as pandas, Polars or Arrow."""

from html import escape
from typing import TYPE_CHECKING, Any

from sae_assets.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

MOST_SHOWN = 20


class Table:
    """Columns as they are stored (``docs/storage-format.md``); chunks stand behind one another."""

    def __init__(self, table: "pa.Table"):
        self._table = table.replace_schema_metadata(None)

    def to_arrow(self) -> "pa.Table":
        return self._table

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame``; pandas is not installed with this package."""
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """Return a ``polars.DataFrame``; Polars is not installed with this package."""
        import polars as pl  # noqa: PLC0415  # not installed with this package

        return pl.from_arrow(self._table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"Table of {counted(len(self), 'row')}: {', '.join(self._table.column_names)}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self._table.column_names)
        rows = self._table.slice(0, MOST_SHOWN).to_pylist()
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row.values()) + "</tr>" for row in rows
        )
        remark = f"<p>… {len(self) - MOST_SHOWN} more rows</p>" if len(self) > MOST_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remark}"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
