"""The command line: ``sae-assets``. Thin: it parses, calls ``session`` and prints; Dagster does the work.

Exit codes: 0 done, 1 a run failed or a file is damaged, 2 the request cannot be understood.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sae_assets import __version__
from sae_assets.errors import CatalogError, SaeAssetsError

WORKSPACE = """\
load_from:
  - python_module:
      module_name: sae_assets.definitions
      location_name: sae_assets
"""

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


def _split(values: list[str] | None) -> list[str] | None:
    """Repeated options and comma-separated lists mean the same."""
    return [part for value in values for part in value.replace(" ", "").split(",") if part] if values else None


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2))


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"sae-assets {__version__}")
        raise typer.Exit


@app.command()
def demo(
    home: Home = None,
    summary: Annotated[Path | None, typer.Option(help="Write the figures as JSON to this file.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run the whole pipeline on the packaged data and show what it found."""
    from sae_assets.display import print_summary, progress_bar
    from sae_assets.session import open_session

    with errors_without_traceback(as_json, debug), open_session(home, None, use_user_catalog=False) as session:
        names = list(session.catalog.datasets)
        with progress_bar(quiet=as_json) as on_step:
            made, skipped = session.materialize(names, on_step=on_step, debug=debug)
        figures = session.summary(names)
        if summary is not None:
            from upath import UPath

            from sae_assets.storage.atomic import write_atomically

            write_atomically(UPath(summary.absolute()), json.dumps(figures, indent=2).encode())
        if as_json:
            _print_json(figures)
        else:
            print_summary(figures, session, made, skipped)


@app.command()
def materialize(
    datasets: Annotated[list[str] | None, typer.Option("--datasets", "-d", help="Data sets. [default: all]")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--models", "-m", help="Models. [default: the data set's]")
    ] = None,
    sample_type: Annotated[
        list[str] | None, typer.Option("--sample-type", "--token-kind", help="patch and/or cls. [default: patch]")
    ] = None,
    chunks: Annotated[list[str] | None, typer.Option(help="Chunk numbers, or 'all'. [default: all]")] = None,
    first: Annotated[str | None, typer.Option("--from", help="First stage. [default: examples]")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last stage. [default: best_pairs]")] = None,
    k_stored: Annotated[int | None, typer.Option(min=1, help="Entries kept per row.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples encoded together.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the transformer: float32, bfloat16, float16.")] = None,
    clip_target: Annotated[
        int | None, typer.Option("--clip-target", "--target-units", min=1, help="Most units to keep.")
    ] = None,
    pruning: Annotated[str | None, typer.Option(help="adaptive or fixed.")] = None,
    tail_fractions: Annotated[list[str] | None, typer.Option(help="Shares of the positive values to keep.")] = None,
    allow_missing_chunks: Annotated[
        bool, typer.Option("--allow-missing-chunks", help="Aggregate over the chunks there are.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run also what is up to date.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:<number>.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="parquet or pt.")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Materialize stages of data sets; what is up to date is skipped."""
    from sae_assets.display import print_summary, progress_bar
    from sae_assets.session import open_session, parse_options

    with errors_without_traceback(as_json, debug):
        options = parse_options(
            k_stored=k_stored, batch_size=batch_size, precision=precision, target_units=clip_target, pruning=pruning,
            tail_fractions=_split(tail_fractions), allow_missing_chunks=allow_missing_chunks or None,
        )  # fmt: skip
        with open_session(home, catalog, device=device, file_format=file_format) as session:
            with progress_bar(quiet=as_json) as on_step:
                made, skipped = session.materialize(
                    _split(datasets), models=_split(models), token_kinds=_split(sample_type) or ["patch"],
                    chunks=_split(chunks), first=first, last=last, options=options, force=force,
                    on_step=on_step, debug=debug,
                )  # fmt: skip
            figures = session.summary(session.dataset_names(_split(datasets)))
            if as_json:
                _print_json({"runs": made, "skipped": skipped, "figures": figures})
            else:
                print_summary(figures, session, made, skipped)


@app.command()
def register(
    datasets: Annotated[list[str] | None, typer.Option("--datasets", "-d", help="Data sets. [default: all]")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Register new examples as chunks (partitions); nothing is computed."""
    from sae_assets.session import open_session

    with errors_without_traceback(as_json, debug), open_session(home, catalog) as session:
        found = {name: session.register(name) for name in session.dataset_names(_split(datasets))}
        if as_json:
            _print_json(found)
        else:
            for name, keys in found.items():
                typer.echo(
                    f"{name}: {len(keys)} chunks registered ({keys[0]} … {keys[-1]})" if keys else f"{name}: none"
                )


@app.command()
def status(
    datasets: Annotated[list[str] | None, typer.Option("--datasets", "-d", help="Data sets. [default: all]")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what is materialized, stale or missing, per data set, model and chunk."""
    from sae_assets.display import print_status
    from sae_assets.session import open_session

    with errors_without_traceback(as_json, debug), open_session(home, catalog) as session:
        states = session.status(session.dataset_names(_split(datasets)))
        if as_json:
            _print_json(states)
        else:
            print_status(states)


@app.command()
def show(
    dataset: str,
    model: str,
    stage: str,
    token_kind: Annotated[str, typer.Option("--sample-type", "--token-kind", help="patch or cls.")] = "patch",
    chunk: Annotated[str | None, typer.Option(help="Chunk number. [default: the first one there is]")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of the table to print.")] = 10,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show metadata and the first rows of one stage's table."""
    from sae_assets.display import print_table
    from sae_assets.session import open_session

    with errors_without_traceback(as_json, debug), open_session(home, catalog) as session:
        content = session.show(dataset, model, stage, token_kind, chunk, rows)
        if as_json:
            _print_json(content)
        else:
            print_table(content)


@app.command()
def verify(home: Home = None, catalog: CatalogFile = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Read every stored file back: header, schema, invariants, content hash. Exit code 1 if one is damaged."""
    from sae_assets.session import open_session

    with errors_without_traceback(as_json, debug), open_session(home, catalog) as session:
        checked, damaged = session.verify()
        if as_json:
            _print_json({"files": checked, "damaged": damaged})
        else:
            for problem in damaged.values():
                typer.echo(problem, err=True)
            typer.echo(f"{checked} files read, {len(damaged)} damaged.")
        if damaged:
            raise typer.Exit(1)


@app.command()
def ui(
    home: Home = None,
    catalog: CatalogFile = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000,
    debug: Debug = False,
) -> None:
    """Open Dagster's UI and daemon on this home's history (`dagster dev`), on 127.0.0.1."""
    from sae_assets.instance import open_instance
    from sae_assets.settings import load_settings

    with errors_without_traceback(False, debug):
        settings = load_settings(home, catalog)
        with open_instance(settings):  # its tables are made before webserver and daemon race for them
            pass
        # The same location name as workspace.yaml's, so that switches set in the UI hold for both.
        workspace = settings.home / "workspace.yaml"
        workspace.write_text(WORKSPACE, encoding="utf-8")
        typer.echo(f"Dagster's UI: http://127.0.0.1:{port} (Ctrl-C stops it)")
        arguments = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1"]
        sys.stdout.flush()
        os.execve(sys.executable, [*arguments, "-p", str(port)], {**os.environ, **settings.environment()})


def run(command: Callable[..., None] = app) -> None:
    """Entry point of the console script."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    command()
