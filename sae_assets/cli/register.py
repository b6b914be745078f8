"""``register`` makes chunks of new examples."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.advice import advice
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
    split_list,
)
from sae_assets.wording import counted


@app.command(rich_help_panel=STORED)
def register(
    datasets: Annotated[list[str] | None, typer.Option("--datasets", "-d", help="Data sets. (default: all)")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Register new examples as chunks (partitions), full ones first, by the data set's `arrivals`."""
    register_in(datasets, False, home, catalog, as_json, debug)


def register_in(
    datasets: list[str] | None, close_tail: bool, home: Path | None, catalog: Path | None, as_json: bool, debug: bool
) -> None:
    """Register new examples of these data sets (None: of all), with the tail if it is closed, and print the chunks."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        names = session.dataset_names(split_list(datasets, "--datasets"))
        registered = {name: session.register(name, close_tail=close_tail) for name in names}
        if as_json:
            print_json({name: asdict(each) for name, each in registered.items()})
            return
        for name, each in registered.items():
            ends = f" ({each.keys[0]} … {each.keys[-1]})" if each.keys else ""
            waiting = f"; waiting: {each.waiting} (sae-assets close-chunk {name})" if each.waiting else ""
            echo(advice(f"{name}: {counted(len(each.keys), 'chunk')} registered{ends}{waiting}"))
