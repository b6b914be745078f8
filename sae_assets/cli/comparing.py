"""The command that compares runs of one data set: models, layers, SAEs, token kinds."""

from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sae_assets import commands
from sae_assets.cli.common import FOUND, AsJson, CatalogFile, Debug, Home, app, errors_without_traceback, print_json
from sae_assets.cli.display import console, figure


@app.command(rich_help_panel=FOUND)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="dataset/token_kind/model, two or more; or a data set: all its runs."),
    ],
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare runs of one data set by test F1, each with the first, with paired intervals of the differences."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        compared = commands.comparing.compare(session, runs)
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
        for number, run in enumerate(compared["runs"]):
            _, kind, model = run.split("/")
            table.add_column(f"{kind}\n{model}", justify="right", no_wrap=True)
            if number:
                table.add_column("above\nthe first", justify="right", no_wrap=True)
        for line in figures["lines"]:
            if line["concept"] is None:
                table.add_section()
            cells = []
            for number, run in enumerate(line["runs"]):
                unit = "" if run["unit_id"] is None else f" ({run['unit_id']})"
                cells.append(figure(run["f1"]) + unit)
                cells += [_difference(run["difference"])] if number else []
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
