"""The report of one data set, token kind and model: which unit detects which concept, how sure, and where.

Everything shown stands in :class:`Content`: tables as they are stored, and examples that were chosen elsewhere. What is
made of it here are sentences, drawings and an order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from markupsafe import Markup

from sae_assets.artifacts import REASONS
from sae_assets.artifacts.controls import LEVELS
from sae_assets.artifacts.localization import METHODS
from sae_assets.pages import charts, evidence
from sae_assets.pages.figures import Tables, attributes, element, figure
from sae_assets.pages.rendering import render

KINDS = {"patch": "patches", "token": "tokens", "cls": "examples"}
RUNNERS_UP = 5
MATRIX = 40  # units that the matrix has at most, one for each concept aside
DOTS = 1500  # units drawn of each reason


@dataclass(frozen=True)
class Shown:
    """An example: its picture or text, what is said of it, and a second one beside it where there are two."""

    element: Markup
    caption: str
    beside: Markup | None = None


@dataclass(frozen=True)
class Concept:
    """A report shows this of a concept beside its figures.

    Attributes:
        number: place in the catalog; unit: original id, None where none stands for it.
        located: whether every positive example says where the concept is.
        examples: of test, by kind: ``top``, ``hits``, ``false_positives``, ``misses``; ``regular``, marked both ways.
        curves: F1 at every threshold by split, (threshold, F1) ascending.
    """

    name: str
    number: int
    unit: int | None
    located: bool
    examples: Mapping[str, Sequence[Shown]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """All that a report is made of.

    Attributes:
        about: what the data set, the model and the SAE are, by name of the fact.
        tables: by stage, ``row_alignment`` of the concepts' best units and the chosen ones alone.
        n_examples: by split; sizes: ``n_rows``, ``n_units``, ``n_chunks``, ``dense_bytes``, ``stored_bytes``.
        rows: figures of the whole SAE on rows, as ``RowAlignment.summary`` has them; None for NaN.
        fit: ``fvu``, ``mean_l0``, ``stated_l0``, and ``chunks``, lines with ``chunk``, ``fvu`` and ``mean_l0``.
        units: one line per unit with ``unit_id``, ``density``, ``p99``, ``reason``; of silent ones p99 is None.
        provenance: one line per stage with ``stage``, ``code_version``, ``fingerprint``, ``producer``.
        settings: what was chosen, by name; commands: what makes all this again.
    """

    dataset: str
    token_kind: str
    model: str
    modality: str
    about: Mapping[str, str]
    tables: Tables
    concepts: Sequence[Concept]
    n_examples: Mapping[str, int]
    sizes: Mapping[str, int]
    rows: Mapping[str, float | None]
    fit: Mapping[str, Any]
    units: Sequence[Mapping[str, Any]]
    provenance: Sequence[Mapping[str, str]]
    settings: Mapping[str, Any]
    commands: Sequence[str]


def report_page(content: Content) -> str:
    """Return the page."""
    page = _Page(content)
    shown = {
        "figure": figure,
        "element": element,
        "control_rows": evidence.control_rows,
        "kind": KINDS[content.token_kind],
    }
    return render("report.html", c=content, page=page, t=content.tables, **shown)


def plain_headline(content: Content) -> str:
    """Return the report's first sentence, without markup."""
    return _Page(content).headline.striptags()


class _Page:
    """The template asks for these."""

    def __init__(self, content: Content):
        self.c, self.t = content, content.tables
        self.reasons, self.methods, self.legend = REASONS, METHODS, charts.legend("controls" in self.t)

    @cached_property
    def sorted_concepts(self) -> list[Concept]:
        """Return the concepts by test F1 of rows, and where not located of examples; those without come last."""
        return sorted(self.c.concepts, key=lambda concept: -(self._order(concept)))

    def _order(self, concept: Concept) -> float:
        rows, examples = self.rows(concept).value, self.examples(concept).value
        value = rows if rows is not None else examples
        return -1.0 if value is None else value

    @staticmethod
    def breakable(name: str) -> Markup:
        """Return a name with places where a line may end."""
        return Markup("::<wbr>").join(name.split("::"))

    def line(self, concept: Concept) -> dict[str, Any]:
        """Return the concept's line of ``best_pairs``."""
        line = self.t["best_pairs"].of(concept.name)
        assert line is not None  # it has one of every concept
        return line

    def examples(self, concept: Concept) -> charts.Evidence:
        """Return the evidence on examples."""
        return evidence.of_examples(self.t, concept.name)

    def rows(self, concept: Concept) -> charts.Evidence:
        """Return the evidence on rows, of located concepts."""
        if not concept.located:
            return charts.Evidence(None, None, None)
        return evidence.of_rows(self.t, concept.name, concept.number, concept.unit)

    def always_positive_rows(self, concept: Concept) -> float:
        return evidence.always_positive_rows(self.t, concept.number)

    def glyph(self, shown: charts.Evidence) -> Markup:
        return charts.glyph(shown) if shown.value is not None else Markup("–")

    @cached_property
    def headline(self) -> Markup:
        """Return one sentence made from the figures."""
        clear = [concept for concept in self.c.concepts if self.examples(concept).clear]
        located = [concept for concept in clear if concept.located]
        on = [concept for concept in located if self.on_itself(concept)]
        against = "chance and random SAEs" if "controls" in self.t else "chance"
        parts = [
            Markup("{} of {} concepts {} a unit that clears {} on test").format(
                element(len(clear), count="clear"),
                element(len(self.c.concepts), count="concepts"),
                "has" if len(clear) == 1 else "have",
                against,
            )
        ]
        if located:
            parts.append(
                Markup("{} of these {} on the concept itself, {} beside it").format(
                    element(len(on), count="on"),
                    "fires" if len(on) == 1 else "fire",
                    element(len(located) - len(on), count="beside"),
                )
            )
        if "controls" in self.t:
            places = [
                Markup("{} on {}").format(element(self._n_better(level), count=f"better_without_on_{level}"), where)
                for level, where in zip(LEVELS, ("examples", KINDS[self.c.token_kind]), strict=True)
                if level == LEVELS[0] or any(concept.located for concept in self.c.concepts)
            ]
            parts.append(Markup("a detector that needs no SAE is better in ") + Markup(" and in ").join(places))
        return Markup("; ").join(parts) + Markup(".")

    def on_itself(self, concept: Concept) -> bool:
        return evidence.on_itself(self.t, concept.name, concept.unit)

    def better_controls(self, concept: Concept, level: str = LEVELS[0]) -> list[str]:
        return evidence.better_controls(self.t, level, concept.name)

    def _n_better(self, level: str) -> int:
        return sum(bool(self.better_controls(concept, level)) for concept in self.c.concepts)

    def cost_of_pruning(self, concept: Concept) -> Markup:
        """Return why the best unit was removed and the cal F1 that is lost, or that it is kept; a dash without a best
        one."""
        if self.t.value("pruning_audit", "unit_id", concept.name) is None:
            return Markup("–")
        removed = self.t.value("pruning_audit", "removed_by", concept.name)
        if removed is None:
            return Markup("kept")
        key = ("pruning_audit", "cal_loss", concept.name)
        lost = float(self.t.value(*key)) > 0
        cost = Markup("cal F1 −{}").format(self.t.shown(*key)) if lost else "one as good is kept"
        return Markup("<small>removed ({})<br>{}</small>").format(removed.replace("_", " "), cost)

    def curve(self, concept: Concept) -> Markup:
        threshold = self.t.value("best_pairs", "threshold", concept.name)
        if threshold is None or not any(concept.curves.values()):
            return Markup("")
        marked = (threshold, f"chosen, {figure(threshold)}")
        return charts.lines(concept.curves, across="threshold of the example's score", up="F1", marked=marked)

    def runners_up(self, concept: Concept) -> list[dict[str, Any]]:
        """Return best units by cal F1 of rows."""
        lines = [line for line in self.t["row_alignment"].lines if line["concept"] == concept.name]
        return lines[:RUNNERS_UP]

    def coalition(self, concept: Concept) -> dict[str, Any] | None:
        line = self.t["coalitions"].of(concept.name) if "coalitions" in self.t else None
        return line if line and len(line["unit_ids"]) > 1 else None

    def controls(self, concept: Concept, level: str = LEVELS[0]) -> Markup:
        return evidence.control_bars(self.t, concept.name, level)

    @cached_property
    def funnel(self) -> Markup:
        counts = self.reason_counts
        drawn = [(name, counts[name], attributes(counts[name], table="pruning_audit", scalar=f"units_by_reason.{name}"))
                 for name in REASONS]  # fmt: skip
        return charts.funnel([(name.replace("_", " "), count, each) for name, count, each in drawn])

    @cached_property
    def reason_counts(self) -> dict[str, int]:
        return {name: self.t.scalar("pruning_audit", f"units_by_reason.{name}") or 0 for name in REASONS}

    @cached_property
    def removed(self) -> list[Concept]:
        """Return concepts whose best unit pruning removed."""
        return [c for c in self.c.concepts if self.t.value("pruning_audit", "removed_by", c.name) is not None]

    @cached_property
    def chosen_units(self) -> dict[int, list[Concept]]:
        """Return the concepts that each unit was chosen for, in the order of the table of concepts."""
        chosen: dict[int, list[Concept]] = {}
        for concept in self.sorted_concepts:
            if concept.unit is not None:
                chosen.setdefault(concept.unit, []).append(concept)
        return chosen

    @cached_property
    def density(self) -> Markup:
        """Return p99 of units against their density, by reason; the chosen ones by name."""
        groups: dict[str, list[tuple[float, float]]] = {}
        for name in REASONS:
            points = [(unit["density"], unit["p99"]) for unit in self.c.units if unit["reason"] == name and unit["p99"]]
            groups[name] = points[:: -(-len(points) // DOTS) or 1]
        by_id = {unit["unit_id"]: unit for unit in self.c.units}
        named = [
            (by_id[unit]["density"], by_id[unit]["p99"], str(unit), f"#unit-{unit}")
            for unit in self.chosen_units
            if by_id[unit]["p99"]
        ]
        rows = self.t.scalar("unit_stats", "n_rows") or 1
        cuts = [("x", (self.t.scalar("unit_mapping", name) or 0) / rows) for name in ("min_active", "max_active")]
        cutoff = self.t.scalar("unit_mapping", "strength_cutoff")
        if cutoff is not None and cutoff == cutoff:
            cuts.append(("y", cutoff))
        return charts.scatter(groups, named, cuts, across="density (share of cal rows)", up="p99 of values, cal rows")

    @cached_property
    def shown_units(self) -> list[int]:
        """Return chosen units and those of coalitions and runners-up, which the page has a line of."""
        units = dict.fromkeys(self.chosen_units)
        for concept in self.sorted_concepts:
            units |= dict.fromkeys(line["unit_id"] for line in self.runners_up(concept))
            units |= dict.fromkeys((self.coalition(concept) or {"unit_ids": []})["unit_ids"])
        return sorted(units)

    @cached_property
    def matrix_units(self) -> list[int]:
        """Return columns of the matrix: as many of each concept's best units as there is room for."""
        for count in range(RUNNERS_UP, 0, -1):
            units = dict.fromkeys(self.chosen_units)
            for concept in self.sorted_concepts:
                units |= dict.fromkeys(line["unit_id"] for line in self.runners_up(concept)[:count])
            if len(units) <= MATRIX:
                break
        return list(units)

    def unit_link(self, unit: int | None) -> Markup:
        return Markup("–") if unit is None else Markup('<a href="#unit-{0}">{0}</a>').format(unit)

    @cached_property
    def fits(self) -> dict[str, Any]:
        """Return lowest and highest of the chunks' fit."""
        ranges = {}
        for name in ("fvu", "mean_l0"):
            values = [line[name] for line in self.c.fit["chunks"] if line[name] is not None]
            ranges[name] = (min(values), max(values)) if values else None
        return ranges

    @cached_property
    def silent(self) -> int:
        return sum(unit["p99"] is None for unit in self.c.units)
