"""``export-detector`` writes chosen units, to be applied to other input."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_assets.cli.common import (
    TAKEN,
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

if TYPE_CHECKING:
    pass


@app.command("export-detector", rich_help_panel=TAKEN)
def export_detector(
    dataset: str,
    model: str,
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier detector in it is replaced.")],
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    concepts: Annotated[list[str] | None, typer.Option(help="Concepts. (default: all that have a unit)")] = None,
    units_only: Annotated[
        bool, typer.Option("--units-only", help="Encode the needed units alone, whatever k_stored cut of rows.")
    ] = False,
    include_encoder: Annotated[
        bool, typer.Option("--include-encoder", help="Write all weights of the encoder where all units are needed.")
    ] = False,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write chosen units as a detector: one folder, applied by `detect` without the data set."""
    with errors_without_traceback(as_json, debug):
        from sae_assets.reading.detector_export import export_detector as export  # noqa: PLC0415  # numpy, torch
        from sae_assets.reading.project import open_project  # noqa: PLC0415

        kinds = open_project(home, catalog)[dataset][model]
        figures = export(
            kinds[token_kind or next(iter(kinds))],
            out,
            concepts=split_list(concepts, "--concepts"),
            units_only=units_only,
            include_encoder=include_encoder,
        )
        units = figures["units"]
        size = sum(path.stat().st_size for path in out.expanduser().iterdir())
        if as_json:
            print_json({"folder": str(out), "bytes": size, **{key: figures[key] for key in ("concepts", "units")}})
            return
        echo(f"{out}: {counted(len(figures['concepts']), 'concept')}, {size / 1e6:.2f} MB")
        if units["encoded"] == "needed":
            echo(f"Encodes {len(units['ids'])} of {units['n_units']:,} units, whose weights are in it.")
        else:
            origin = "their weights are in it" if units["included"] else "from the SAE's checkpoint, by its hash"
            echo(f"Encodes all {units['n_units']:,} units, {origin}. {units['reason']}.")
        if figures["without_unit"]:
            echo(f"Left out, for no unit was chosen: {', '.join(figures['without_unit'])}")
