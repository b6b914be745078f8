"""Figures as pages show them: rounded, with the cell of the table that they come from and its value beside them.

A figure is a ``<data>`` element: ``value`` is the number in full, ``data-table`` the stage, ``data-column`` the column,
and ``data-concept``, ``data-unit_id`` and so on the row; ``data-scalar`` is a path in the header's scalars instead.
Figures that a page counts itself have ``data-count``, their name.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sae_assets.artifacts.detection import FEWEST, rests_on_few
from sae_assets.wording import digits_apart

if TYPE_CHECKING:
    import pyarrow as pa

KEYS: Mapping[str, tuple[str, ...]] = {  # what names a row
    "best_pairs": ("concept",),
    "chosen_pairs": ("concept",),
    "coalitions": ("concept",),
    "controls": ("level", "detector", "seed", "concept"),
    "localization": ("concept", "method"),
    "pruning_audit": ("concept",),
    "row_alignment": ("concept", "unit_id"),
    "unit_mapping": ("unit_id",),
    "unit_stats": ("unit_id",),
}
NOTHING = "–"


def figure(value: Any, digits: int = 3, signed: bool = False) -> str:
    """Return a number as it is shown, a difference with its sign; one that does not exist is a dash."""
    if _is_none(value):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:{'+' if signed else ''},.{digits if abs(value) < 10 else 1}f}"
    return text.replace("-", "−")


def element(value: Any, digits: int = 3, signed: bool = False, **where: Any) -> Markup:
    """Return a figure with where it comes from; of one that does not exist the title says so."""
    if _is_none(value):
        return Markup('<span title="this figure does not exist here">{}</span>').format(NOTHING)
    return Markup("<data {}>{}</data>").format(attributes(value, **where), figure(value, digits, signed))


def _is_none(value: Any) -> bool:
    """Return whether a figure does not exist: a cell is null then, a scalar of a header is NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def attributes(value: Any, **where: Any) -> Markup:
    """Return a figure's attributes, for elements that draw it."""
    parts = {"value": value, **{f"data-{name}": part for name, part in where.items() if part is not None}}
    return Markup(" ").join(Markup('{}="{}"').format(name, part) for name, part in parts.items())


class StageTable:
    """A stage's table and the scalars of its header."""

    def __init__(self, stage: str, table: "pa.Table", scalars: Mapping[str, Any]):
        self.stage, self.table, self.scalars = stage, table, scalars

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self.table.to_pylist()
        return lines

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        return {tuple(line[name] for name in KEYS[self.stage]): line for line in self.lines}

    def of(self, *key: Any) -> dict[str, Any] | None:
        """Return the row of this key, None where there is none."""
        return self._by_key.get(key)

    def only(self, **where: Any) -> "StageTable":
        """Return the rows with these values alone; of large tables before any is asked for."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = self.table
        for name, values in where.items():
            table = table.filter(pc.is_in(table[name], value_set=pa.array(values, table[name].type)))
        return StageTable(self.stage, table, self.scalars)


class Tables:
    """Tables by stage; those that there are not have no figures."""

    def __init__(self, tables: Mapping[str, StageTable]):
        self._tables = tables

    def __contains__(self, stage: str) -> bool:
        return stage in self._tables

    def __getitem__(self, stage: str) -> StageTable:
        return self._tables[stage]

    def value(self, stage: str, column: str, *key: Any) -> Any:
        """Return a cell; None where there is no such table, row or figure."""
        line = self._tables[stage].of(*key) if stage in self._tables else None
        return None if line is None else line[column]

    def where(self, stage: str, column: str, *key: Any) -> dict[str, Any]:
        """Return what names a cell in a page."""
        return {"table": stage, "column": column, **dict(zip(KEYS[stage], key, strict=True))}

    def shown(self, stage: str, column: str, *key: Any, digits: int = 3, signed: bool = False) -> Markup:
        """Return a cell as a page shows it."""
        return element(self.value(stage, column, *key), digits, signed, **self.where(stage, column, *key))

    def drawn(self, stage: str, column: str, *key: Any) -> Markup:
        """Return a cell's attributes, for elements that draw it."""
        return attributes(self.value(stage, column, *key), **self.where(stage, column, *key))

    def scalar(self, stage: str, path: str) -> Any:
        """Return a scalar of the header by a path of names and numbers, ``intervals.0.1``."""
        value: Any = self._tables[stage].scalars if stage in self._tables else None
        for part in path.split("."):
            if value is None:
                return None
            value = value[int(part)] if isinstance(value, Sequence) else value.get(part)
        return value

    def shown_sum(self, concept: str) -> Markup:
        """Test positives of a concept: those that are found and those that are missed; marked if too few."""
        hits, misses = (self.value("best_pairs", f"test_{name}", concept) for name in ("tp", "fn"))
        shown = element(hits + misses, table="best_pairs", column="test_tp+test_fn", concept=concept)
        return shown + self.few(concept)

    def few(self, concept: str) -> Markup:
        """Return a mark where the test figures of a concept rest on few examples, else nothing."""
        line = self["best_pairs"].of(concept)
        if line is None or not rests_on_few(line):
            return Markup("")
        markup = '<span title="fewer than {} positive or negative test examples: figures say little">?</span>'
        return Markup(markup).format(FEWEST)

    def interval(self, stage: str, column: str, *key: Any, few: str | None = None) -> Markup:
        """Return both ends of an interval, with as many digits as tell them apart; tables of earlier versions may lack
        it.

        Args:
            few: a concept; the interval is marked if figures of it rest on few examples.
        """
        line = (self[stage].of(*key) if stage in self else None) or {}
        low, high = (line.get(f"{column}_{end}") for end in ("low", "high"))
        if low is None or high is None:
            return Markup(NOTHING)
        digits = digits_apart(low, high, 3)
        ends = (self.shown(stage, f"{column}_{end}", *key, digits=digits) for end in ("low", "high"))
        return Markup("<span>{} – {}</span>").format(*ends) + ("" if few is None else self.few(few))

    def shown_scalar(self, stage: str, path: str, digits: int = 3) -> Markup:
        return element(self.scalar(stage, path), digits, table=stage, scalar=path)
