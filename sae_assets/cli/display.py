"""The command line shows tables as they are made here; ``summary`` prints what a finished run found."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sae_assets import wording
from sae_assets.cli.advice import advice
from sae_assets.cli.common import echo
from sae_assets.wording import visible

if TYPE_CHECKING:
    from sae_assets.commands.verifying import Verified

# Names and cells come from outside: none of them is markup, emoji code or number to be coloured.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


class PlainConsole(Console):
    """Prints texts as they are, but for characters that steer the terminal or that nobody sees."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Before anything is measured, so that columns stay below one another."""
        return super().render_str(visible(text), **how)

    def render(self, *what: Any, **how: Any) -> Iterator[Segment]:
        """Whatever was made a text before it came here."""
        for part in super().render(*what, **how):
            yield part if part.control else Segment(visible(part.text), part.style)


console = PlainConsole(width=None if sys.stdout.isatty() else 100, **PLAIN)

UNLIMITED = 10**6  # characters, to ask how wide a table would be
MOST_LABELS = 10
MOST_BAD = 20  # examples of which a line each is printed
MOST_WARNINGS, MOST_PARTITIONS = 10, 5
WIDEST = 32  # characters of a cell in tables with one column per row


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number, or "–" where the figure does not exist."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(ends: Sequence[float | None]) -> str:
    """Return both ends of an interval, or one "–" where it does not exist."""
    low, high = ends
    return wording.interval(low, high) or "–"


def print_verified(verified: "Verified") -> None:
    """Print what was read, what is wrong and what can be done about it."""
    for problem in verified.damaged.values():
        echo(advice(problem), err=True)
    echo(f"{verified.files} files and {verified.manifests} chunk manifests read, {len(verified.damaged)} damaged.")
    if verified.not_compared:
        echo(advice(f"Not compared with Dagster's record: {verified.not_compared}"))
    for dataset, chunks in verified.orphans.items():
        echo(
            f"{dataset}: {', '.join(chunks)} in Dagster's list of chunks were never registered; nothing reads them. "
            + advice(f"To take them off: sae-assets remove {dataset} --unregistered --yes")
        )
    rest = [
        (verified.unsealed, "of an earlier version, without a seal"),
        (verified.leftovers, "left over by killed commands"),
    ]
    for paths, what in rest:
        if paths:
            echo(f"{len(paths)} files are {what}.")
    if verified.mendable:
        echo(advice("To mend what can be mended: sae-assets verify --mend"))


def print_warnings(warnings: dict[str, list[str]]) -> None:
    """Print on stderr what checks found that block nothing, each with the first partitions it was found in."""
    screen = PlainConsole(stderr=True, **PLAIN)
    for text, partitions in list(warnings.items())[:MOST_WARNINGS]:
        ellipsis = f" … ({len(partitions)} in all)" if len(partitions) > MOST_PARTITIONS else ""
        screen.print(f"Warning: {text} ({', '.join(partitions[:MOST_PARTITIONS])}{ellipsis})", soft_wrap=True)
    if len(warnings) > MOST_WARNINGS:
        screen.print(f"Warning: … and {len(warnings) - MOST_WARNINGS} more; see the checks in the UI.", soft_wrap=True)


def print_inspection(inspections: dict[str, Any]) -> None:
    """Per data set: examples per split and positives per concept, beside what was published, then what is wrong."""
    for name, inspection in inspections.items():
        console.print(f"\n{name}", style="bold")
        if "error" in inspection:
            console.print(inspection["error"], soft_wrap=True)
            _print_models(inspection)
            continue
        published, splits = inspection["published"] or {}, inspection["splits"]
        where = {True: "located", False: "not located: rows inherit the example's label"}[inspection["located"]]
        console.print(f"{inspection['examples']:,} {inspection['modality']}s, concepts {where}")
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("", *splits, "always"):
            table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
        table.add_row(
            "examples", *(f"{count:,}" for count in splits.values()), figure(inspection["always_positive_f1"], 4)
        )
        if published:
            counts = (f"{published[split]:,}" for split in splits)
            table.add_row("published", *counts, figure(published["always_positive_f1"], 4))
        table.add_section()
        for concept, counts in inspection["concepts"].items():
            table.add_row(concept, *(f"{counts[s]:,}" for s in splits), figure(counts["always_positive_f1"], 4))
        console.print(table)
        files = inspection["files"] or {"bad": [], "positives_without_region": {}}
        if "characters" in files:
            low, middle, high = files["characters"].values()
            console.print(f"characters per text: {low} to {high}, median {middle}")
        for concept, count in files["positives_without_region"].items():
            console.print(f"{concept}: {count:,} positive examples show it nowhere")
        others = inspection["other_labels"]
        rest = [f"{label} ({other['count']:,})" for label, other in others.items() if not other["nearest"]]
        if rest:
            shown = ", ".join(rest[:MOST_LABELS]) + (" …" if len(rest) > MOST_LABELS else "")
            console.print(f"{len(rest)} other label(s) that are no concept: {shown}", soft_wrap=True)
        for problem in [
            *inspection["remarks"],
            *inspection["differences"],
            *inspection["problems"],
            *files["bad"][:MOST_BAD],
        ]:
            console.print(problem, soft_wrap=True)
        if len(files["bad"]) > MOST_BAD:
            console.print(f"… and {len(files['bad']) - MOST_BAD:,} more; --json lists all.")
        _print_models(inspection)
        if inspection["files"]:
            console.print(f"{files['read']:,} examples read, {len(files['bad'])} bad.")


def _print_models(inspection: dict[str, Any]) -> None:
    for model, report in inspection.get("models", {}).items():
        _print_model(model, report)


def _print_model(name: str, report: dict[str, Any]) -> None:
    """Print what a model is, where it is read, what its SAE says, and what came of one example."""
    console.print(f"model {name}: {report['hook_point']}", soft_wrap=True)
    for title, values in (("SAE", report.get("sae", {})), ("preprocessing", report.get("preprocessing", {}))):
        if values:
            text = ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
            console.print(f"  {title}: {text}", soft_wrap=True)
    for title, entry in report["properties"].items():
        sources = entry["model_says"] or {"the model's files": "not known"}
        sources = {**sources, "the SAE": entry["sae_says"] or "not known"}
        by = "; ".join(f"{where}: {value}" for where, value in sources.items())
        console.print(f"  {title}: {entry['used']} ({by})", soft_wrap=True)
    for kind, count in report.get("rows", {}).items():
        l0 = f", mean L0 {report['mean_l0'][kind]:.3g}" if kind in report["mean_l0"] else ""
        console.print(f"  {report['example_is']}: {count:,} {kind} rows{l0}")
    if report["differences"]:
        console.print(f"  warning: {report['differences']}", soft_wrap=True)
    for problem in report["problems"]:
        console.print(f"  {problem}", soft_wrap=True)


def print_table(content: dict[str, Any]) -> None:
    """Metadata of one artifact, then its first rows."""
    console.print(f"{content['address']}: {content['rows']:,} rows, {content['bytes']:,} bytes")
    console.print(content["file"], soft_wrap=True)
    for name, value in {**content["counts"], **content["config"], "fingerprint": content["fingerprint"]}.items():
        shown = f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        console.print(f"  {name}: {shown}")
    rows = [{column: _cell(value) for column, value in row.items()} for row in content["head"]]
    if rows:
        table = Table()
        for column in rows[0]:
            table.add_column(column, no_wrap=not any(" " in row[column] for row in rows))
        for row in rows:
            table.add_row(*row.values())
        fits = console.measure(table, options=console.options.update_width(UNLIMITED)).minimum <= console.width
        for one in [table] if fits else _upright(rows):
            console.print(one)
            console.print()


def print_protocol(content: dict[str, Any]) -> None:
    """Figures of a protocol over the whole data set, then those of every concept."""
    of = "/".join(content[name] for name in ("dataset", "token_kind", "model"))
    console.print(Text.assemble((f"{content['protocol']} on {of}", "bold")))
    for name, value in content["figures"].items():
        console.print(f"  {name}: {_cell(value)}")
    rows = [{"concept": name, **{key: _cell(value) for key, value in each.items()}}
            for name, each in content["concepts"].items()]  # fmt: skip
    for table in _upright(rows) if rows else ():
        console.print()
        console.print(table)


def _upright(rows: Sequence[dict[str, str]]) -> Iterator[Table]:
    """Yield tables with one column per row, as many beside each other as the screen holds; long cells are folded."""
    widths = [min(WIDEST, max(cell_len(cell) for cell in (str(n), *row.values()))) for n, row in enumerate(rows)]
    names = max(cell_len(name) for name in rows[0])
    stop = 0
    while stop < len(rows):
        start, room = stop, console.width - names
        while stop < len(rows) and (stop == start or widths[stop] < room):
            room -= widths[stop] + 1
            stop += 1
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        table.add_column("row", no_wrap=True)
        for number in range(start, stop):
            table.add_column(str(number), overflow="fold", max_width=WIDEST)
        for name in rows[0]:
            table.add_row(name, *(row[name] for row in rows[start:stop]))
        yield table


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_cell(part) for part in value[:6]) + (", …]" if len(value) > 6 else "]")
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
