"""``remove`` takes chunks, or a whole data set, out of the home."""

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
from sae_assets.errors import CatalogError
from sae_assets.wording import counted


@app.command(rich_help_panel=STORED)
def remove(
    dataset: Annotated[str, typer.Argument(help="The data set.")],
    chunks: Annotated[list[str] | None, typer.Option(help="Chunk numbers. (default: with --all, all)")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole data set: chunks and aggregates.")] = False,
    unregistered: Annotated[
        bool, typer.Option("--unregistered", help="What Dagster alone lists as a chunk: somebody added it in the UI.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it only what would be removed is shown.")] = False,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove chunks of a data set, or all of it: files, manifests and partitions. A dry run unless --yes is given."""
    with errors_without_traceback(as_json, debug), commands.session.open_session(home, catalog) as session:
        name, chunk_numbers = session.dataset_names([dataset])[0], split_list(chunks, "--chunks")
        if bool(chunk_numbers or unregistered) == everything:
            raise CatalogError(
                "Say which chunks to remove (--chunks 3,4), --unregistered for what Dagster alone lists, or --all for "
                "the whole data set."
            )
        chosen_chunks = None if everything else chunk_numbers or []
        removal = commands.removing.find_removal(session, name, chosen_chunks, unregistered=unregistered)
        if yes:
            commands.removing.remove(session, removal)
        shown = {
            "dataset": name, "chunks": list(removal.chunks), "files": [str(path) for path in removal.files],
            "manifests": [str(path) for path in removal.manifests], "bytes": removal.n_bytes,
            "stale_aggregates": list(removal.aggregates), "unregistered": list(removal.orphans), "removed": yes,
        }  # fmt: skip
        if as_json:
            print_json(shown)
            return
        for path in [*removal.files, *removal.manifests]:
            echo(str(path))
        verb = "Removed" if yes else "Would remove (add --yes)"
        counts = ", ".join(
            counted(len(each), noun)
            for each, noun in ((removal.chunks, "chunk"), (removal.files, "file"), (removal.manifests, "manifest"))
        )
        echo(f"{verb} {counts}, {removal.n_bytes:,} bytes.")
        if removal.orphans:
            echo(f"{verb} from Dagster's list of chunks: {', '.join(removal.orphans)}.")
        if removal.aggregates:
            kinds = f" --token-kind {','.join(removal.token_kinds)}"
            command = advice(f"sae-assets materialize -d {name}{kinds}")
            echo(f"{len(removal.aggregates)} aggregates become stale. Run: {command}")
