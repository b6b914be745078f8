"""``verify`` reads every file back; only `--mend` changes anything."""

from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.advice import advice
from sae_assets.cli.common import (
    FAILED,
    STORED,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    errors_without_traceback,
    print_json,
)
from sae_assets.cli.display import print_verified


@app.command(rich_help_panel=STORED)
def verify(
    mend: Annotated[
        bool,
        typer.Option(
            "--mend", help="Make damaged files and manifests again, seal those of earlier versions, clean up."
        ),
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", hidden=True)] = False,  # its name in earlier versions
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read every file back and compare with what Dagster recorded. Exit code 1 if one is damaged or missing."""
    with errors_without_traceback(as_json, debug):
        verified = commands.verifying.verify_home(home, catalog)
        runs = 0
        if (mend or repair) and verified.mendable:
            with commands.session.open_session(home, catalog) as session:
                runs = commands.verifying.mend(session, verified)
            verified = commands.verifying.verify_home(home, catalog)
        if as_json:
            damaged = {path: advice(problem) for path, problem in verified.damaged.items()}
            print_json({**verified.to_json(), "damaged": damaged, "runs": runs})
        else:
            print_verified(verified)
        if verified.damaged:
            raise typer.Exit(FAILED)
