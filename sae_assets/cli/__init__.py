"""The command line: ``sae-assets``. Thin: it parses, calls ``session`` and prints; Dagster does the work.

Commands live in one module per purpose; importing them puts them into the application.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from sae_assets import __version__
from sae_assets.cli import data, looking, pipeline, serving  # noqa: F401
from sae_assets.cli.common import app, report
from sae_assets.errors import SaeAssetsError

__all__ = ["app", "run"]


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"sae-assets {__version__}")
        raise typer.Exit


def run(command: Callable[..., None] = app) -> None:
    """Entry point of the console script."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    try:
        command()
    except SaeAssetsError as error:  # a catalog named in the environment is read when definitions are imported
        if "--debug" in sys.argv:
            raise
        raise SystemExit(report(error, "--json" in sys.argv)) from None
