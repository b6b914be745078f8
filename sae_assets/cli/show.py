"""``show`` prints what a stage has stored."""

from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.common import FOUND, AsJson, CatalogFile, Debug, Home, app, errors_without_traceback, print_json
from sae_assets.cli.display import print_table


@app.command(rich_help_panel=FOUND)
def show(
    dataset: str,
    model: str,
    stage: str,
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    chunk: Annotated[str | None, typer.Option(help="Chunk number. (default: the first one there is)")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of the table to print.")] = 10,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show metadata and the first rows of one stage's table."""
    with errors_without_traceback(as_json, debug):
        content = commands.show.show(home, catalog, dataset, model, stage, token_kind, chunk, rows)
        if as_json:
            print_json(content)
        else:
            print_table(content)
