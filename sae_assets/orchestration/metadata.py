"""Every materialization tells the UI sizes, ratios, seconds, identity, schema, first rows and a picture.

Numbers stay numbers, so that the UI plots them over partitions, but for those that settings fix. Pictures are made in
``pipeline.plots`` and ``row_plots``.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets import storage
from sae_assets.artifacts import SparseRows
from sae_assets.orchestration.instance.reports import address_in_ui
from sae_assets.pipeline.recipes import is_imported
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.stages.sparse_activations import ratios

if TYPE_CHECKING:
    import pyarrow as pa
    from upath import UPath

    from sae_assets.artifacts import Artifact
    from sae_assets.pipeline.stage import Stage
    from sae_assets.storage.address import Address
    from sae_assets.storage.store import Stored, WrittenFile

HEAD = 5
# Over partitions each would be a flat line, but for a last chunk that is not full.
FIXED = (
    "units", "concepts", "k_stored", "random_saes", "rows", "examples", "dense_bytes",
    "table_rows", "expected_rows", "examples_read", "sampled_rows",
)  # fmt: skip
# Broken into lines here: the UI gives values as much room as the table of the first rows takes, and shows half of it.
SENTENCES, LINE = ("verdict", "row_verdict"), 50
ROOM = 32  # characters of a name that do not run into what stands beside it; the UI breaks names at spaces alone
IMPORTED = "imported from older files; L0 counts stored entries only"
SIZES = "sizes"
KEPT = "nothing was computed: the file that was there is what would be made now"


def storage_metadata(artifact: "Artifact", written: "WrittenFile", root: "UPath") -> dict[str, Any]:
    """Return what is known once the file is written: where, bytes, and for activations the compression ratio.

    Args:
        root: of the store. In a folder, places are told from there: histories travel, and whose folder it was is
            nobody's business.
    """
    local = root.protocol in ("", "file")
    shown_path = written.path.relative_to(root).as_posix() if local else str(written.path)
    figures: dict[str, Any] = {"stored_bytes": written.n_bytes, "dagster/uri": shown_path}
    if isinstance(artifact, SparseRows):
        quotients = ratios(
            compression_ratio=(artifact.dense_bytes, written.n_bytes), bytes_per_row=(written.n_bytes, artifact.n_rows)
        )
        figures = {**quotients, "dense_bytes": artifact.dense_bytes, **figures}
    return {name: shown(name, value) for name, value in figures.items()}


def pictures(stage: "Stage", artifact: "Artifact", plot: Callable[[], str] | None) -> dict[str, Any]:
    """Return what a stage draws of an artifact, if it does: small for the page itself, and whole."""
    drawings = {
        "glance": None if stage.glance is None else stage.glance(artifact),
        "plot": None if plot is None else plot(),
    }
    return {name: dg.MetadataValue.md(drawing) for name, drawing in drawings.items() if drawing is not None}


def links(address: "Address") -> dict[str, Any]:
    """Return how what is made over all chunks is looked at: the report that it is part of, and commands that show
    more."""
    if address.chunk is not None or address.token_kind is None or address.model is None:
        return {}
    which, kind = f"{address.dataset} {address.model}", f"--token-kind {address.token_kind}"
    entries: dict[str, Any] = {
        "report": dg.MetadataValue.url(address_in_ui(address)),
        "in_a_browser": f"sae-assets report {which} {kind}",
    }
    if address.stage == "report":
        entries["page_of_a_unit"] = f"sae-assets unit {which} UNIT {kind} --html unit.html"
    return entries


def label(name: str) -> str:
    """Return the name of a figure in the UI, with spaces at which a long one goes on in the next line."""
    if len(name) <= ROOM:
        return name
    return " ".join(part for word in name.replace("[", " [", 1).split(" ") for part in _parts(word))


def _parts(word: str) -> Iterator[str]:
    """Yield pieces of a word that have room, cut behind an underscore or a colon where there is one."""
    while len(word) > ROOM:
        cut = max(word.rfind("_", 0, ROOM), word.rfind(":", 0, ROOM)) + 1 or ROOM
        yield word[:cut]
        word = word[cut:]
    yield word


def shown(name: str, value: Any) -> Any:
    """Return a figure for the UI: what settings fix is a text, for numbers are plotted."""
    if name in SENTENCES:
        return dg.MetadataValue.md("  \n".join(textwrap.wrap(value, LINE)))
    return f"{value:,.0f}" if name in FIXED and isinstance(value, (int, float)) else short(value)


def sizes(examples: int, rows: int) -> dg.JsonMetadataValue:
    """Return what forecasts go by, as numbers: the UI plots none of JSON, and programs read no texts."""
    return dg.MetadataValue.json({"examples": examples, "rows": rows})


def short(value: Any) -> Any:
    """Six significant digits are enough for a person; files hold the exact figures."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def artifact_metadata(item: "Stored", figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known before writing: counts of this kind of artifact, its making, and its identity.

    No ``dagster/row_count``: it has to be a number, and the UI would plot the same one over all partitions.

    Args:
        figures: ``kept`` if nothing was computed; else ``seconds``, ``device``, ``seconds_of_pass`` if others were
            made with it, and what else was measured.
    """
    rows = len(storage.parquet.to_table(item.artifact)[0])
    if is_imported(item.provenance):
        making: dict[str, Any] = {"imported": True, "kept": IMPORTED}
    elif "kept" in figures:
        making = {"kept": KEPT}
    else:
        making = {**figures, "rows_per_second": rows / max(figures.get("seconds_of_pass", figures["seconds"]), 1e-9)}
    return {
        **{label(name): shown(name, value) for name, value in counts(item).items()},
        **{name: shown(name, value) for name, value in {**making, "table_rows": rows}.items()},
        **({SIZES: sizes(making["examples_read"], rows)} if "examples_read" in making else {}),
        "fingerprint": item.provenance.fingerprint,
    }


def table_metadata(artifact: "Artifact") -> dict[str, Any]:
    """Return first rows with their schema: last, for the UI shows metadata in order and a table takes the room of ten
    figures.

    No ``dagster/column_schema``: the UI would put a line per column above all figures and the picture.
    """
    table, _ = storage.parquet.to_table(artifact)
    texts = storage.tables.table_of(artifact.kind).COLUMNS
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(field.name, str(field.type).replace("item: ", ""), texts.get(field.name.split(":")[0]))
            for field in table.schema
        ]
    )
    records = [dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in _head(table).to_pylist()]
    return {"head": dg.MetadataValue.table(records, schema=schema)}


def _head(table: "pa.Table") -> "pa.Table":
    """Return first rows, of units that say something: kept, active or valid ones first, in the table's order."""
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
    """Return figures of one artifact, by its stage; numbers wherever possible. Files of earlier versions do not hold
    them."""
    return dict(STAGES[item.provenance.stage].counts(item.artifact) if item.counts is None else item.counts)
