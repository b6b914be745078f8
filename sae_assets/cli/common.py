"""What all commands share: the application, common options, and errors as messages with exit codes.

Exit codes: 0 done, 1 a run failed or a file is damaged, 2 the request cannot be understood.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sae_assets.errors import CatalogError, SaeAssetsError

app = typer.Typer(
    help="Sparse SAE activations as Dagster assets: materialize, inspect, verify.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Home = Annotated[Path | None, typer.Option(help="Folder of everything that is written. [default: ~/.sae_assets]")]
CatalogFile = Annotated[Path | None, typer.Option("--catalog", help="Your catalog file, merged over the packaged one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Debug = Annotated[bool, typer.Option(help="Show tracebacks and every Dagster event.")]


@contextmanager
def errors_without_traceback(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn this package's errors into a message on stderr and an exit code."""
    try:
        yield
    except (SaeAssetsError, OSError) as error:  # OSError: no space, no permission; its text names the file
        if debug:
            raise
        message = {"error": str(error), "kind": type(error).__name__}
        typer.echo(json.dumps(message) if as_json else f"Error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, CatalogError) else 1) from None


def split_list(values: list[str] | None) -> list[str] | None:
    """Repeated options and comma-separated lists mean the same."""
    return [part for value in values for part in value.replace(" ", "").split(",") if part] if values else None


def print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2))
