"""``materialize``: its options, which are those of the stages, and what it does with them."""

import inspect
from functools import wraps
from typing import Annotated, Any

import typer

from sae_assets import commands
from sae_assets.cli.advice import advice
from sae_assets.cli.common import (
    GOES_ON,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    errors_without_traceback,
    print_json,
    say,
    split_list,
)
from sae_assets.cli.display import print_warnings
from sae_assets.cli.interrupts import came
from sae_assets.cli.progress import progress_bar
from sae_assets.cli.states import print_kinds, print_plan
from sae_assets.cli.summary import print_summary
from sae_assets.pipeline.options import (
    ChoiceOptions,
    DetectionOptions,
    EncodeOptions,
    MappingOptions,
    Options,
    ScoringOptions,
    ThresholdOptions,
)


def _help(kind: type[Options], name: str) -> str:
    """Return what the launchpad says of an option of the stages, as a sentence."""
    field = kind.model_fields[name]
    text, _, default = (field.description or "").partition("; default: ")
    return f"{text[0].upper()}{text[1:]}. (default: {default or field.default})"


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, why and at what cost, and make nothing.")
    ] = False,
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
    """Carry out ``sae-assets materialize``."""
    with errors_without_traceback(as_json, debug, GOES_ON):
        options = commands.requests.parse_options(
            k_stored=k_stored, batch_size=batch_size, forward_batch=forward_batch, precision=precision,
            target_units=clip_target, pruning=pruning, min_active=min_active, max_density=max_density,
            strength_percentile=strength_percentile, tail_fractions=split_list(tail_fractions, "--tail-fractions"),
            n_permutations=n_permutations, n_folds=n_folds, seed=seed,
            selection=selection, choose_by=choose_by, min_support=min_support, pooling=pooling, pooling_k=pooling_k,
            allow_missing_chunks=allow_missing_chunks or None,
        )  # fmt: skip
        names, kinds = split_list(datasets, "--datasets"), split_list(sample_type, "--sample-type") or ()
        asked: commands.requests.Asked = {
            "models": split_list(models, "--models"), "token_kinds": kinds, "chunks": split_list(chunks, "--chunks"),
            "first": first, "last": last, "options": options, "force": force,
        }  # fmt: skip
        with commands.session.open_session(home, catalog, device=device, file_format=file_format) as session:
            token_kinds = commands.plans.kinds(session, names, kinds)
            if not as_json:
                print_kinds(token_kinds)
            if dry_run:
                told = commands.plans.told(
                    session, session.plans(names, **asked), say if not as_json else lambda _: None
                )
                if as_json:
                    print_json({"datasets": told, "token_kinds": token_kinds})
                else:
                    print_plan(told)
                return
            warnings: dict[str, list[str]] = {}

            def on_warning(partition: str, text: str) -> None:
                warnings.setdefault(advice(text), []).append(partition)

            with progress_bar(quiet=as_json) as on_batch:
                n_runs, skipped = session.materialize(
                    names, **asked, on_batch=on_batch, on_warning=on_warning, on_wait=say, told_to_end=came, debug=debug
                )
            figures = commands.figures.summarize(session, session.dataset_names(names), options)
            if as_json:
                counts = {"runs": n_runs, "skipped": skipped, "token_kinds": token_kinds}
                print_json({**counts, "figures": figures, "warnings": warnings})
            else:
                print_summary(figures, session, n_runs, skipped)
                print_warnings(warnings)


@wraps(materialize)
def plan(**values: Any) -> None:
    """Carry out ``sae-assets plan``, which is ``materialize --dry-run``."""
    materialize(**values, dry_run=True)


plan.__signature__ = inspect.signature(materialize).replace(  # type: ignore[attr-defined]  # what typer reads options of
    parameters=[one for name, one in inspect.signature(materialize).parameters.items() if name != "dry_run"]
)
