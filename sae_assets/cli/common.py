"""All commands share the application, common options, and errors as messages with exit codes."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sae_assets.cli.advice import CATALOG, HOME, advice, told
from sae_assets.cli.interrupts import FIRST_CODE, SIGNALS, came, exit_code
from sae_assets.errors import CatalogError, DeviceError, SaeAssetsError
from sae_assets.wording import visible

# Panels of --help; what makes things, and where they stand, comes first and is in none.
FOUND, STORED, TAKEN = "What was found", "Chunks and files", "Take it elsewhere"
INTERRUPTED = "Interrupted."
GOES_ON = "Interrupted, what was made stays; the same command goes on from there."

FAILED, MISUNDERSTOOD = 1, 2
EXIT_CODES = {
    "0": "done (also where nothing was to do)",
    f"{FAILED}": "a run failed, a file is damaged (`verify`), a data set is not sound (`inspect`), an input could not "
    "be looked at (`detect`), something cannot be read or written",
    f"{MISUNDERSTOOD}": "the request cannot be understood: unknown option or name, value out of range, a device that "
    "is not there, a catalog with mistakes",
    ", ".join(str(FIRST_CODE + number) for number in SIGNALS): "interrupted by Ctrl-C, by SIGTERM: what was made "
    "stays, the run under way is *canceled* in the UI, and the same command goes on",
}

app = typer.Typer(
    help="Sparse SAE activations as Dagster assets: materialize, inspect, verify.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of everything that is written. (default: ~/.sae_assets)", callback=told(HOME)),
]
CatalogFile = Annotated[
    Path | None,
    typer.Option("--catalog", help="Your catalog file, merged over the packaged one.", callback=told(CATALOG)),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Debug = Annotated[bool, typer.Option(help="Show tracebacks and every Dagster event.")]


@contextmanager
def errors_without_traceback(as_json: bool, debug: bool, interrupted: str = INTERRUPTED) -> Iterator[None]:
    """Turn this package's errors, and an interrupt, into a message on stderr and an exit code."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):  # whoever reads what is printed has enough (`| head`): no word
        raise
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, KeyboardInterrupt) or came():  # an error may be what a library made of the signal
            typer.echo(json.dumps({"error": interrupted, "kind": "Interrupted"}) if as_json else interrupted, err=True)
            raise typer.Exit(exit_code()) from None
        if debug or not isinstance(error, (SaeAssetsError, OSError)):  # OSError: no space, no permission; it says where
            raise
        raise typer.Exit(report(error, as_json)) from None


def report(error: SaeAssetsError | OSError, as_json: bool) -> int:
    """Print an error on stderr; the exit code that it means."""
    text = advice(str(error))
    echo(json.dumps({"error": text, "kind": type(error).__name__}) if as_json else f"Error: {text}", err=True)
    # A device that this machine lacks is found out before any run; inside one it is the run that failed.
    return MISUNDERSTOOD if isinstance(error, (CatalogError, DeviceError)) else FAILED


def split_list(values: list[str] | None, what: str) -> list[str] | None:
    """Repeated options and comma-separated lists mean the same; None is "not given".

    Raises:
        CatalogError: given, but empty (a variable of a script that is not set): that is never taken for "all".
    """
    if not values:
        return None
    parts = [part for value in values for part in value.replace(" ", "").split(",") if part]
    if not parts:
        raise CatalogError(f"{what}: found nothing, expected one or more values. Leave it out to take the default.")
    return parts


def print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2))


def say(text: str) -> None:
    """Tell a person something while a command works: on stderr, above the progress bar if there is one."""
    echo(text, err=True)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text that names of others may stand in."""
    typer.echo(visible(text), file=sys.stderr if err else sys.stdout)
