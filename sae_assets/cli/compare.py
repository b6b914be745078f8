"""The command that compares results of one data set: models, layers, SAEs, token kinds."""

from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sae_assets import commands
from sae_assets.cli.common import FOUND, AsJson, CatalogFile, Debug, Home, app, errors_without_traceback, print_json
from sae_assets.cli.display import console, figure


@app.command(rich_help_panel=FOUND)
def compare(
    results: Annotated[
        list[str],
        typer.Argument(metavar="RESULTS…", help="dataset/token_kind/model, two or more; or a data set: all of it."),
    ],
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare results of one data set by test F1, each with the first, with paired intervals of the differences."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        compared = commands.comparing.compare(session, results)
        if as_json:
            print_json(compared)
        else:
            _print(compared)


def _print(compared: dict[str, Any]) -> None:
    for level, figures in compared["levels"].items():
        console.print(
            f"\n{compared['dataset']}: F1 on {level}, {figures['n_examples']:,} examples of test", style="bold"
        )
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("concept", overflow="fold")
        for number, label in enumerate(compared["results"]):
            _, kind, model = label.split("/")
            table.add_column(f"{kind}\n{model}", justify="right", no_wrap=True)
            if number:
                table.add_column("above\nthe first", justify="right", no_wrap=True)
        for line in figures["lines"]:
            if line["concept"] is None:
                table.add_section()
            cells = []
            for number, figures_of in enumerate(line["results"]):
                unit = "" if figures_of["unit_id"] is None else f" ({figures_of['unit_id']})"
                cells.append(figure(figures_of["f1"]) + unit)
                cells += [_difference(figures_of["difference"])] if number else []
            table.add_row(line["concept"] or "weighted mean", *cells)
        console.print(table)
        for verdict in figures["verdicts"]:
            console.print(verdict)
    console.print(f"\n{commands.comparing.NOTE}")


def _difference(ends: list[float | None]) -> str:
    estimate, low, high = ends
    if estimate is None or low is None or high is None:
        return "–"
    told = "*" if low > 0 or high < 0 else " "
    return f"{estimate:+.3f}{told} {low:+.3f} to {high:+.3f}"
