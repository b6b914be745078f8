"""All about one unit, as plain values: what the command prints, and what a page shows."""

import math
from typing import Any

from sae_assets.artifacts.detection import rests_on_few
from sae_assets.datasets import ImageReader
from sae_assets.errors import SaeAssetsError
from sae_assets.pages import evidence
from sae_assets.pages.charts import Evidence
from sae_assets.pages.figures import StageTable, Tables
from sae_assets.reading.files import columns_of
from sae_assets.reading.unit import TopExample, Unit

STATS = ("n_active", "density", "mean", "max", "p95", "p99", "selectivity")
PAIR = (
    *("concept", "threshold", "test_f1", "test_f1_low", "test_f1_high"),
    *("test_auroc", "test_auroc_low", "test_auroc_high", "test_p", "test_q"),
)
STAGES = ("best_pairs", "controls", "row_alignment", "unit_mapping", "unit_stats")
KINDS = {"patch": "patches", "token": "tokens", "cls": "rows"}
ALIGNED = ("concept", "threshold", "cal_f1", "test_f1", "test_precision", "test_recall", "test_iou", "test_ap")


def unit_summary(unit: Unit, top: int = 5, tables: Tables | None = None) -> dict[str, Any]:
    """Return statistics, concepts on examples and on rows, best examples with the place of the largest value, co-active
    units.

    Args:
        top: how many examples, concepts on rows and co-active units.
        tables: as of :func:`tables_of`, where they were read already.

    Raises:
        MissingChunksError, NotMaterializedError: what it reads was not made.
    """
    results = unit.results
    aligned = unit.concepts() if results.has("row_alignment") else []
    stats, tables = unit.stats(), tables_of(unit) if tables is None else tables
    counts, edges = unit.histogram()
    summary = {
        "dataset": results.entry.name,
        "token_kind": results.token_kind,
        "model": results.model,
        "unit": unit.unit_id,
        "rows": unit.n_rows,
        "threshold": unit.threshold,
        "stats": {name: stats[name] for name in STATS},
        "pairs": [_pair(unit, tables, pair) for pair in unit.pairs()],
        "concepts": [{name: line[name] for name in ALIGNED} for line in aligned[:top]],
        "examples": [_example(unit, one) for one in unit.top_examples(top)],
        "co_active": [vars(one) for one in unit.co_active(top)],
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }
    plain: dict[str, Any] = _plain(summary)
    return plain


def tables_of(unit: Unit) -> Tables:
    """Return the stages' tables where they were made; of the large ones the unit's lines alone."""
    tables = {}
    for stage in STAGES:
        if unit.results.store.find(unit.results.address(stage)) is not None:
            header, table = columns_of(unit.results.store, unit.results.address(stage))
            whole = StageTable(stage, table, header.scalars)
            large = stage in ("row_alignment", "unit_mapping", "unit_stats")
            tables[stage] = whole.only(unit_id=[unit.unit_id]) if large else whole
    return Tables(tables)


def levels_of(unit: Unit, tables: Tables, concept: str) -> list[tuple[str, Evidence]]:
    """Return the evidence on examples and, where it is known which rows are the concept's, on rows."""
    levels = [("examples", evidence.of_examples(tables, concept))]
    if unit.results.token_kind != "cls" and tables.value("best_pairs", "test_row_f1_low", concept) is not None:
        number = unit.results.entry.concepts.index(concept)
        of_rows = evidence.of_rows(tables, concept, number, unit.unit_id)
        levels.append((KINDS[unit.results.token_kind], of_rows))
    return levels


def _pair(unit: Unit, tables: Tables, pair: dict[str, Any]) -> dict[str, Any]:
    """Return a pair that the unit is chosen for, and by level what its F1 stands beside."""
    beside = {
        level: {
            "f1": shown.value,
            "f1_low": shown.low,
            "f1_high": shown.high,
            "chance": shown.chance,
            "random_saes": shown.random,
            "without_sae": shown.other,
            "without_sae_name": shown.other_name if shown.other is not None else None,
        }
        for level, shown in levels_of(unit, tables, pair["concept"])
    }
    return {**{name: pair[name] for name in PAIR}, "too_few": rests_on_few(pair), "beside": beside}


def _example(unit: Unit, one: TopExample) -> dict[str, Any]:
    """Return an example, and where in it the largest value stands: pixels, or characters with their surroundings."""
    results, shown = unit.results, {**vars(one), "peak": None}
    try:
        if results.token_kind == "cls":
            return shown
        values = unit.values(one.example_id)
        index = int(values.argmax())
        if isinstance(results.reader, ImageReader):
            edges = unit.heat_map(one.example_id).edges
            shown["peak"] = {name: float(edges[name][index]) for name in edges}
        else:
            marked = unit.tokens(one.example_id)
            token = marked.tokens[index]
            around = (max(0, token.start - 40), token.end + 40)
            shown["peak"] = {"start": token.start, "end": token.end, "text": token.text}
            shown["peak"]["context"] = marked.text[around[0] : around[1]]
    except (SaeAssetsError, OSError):  # the data set is not on this machine, or nothing says where rows stand
        return shown
    return shown


def _plain(value: Any) -> Any:
    """Return values that JSON knows: a figure that does not exist is null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
