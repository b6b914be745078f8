"""``status`` says what is materialized, stale or missing."""

from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.common import (
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    errors_without_traceback,
    print_json,
    split_list,
)
from sae_assets.cli.states import print_status


@app.command()
def status(
    datasets: Annotated[list[str] | None, typer.Option("--datasets", "-d", help="Data sets. (default: all)")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what is materialized, stale or missing, per data set, model and chunk."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        states = commands.status.states(session, session.dataset_names(split_list(datasets, "--datasets")))
        if as_json:
            print_json(states)
        else:
            print_status(states)
