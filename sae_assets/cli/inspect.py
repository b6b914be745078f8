"""``inspect`` counts what a data set holds before anything is made of it."""

from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.common import (
    FAILED,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    errors_without_traceback,
    print_json,
    split_list,
)
from sae_assets.cli.display import print_inspection
from sae_assets.cli.progress import progress_bar


@app.command("check", hidden=True, deprecated=True)  # as it was called; a check is one of Dagster's
@app.command()
def inspect(
    datasets: Annotated[list[str], typer.Argument(help="Data sets to look at.")],
    files: Annotated[bool, typer.Option("--files", help="Also read every image, mask, text and span.")] = False,
    models: Annotated[
        bool,
        typer.Option(
            "--models",
            help="Also open its models and SAEs, and send one example through each.",
        ),
    ] = False,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Count a data set's examples per split and concept, beside what was published. Exit code 1 if it is not sound."""
    with errors_without_traceback(as_json, debug):
        names = split_list(datasets, "DATASETS") or []
        with progress_bar(quiet=as_json):
            inspections = commands.inspecting.inspect(home, catalog, names, files=files, models=models)
        if as_json:
            print_json(inspections)
        else:
            print_inspection(inspections)
        if not all(inspection["sound"] for inspection in inspections.values()):
            raise typer.Exit(FAILED)
