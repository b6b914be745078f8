"""``close-chunk`` registers also what does not fill a chunk."""

from typing import Annotated

import typer

from sae_assets.cli.common import STORED, AsJson, CatalogFile, Debug, Home, app
from sae_assets.cli.register import register_in


@app.command("close-chunk", rich_help_panel=STORED)
def close_chunk(
    datasets: Annotated[list[str], typer.Argument(help="Data sets.")],
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Register also what does not fill a chunk, now (`materialize` does so by itself)."""
    register_in(datasets, True, home, catalog, as_json, debug)
