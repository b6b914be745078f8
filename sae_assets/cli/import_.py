"""``import`` reads sparse activation files of older scripts."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.common import (
    STORED,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    echo,
    errors_without_traceback,
    print_json,
)
from sae_assets.wording import counted


@app.command("import", rich_help_panel=STORED)
def import_(
    path: Annotated[Path, typer.Argument(help="A .pt file, one chunk of a set, its …_chunks_info.json, or a folder.")],
    dataset: Annotated[str, typer.Option(help="Data set that the rows belong to, in its order.")],
    model: Annotated[str, typer.Option(help="Model that made them.")],
    token_kind: Annotated[str, typer.Option("--sample-type", "--token-kind", help="patch, token or cls.")],
    units: Annotated[int | None, typer.Option(min=1, help="Width of the SAE. (default: its checkpoint's)")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Import sparse activation files of older scripts ({'indices', 'values', 'format', 'topk'})."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        imported = commands.importing.import_activations(session, path, dataset, model, token_kind, n_units=units)
        if as_json:
            print_json(asdict(imported))
        else:
            rows, entries = counted(imported.rows, "row"), counted(imported.entries, "entry", "entries")
            echo(f"{rows} ({entries}) imported into {counted(len(imported.chunks), 'chunk')}.")
