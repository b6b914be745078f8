"""``demo`` runs the whole pipeline on the packaged data."""

import json
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.common import GOES_ON, AsJson, Debug, Home, app, errors_without_traceback, print_json, say
from sae_assets.cli.interrupts import came
from sae_assets.cli.progress import progress_bar
from sae_assets.cli.states import print_kinds
from sae_assets.cli.summary import print_summary
from sae_assets.settings import load_settings


@app.command()
def demo(
    home: Home = None,
    summary: Annotated[Path | None, typer.Option(help="Write the figures as JSON to this file.")] = None,
    arrivals: Annotated[bool, typer.Option("--arrivals", help="Let images land while `sae-assets ui` runs.")] = False,
    every: Annotated[float, typer.Option(min=1, help="With --arrivals: seconds between two landings.")] = 60,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the whole pipeline on the packaged data and show what it found."""
    if arrivals:
        with errors_without_traceback(as_json, debug):
            _arrive(home, every)
        return
    with (
        errors_without_traceback(as_json, debug, GOES_ON),
        commands.session.open_session(home, None, use_user_catalog=False) as session,
    ):
        names = list(session.catalog.datasets)
        if not as_json:
            print_kinds(commands.plans.kinds(session, names, None))
        with progress_bar(quiet=as_json) as on_batch:
            n_runs, skipped = session.materialize(names, on_batch=on_batch, on_wait=say, told_to_end=came, debug=debug)
        figures = commands.figures.summarize(session, names)
        if summary is not None:
            from upath import UPath  # noqa: PLC0415 - loads fsspec, which no other command's head needs

            from sae_assets.storage.atomic import write_atomically  # noqa: PLC0415 - for this command alone

            write_atomically(UPath(summary.absolute()), json.dumps(figures, indent=2).encode())
        if as_json:
            print_json(figures)
        else:
            print_summary(figures, session, n_runs, skipped)


def _arrive(home: Path | None, every: float) -> None:
    from sae_assets.catalog import load_catalog  # noqa: PLC0415 - loads pydantic
    from sae_assets.demo.arrivals import CHUNK, NAME, arrive, prepare  # noqa: PLC0415 - loads fsspec
    from sae_assets.orchestration import switches  # noqa: PLC0415 - for this alone

    settings = load_settings(home)
    growing = prepare(settings.home, load_catalog().datasets["clevr_mini"])
    typer.echo(f"{growing.landed()} images have landed in {growing.root}; {CHUNK} more land every {every:.0f} s.")
    typer.echo("In another terminal:")
    typer.echo(f"  sae-assets ui --home {quote(str(settings.home))} --catalog {quote(str(growing.catalog))}")
    typer.echo("In the UI, under Automation, switch on:")
    for switch, does in (
        (switches.REGISTER, "new images become chunks (partitions)"),
        (switches.BACKFILL, "a backfill of what is missing, every minute"),
        (switches.FOLLOW, "or each asset as soon as its inputs are there"),
    ):
        typer.echo(f"  {switch.name(NAME):34}{does}")
    for count in arrive(growing, every):
        typer.echo(f"{count} images have landed.")
    typer.echo("All images have landed.")
