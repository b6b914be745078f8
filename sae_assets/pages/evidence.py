"""Tables say how sure it is that a unit detects a concept: its F1 beside chance, random SAEs and other detectors."""

from markupsafe import Markup

from sae_assets.artifacts.controls import CONTROLS, LARGEST, LEVELS, RANDOM, UNIT
from sae_assets.artifacts.detection import always_positive_f1
from sae_assets.artifacts.row_alignment import BESIDE
from sae_assets.pages import charts
from sae_assets.pages.figures import Tables, attributes

DENSE = ("diffmean", LARGEST, "logistic", "embedding_dims")  # controls that need no SAE
NAMES = {
    UNIT: "unit of the SAE",
    RANDOM: "random SAEs (mean)",
    "diffmean": "difference of means",
    LARGEST: "DiffMean, largest row",
    "logistic": "logistic, embeddings",
    "logistic_units": "logistic, all units",
    "k_sparse": "k-sparse probe",
    "embedding_dims": "single dimension",
}
OF_ROWS = {LARGEST: "DiffMean of examples' labels"}


def of_examples(tables: Tables, concept: str) -> charts.Evidence:
    """Return the evidence of the concept's pair on test examples."""
    line = tables["best_pairs"].of(concept)
    assert line is not None  # it has one of every concept
    bars = [line["test_always_positive_f1"], line["test_null_f1_p95"]]
    other, label = _best_dense(tables, LEVELS[0], concept)
    return charts.Evidence(
        line["test_f1"],
        line["test_f1_low"],
        line["test_f1_high"],
        max((bar for bar in bars if bar is not None), default=None),
        *random_saes(tables, LEVELS[0], concept),
        other,
        label,
        tables.drawn("best_pairs", "test_f1", concept),
    )


def of_rows(tables: Tables, concept: str, number: int, unit: int | None) -> charts.Evidence:
    """Return the evidence of a unit on test rows of a concept; ``number`` is the concept's place in the catalog."""
    value = tables.value("row_alignment", "test_f1", concept, unit)
    if value is None:
        return charts.Evidence(None, None, None)
    line = tables["best_pairs"].of(concept) or {}
    chosen = line.get("unit_id") == unit
    low, high, null = None, None, None
    if chosen:
        low, high, null = (line[f"test_row_{name}"] for name in ("f1_low", "f1_high", "null_f1_p95"))
    always = always_positive_rows(tables, number)
    random, ends = random_saes(tables, LEVELS[1], concept) if chosen else (None, None)
    other, label = _best_dense(tables, LEVELS[1], concept)
    drawn = tables.drawn("row_alignment", "test_f1", concept, unit)
    return charts.Evidence(value, low, high, max(always, null or 0.0), random, ends, other, label, drawn)


def always_positive_rows(tables: Tables, number: int) -> float:
    """Test F1 of calling every row the concept's."""
    positive, rows = (tables.scalar("row_alignment", path) for path in (f"n_positive.1.{number}", "n_rows.1"))
    return float(always_positive_f1(positive, rows))


def random_saes(tables: Tables, level: str, concept: str) -> tuple[float | None, tuple[float, float] | None]:
    """Return mean F1 of random SAEs on examples or on rows, as it was compared with, and their lowest and highest."""
    difference = tables.value("controls", "difference", level, RANDOM, 0, concept)
    unit = tables.value("controls", "test_f1", level, UNIT, None, concept)
    if difference is None:
        return None, None
    values = [
        line["test_f1"] or 0.0
        for line in tables["controls"].lines
        if (line["level"], line["detector"], line["concept"]) == (level, RANDOM, concept)
    ]
    return max(0.0, (unit or 0.0) - difference), (min(values), max(values))


def _best_dense(tables: Tables, level: str, concept: str) -> tuple[float | None, str]:
    """Return the largest test F1 of detectors that need no SAE."""
    values = {name: tables.value("controls", "test_f1", level, name, None, concept) for name in DENSE}
    best = max(DENSE, key=lambda name: values[name] or 0.0)
    return values[best], (OF_ROWS if level == LEVELS[1] else NAMES).get(best, NAMES[best])


def on_itself(tables: Tables, concept: str, unit: int | None) -> bool:
    """Return whether most test rows that the unit fires on are the concept's."""
    return (tables.value("row_alignment", "test_precision", concept, unit) or 0.0) >= BESIDE


def better_controls(tables: Tables, level: str, concept: str) -> list[str]:
    """Return detectors that need no SAE and are better on examples or on rows, by an interval that excludes 0."""
    keys = {name: (level, name, None, concept) for name in DENSE}
    highs = {name: tables.value("controls", "difference_high", *key) for name, key in keys.items()}
    return [NAMES[name] for name, high in highs.items() if high is not None and high < 0]


def control_rows(tables: Tables, concept: str) -> list[tuple[str, tuple[str, str, None, str]]]:
    """Return label and key of the unit and of every control on examples, but for random SAEs, which are several."""
    keys = {name: (LEVELS[0], name, None, concept) for name in (UNIT, *CONTROLS)}
    return [(NAMES[name], key) for name, key in keys.items() if tables["controls"].of(*key) is not None]


def control_bars(tables: Tables, concept: str, level: str = LEVELS[0]) -> Markup:
    """Return bars of the unit and of every control on examples, or on rows; nothing where there are no controls."""
    unit = tables["controls"].of(level, UNIT, None, concept) if "controls" in tables else None
    if unit is None or unit["test_f1"] is None:  # of examples a split lacks a class, of rows nothing says where
        return Markup("")
    rows: list[tuple[str, float | None, float | None, float | None, Markup]] = []
    for name in (UNIT, *CONTROLS):
        key = (level, name, None, concept)
        if name == RANDOM:
            mean, ends = random_saes(tables, level, concept)
            low, high = ends or (None, None)
            rows.append((NAMES[name], mean, low, high, attributes(mean, count=f"random mean of {concept}, {level}")))
            continue
        if tables["controls"].of(*key) is None:  # largest rows are of examples alone
            continue
        columns = ("test_f1", "test_f1_low", "test_f1_high")
        value, low, high = (tables.value("controls", column, *key) for column in columns)
        rows.append((NAMES[name], value, low, high, tables.drawn("controls", "test_f1", *key)))
    return charts.bars(rows)
