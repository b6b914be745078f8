"""What every materialization tells the UI: sizes, ratios, seconds, identity, schema, first rows and a picture.

Numbers stay numbers, so that the UI plots them over partitions. Pictures are made in ``reports.plots``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets import storage
from sae_assets.artifacts import SparseRows
from sae_assets.pipeline.recipes import is_imported
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.stages.sparse_activations import ratios

if TYPE_CHECKING:
    import pyarrow as pa

    from sae_assets.artifacts import Artifact
    from sae_assets.storage.store import Stored, WrittenFile

HEAD = 5
IMPORTED = "imported from older files; L0 counts stored entries only"
KEPT = "nothing was computed: the file that was there is what would be made now"


def storage_metadata(artifact: "Artifact", written: "WrittenFile") -> dict[str, Any]:
    """What is known once the file is written: where, bytes, and for activations the compression ratio."""
    figures: dict[str, Any] = {"stored_bytes": written.n_bytes, "dagster/uri": str(written.path)}
    if written.path.suffix == ".html":
        local = written.path.protocol in ("", "file")
        figures = {"page": dg.MetadataValue.path(str(written.path)) if local else str(written.path), **figures}
    if isinstance(artifact, SparseRows):
        quotients = ratios(
            compression_ratio=(artifact.dense_bytes, written.n_bytes), bytes_per_row=(written.n_bytes, artifact.n_rows)
        )
        figures = {**quotients, "dense_bytes": artifact.dense_bytes, **figures}
    return {name: short(value) for name, value in figures.items()}


def short(value: Any) -> Any:
    """Six significant digits are enough for a person; files hold the exact figures."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def artifact_metadata(item: "Stored", figures: Mapping[str, Any]) -> dict[str, Any]:
    """What is known before writing: counts of this kind of artifact, its making, and its identity.

    Args:
        figures: ``kept`` if nothing was computed; else ``seconds``, ``device`` and what else was measured.
    """
    rows = len(storage.parquet.to_table(item.artifact)[0])
    if is_imported(item.provenance):
        making: dict[str, Any] = {"imported": True, "kept": IMPORTED}
    elif "kept" in figures:
        making = {"kept": KEPT}
    else:
        making = {**figures, "rows_per_second": rows / max(figures["seconds"], 1e-9)}
    return {
        **{name: short(value) for name, value in {**counts(item), **making}.items()},
        "dagster/row_count": rows,
        "fingerprint": item.provenance.fingerprint,
    }


def table_metadata(artifact: "Artifact") -> dict[str, Any]:
    """First rows and schema: last, because the UI shows metadata in order and a table takes the room of ten figures."""
    table, _ = storage.parquet.to_table(artifact)
    texts = storage.tables.table_of(artifact.kind).COLUMNS
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(field.name, str(field.type).replace("item: ", ""), texts.get(field.name.split(":")[0]))
            for field in table.schema
        ]
    )
    records = [dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in _head(table).to_pylist()]
    return {"head": dg.MetadataValue.table(records, schema=schema), "dagster/column_schema": schema}


def _head(table: "pa.Table") -> "pa.Table":
    """First rows, of units that say something: kept, active or valid ones first, in the table's order."""
    import pyarrow as pa

    for name in ("kept_index", "p99", "threshold"):
        if name in table.column_names:
            telling = table.filter(table[name].is_valid())[:HEAD]
            return telling if len(telling) == HEAD else pa.concat_tables([telling, table])[:HEAD]
    return table[:HEAD]


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, list):
        shown = ", ".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in value[:8])
        return f"[{shown}{', …' if len(value) > 8 else ''}]"
    return value


def counts(item: "Stored") -> dict[str, Any]:
    """Figures of one artifact, by its stage; numbers wherever possible."""
    return STAGES[item.provenance.stage].counts(item.artifact)
