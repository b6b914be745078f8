"""The command line: ``sae-assets``. Thin: it parses, calls ``session`` and prints; Dagster does the work.

Each command lives in a module of its name; importing it puts it into the application.
"""

from typing import Annotated

import typer

from sae_assets.cli import (  # noqa: F401
    close_chunk,
    compare,
    demo,
    detect,
    export,
    export_detector,
    find,
    import_,
    inspect,
    materialize,
    plan,
    protocol,
    register,
    remove,
    report,
    show,
    status,
    ui,
    unit,
    verify,
)
from sae_assets.cli.advice import forget_places
from sae_assets.cli.common import app
from sae_assets.cli.interrupts import heed_signals
from sae_assets.package import VERSION, collect_seldom, end_with

__all__ = ["app", "run"]


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    forget_places()
    if version:
        typer.echo(f"sae-assets {VERSION}")
        raise typer.Exit


def run() -> None:
    """Entry point of the console script."""
    collect_seldom()
    heed_signals()
    try:
        app()
    except SystemExit as end:
        end_with(end.code)
        raise
