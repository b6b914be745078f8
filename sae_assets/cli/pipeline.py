"""Commands that make things: ``demo`` and ``materialize``. Thin: they parse, call ``session`` and print."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sae_assets import commands
from sae_assets.catalog import load_catalog
from sae_assets.cli.common import (
    GOES_ON,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    errors_without_traceback,
    print_json,
    split_list,
)
from sae_assets.cli.display import print_summary, print_warnings, progress_bar
from sae_assets.pipeline.options import (
    ChoiceOptions,
    DetectionOptions,
    EncodeOptions,
    MappingOptions,
    Options,
    ScoringOptions,
    ThresholdOptions,
)
from sae_assets.settings import load_settings


def _help(kind: type[Options], name: str) -> str:
    """What the launchpad says of an option of the stages, as a sentence."""
    field = kind.model_fields[name]
    text, _, default = (field.description or "").partition("; default: ")
    return f"{text[0].upper()}{text[1:]}. (default: {default or field.default})"


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
        with progress_bar(quiet=as_json) as on_batch:
            made, skipped = session.materialize(names, on_batch=on_batch, debug=debug)
        figures = commands.figures.summarize(session, names)
        if summary is not None:
            from upath import UPath  # noqa: PLC0415 - loads fsspec, which no other command's head needs

            from sae_assets.storage.atomic import write_atomically  # noqa: PLC0415

            write_atomically(UPath(summary.absolute()), json.dumps(figures, indent=2).encode())
        if as_json:
            print_json(figures)
        else:
            print_summary(figures, session, made, skipped)


def _arrive(home: Path | None, every: float) -> None:
    from sae_assets.demo.arrivals import CHUNK, NAME, arrive, prepare  # noqa: PLC0415 - loads fsspec

    settings = load_settings(home)
    growing = prepare(settings.home, load_catalog().datasets["clevr_mini"])
    typer.echo(f"{growing.landed()} images have landed in {growing.root}; {CHUNK} more land every {every:.0f} s.")
    typer.echo("In another terminal:")
    typer.echo(f"  sae-assets ui --home {settings.home} --catalog {growing.catalog}")
    typer.echo("In the UI, under Automation, switch on:")
    typer.echo(f"  register_{NAME}_chunks   new images become chunks (partitions)")
    typer.echo(f"  backfill_{NAME}          a backfill of what is missing, every minute")
    typer.echo(f"  or follow_{NAME}         each asset as soon as its inputs are there")
    for count in arrive(growing, every):
        typer.echo(f"{count} images have landed.")
    typer.echo("All images have landed.")


@app.command()
def materialize(
    datasets: Annotated[list[str] | None, typer.Option("--datasets", "-d", help="Data sets. (default: all)")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--models", "-m", help="Models. (default: the data set's)")
    ] = None,
    sample_type: Annotated[
        list[str] | None,
        typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)"),
    ] = None,
    chunks: Annotated[list[str] | None, typer.Option(help="Chunk numbers, or 'all'. (default: all)")] = None,
    first: Annotated[str | None, typer.Option("--from", help="First stage. (default: examples)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last stage. (default: the last there is)")] = None,
    k_stored: Annotated[int | None, typer.Option(min=0, help=_help(EncodeOptions, "k_stored"))] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help=_help(EncodeOptions, "batch_size"))] = None,
    forward_batch: Annotated[int | None, typer.Option(min=1, help=_help(EncodeOptions, "forward_batch"))] = None,
    precision: Annotated[str | None, typer.Option(help=_help(EncodeOptions, "precision"))] = None,
    clip_target: Annotated[
        int | None, typer.Option("--clip-target", "--target-units", min=1, help=_help(MappingOptions, "target_units"))
    ] = None,
    pruning: Annotated[str | None, typer.Option(help=_help(MappingOptions, "pruning"))] = None,
    min_active: Annotated[int | None, typer.Option(min=0, help=_help(MappingOptions, "min_active"))] = None,
    max_density: Annotated[float | None, typer.Option(help=_help(MappingOptions, "max_density"))] = None,
    strength_percentile: Annotated[
        float | None, typer.Option(help=_help(MappingOptions, "strength_percentile"))
    ] = None,
    tail_fractions: Annotated[list[str] | None, typer.Option(help=_help(ThresholdOptions, "tail_fractions"))] = None,
    n_permutations: Annotated[int | None, typer.Option(min=0, help=_help(DetectionOptions, "n_permutations"))] = None,
    n_folds: Annotated[int | None, typer.Option(min=0, help=_help(ChoiceOptions, "n_folds"))] = None,
    selection: Annotated[str | None, typer.Option(help=_help(ChoiceOptions, "selection"))] = None,
    choose_by: Annotated[str | None, typer.Option(help=_help(ChoiceOptions, "choose_by"))] = None,
    min_support: Annotated[int | None, typer.Option(min=1, help=_help(ChoiceOptions, "min_support"))] = None,
    pooling: Annotated[str | None, typer.Option(help=_help(ScoringOptions, "pooling"))] = None,
    pooling_k: Annotated[int | None, typer.Option(min=1, help=_help(ScoringOptions, "pooling_k"))] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=_help(DetectionOptions, "seed"))] = None,
    allow_missing_chunks: Annotated[
        bool, typer.Option("--allow-missing-chunks", help="Aggregate over the chunks there are.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run also what is up to date.")] = False,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:<number>. (default: SAE_ASSETS_DEVICE, else auto)")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="parquet or pt. (default: SAE_ASSETS_FORMAT, else parquet)")
    ] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Materialize stages of data sets; what is up to date is skipped."""
    with errors_without_traceback(as_json, debug, GOES_ON):
        options = commands.requests.parse_options(
            k_stored=k_stored, batch_size=batch_size, forward_batch=forward_batch, precision=precision,
            target_units=clip_target, pruning=pruning, min_active=min_active, max_density=max_density,
            strength_percentile=strength_percentile, tail_fractions=split_list(tail_fractions, "--tail-fractions"),
            n_permutations=n_permutations, n_folds=n_folds, seed=seed,
            selection=selection, choose_by=choose_by, min_support=min_support, pooling=pooling, pooling_k=pooling_k,
            allow_missing_chunks=allow_missing_chunks or None,
        )  # fmt: skip
        names, kinds = split_list(datasets, "--datasets"), split_list(sample_type, "--sample-type")
        warnings: dict[str, list[str]] = {}
        model_names, numbers = split_list(models, "--models"), split_list(chunks, "--chunks")
        with commands.session.open_session(home, catalog, device=device, file_format=file_format) as session:
            with progress_bar(quiet=as_json) as on_batch:
                made, skipped = session.materialize(
                    names, models=model_names, token_kinds=kinds or (), chunks=numbers, first=first, last=last,
                    options=options, force=force, on_batch=on_batch, debug=debug,
                    on_warning=lambda partition, text: warnings.setdefault(text, []).append(partition),
                )  # fmt: skip
            figures = commands.figures.summarize(session, session.dataset_names(names), options)
            if as_json:
                print_json({"runs": made, "skipped": skipped, "figures": figures, "warnings": warnings})
            else:
                print_summary(figures, session, made, skipped)
                print_warnings(warnings)
