"""``protocol`` computes what another repository reports."""

from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.cli.common import FOUND, AsJson, CatalogFile, Debug, Home, app, errors_without_traceback, print_json
from sae_assets.cli.display import print_protocol


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
