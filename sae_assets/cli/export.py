"""The command that writes results for other tools."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sae_assets.cli.common import (
    TAKEN,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    errors_without_traceback,
    print_json,
    split_list,
)
from sae_assets.errors import CatalogError


@app.command(rich_help_panel=TAKEN)
def export(
    name: Annotated[str, typer.Argument(metavar="FORMAT", help="csr, delphi, neuronpedia, csv, markdown or latex.")],
    dataset: str,
    model: str,
    out: Annotated[Path, typer.Option(help="File to write; of delphi a folder.")],
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    units: Annotated[
        list[str] | None, typer.Option(help="neuronpedia: original ids. (default: those of the best pairs)")
    ] = None,
    splits: Annotated[int, typer.Option(min=1, help="delphi: files that units are dealt to.")] = 5,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write results for other tools: sparse matrices, Delphi's cache, Neuronpedia's JSON, tables of best pairs."""
    with errors_without_traceback(as_json, debug):
        from sae_assets.catalog import match_name  # noqa: PLC0415  # pydantic
        from sae_assets.reading.exports import FORMATS  # noqa: PLC0415  # numpy, pyarrow
        from sae_assets.reading.project import open_project  # noqa: PLC0415

        chosen = match_name(name, FORMATS, "format")
        kinds = open_project(home, catalog)[dataset][model]
        options: dict[str, Any] = {}
        if (ids := split_list(units, "--units")) is not None:
            if chosen != "neuronpedia":
                raise CatalogError("--units: is for neuronpedia.")
            if not all(one.isdecimal() for one in ids):
                raise CatalogError(f"--units: found {', '.join(ids)}, expected ids of units.")
            options["units"] = [int(one) for one in ids]
        if chosen == "delphi":
            options["n_splits"] = splits
        figures = FORMATS[chosen][0](kinds[token_kind or next(iter(kinds))], out.expanduser(), **options)
        if as_json:
            print_json({"file": str(out), "format": chosen, "figures": figures})
        else:
            summary = ", ".join(f"{value:,} {name}" if isinstance(value, int) else f"{name} {value}"
                             for name, value in figures.items())  # fmt: skip
            typer.echo(f"{out}: {summary}")
