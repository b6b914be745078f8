"""Commands that look: ``status``, ``show``, ``protocol``, ``verify`` and ``check``; only a repair changes anything."""

from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.advice import advice
from sae_assets.cli.common import (
    FAILED,
    FOUND,
    STORED,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    errors_without_traceback,
    print_json,
    split_list,
)
from sae_assets.cli.display import print_inspection, print_protocol, print_table, print_verified
from sae_assets.cli.progress import progress_bar
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


@app.command(rich_help_panel=FOUND)
def protocol(
    name: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="netdissect, interplm, saev, sae-probes or superactivators.")
    ],
    dataset: str,
    model: str,
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="sae-probes: score of an example, max, mean, last. (default: last of texts, else max)"),
    ] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute what another repository reports, by its formula, thresholds and splits, on stored rows."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        content = commands.protocols.report(session, name, dataset, model, token_kind, pooling)
        if as_json:
            print_json(content)
        else:
            print_protocol(content)


@app.command(rich_help_panel=STORED)
def verify(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make damaged files and manifests again, seal those of earlier versions, clean up."
        ),
    ] = False,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read every file back and compare with what Dagster recorded. Exit code 1 if one is damaged or missing."""
    with errors_without_traceback(as_json, debug):
        verified = commands.verifying.verify_home(home, catalog)
        runs = 0
        if repair and verified.mendable:
            with commands.session.open_session(home, catalog) as session:
                runs = commands.verifying.repair(session, verified)
            verified = commands.verifying.verify_home(home, catalog)
        if as_json:
            damaged = {path: advice(problem) for path, problem in verified.damaged.items()}
            print_json({**verified.to_json(), "damaged": damaged, "runs": runs})
        else:
            print_verified(verified)
        if verified.damaged:
            raise typer.Exit(FAILED)


@app.command()
def check(
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
            inspections = commands.checking.check(home, catalog, names, files=files, models=models)
        if as_json:
            print_json(inspections)
        else:
            print_inspection(inspections)
        if not all(inspection["sound"] for inspection in inspections.values()):
            raise typer.Exit(FAILED)
