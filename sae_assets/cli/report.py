"""The command that hands out a report: it writes the page, and opens it where no file is named."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.advice import advice
from sae_assets.cli.common import FOUND, AsJson, CatalogFile, Debug, Home, app, errors_without_traceback, print_json


@app.command(rich_help_panel=FOUND)
def report(
    dataset: str,
    model: str,
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the page to this file. (default: one in the home folder, opened)")
    ] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Open the report of a data set and model: which unit detects which concept, how sure, and where."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        written = commands.reports.write_report(session, dataset, model, token_kind, out)
        if as_json:
            print_json(written)
            return
        if written["stale"]:
            typer.echo(advice(f"Stale ({written['stale']}). For the figures of now: {written['making']}"), err=True)
        typer.echo(f"Page: {written['page']}")
        if out is None:
            _open(Path(written["page"]))


def _open(page: Path) -> None:
    """Show a page in the browser. Linux without a screen has none, and says so for every program that it looks for."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        typer.launch(page.resolve().as_uri())
