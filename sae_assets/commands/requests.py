"""A person's request is matched against catalog and registered chunks before anything is done."""

from collections.abc import Sequence
from typing import TypedDict

from sae_assets.catalog import Catalog, Dataset, match_name
from sae_assets.chunks.chunking import chunk_key
from sae_assets.datasets import open_dataset
from sae_assets.datasets.records import split_advice
from sae_assets.errors import CatalogError, MissingChunksError
from sae_assets.pipeline.options import RunOptions
from sae_assets.pipeline.options import parse_options as parse
from sae_assets.pipeline.stages import STAGES, options_kinds


class Asked(TypedDict, total=False):
    """A request is of data sets; what is left out or None is all that there is.

    ``token_kinds``: an empty sequence is the data set's first; ``first``, ``last``: stages; ``options``: of stages, in
    place of the catalog's; ``force``: also what is up to date.
    """

    models: Sequence[str] | None
    token_kinds: Sequence[str] | None
    chunks: Sequence[str] | None
    first: str | None
    last: str | None
    options: RunOptions | None
    force: bool


def parse_options(**options: object) -> RunOptions:
    """Return options of the stages from what was given on the command line; None is "not given".

    Raises:
        CatalogError: values out of range; all of them are named.
    """
    fractions = options.get("tail_fractions")
    if isinstance(fractions, Sequence):
        try:
            options["tail_fractions"] = [float(part) for part in fractions]
        except ValueError as error:
            raise CatalogError(f"Tail fractions must be numbers, separated by commas: {error}.") from None
    return parse(options_kinds(), options)


def chunk_keys(numbers: Sequence[str], option: str = "--chunks") -> list[str]:
    """Return keys of chunks as a person numbers them; whether they are registered is not looked at.

    Raises:
        CatalogError: something else than a number.
    """
    wrong = [number for number in numbers if not (number.isascii() and number.isdecimal())]
    if wrong:
        raise CatalogError(f"{option}: found {', '.join(map(repr, wrong))}, expected chunk numbers such as 0,1,2.")
    return [chunk_key(int(number)) for number in numbers]


def token_kinds_among(catalog: Catalog, dataset: str, kinds: Sequence[str] | None) -> list[str]:
    """Return the data set's kinds among these; None is all of them, an empty sequence its first (patch or token).

    Raises:
        CatalogError: the data set has none of them, with a suggestion.
    """
    own = catalog.datasets[dataset].token_kinds
    if not kinds:
        return list(own if kinds is None else own[:1])
    every_kind = {kind for entry in catalog.datasets.values() for kind in entry.token_kinds}
    named = [match_name(kind, every_kind, "token kind") for kind in kinds]
    return [kind for kind in own if kind in named] or [match_name(named[0], own, f"token kind of {dataset}")]


def models_among(catalog: Catalog, dataset: str, models: Sequence[str] | None) -> list[str]:
    """Return the data set's models among these; None is all of them. Raises: CatalogError: an unknown model."""
    used = catalog.datasets[dataset].models
    if not models:
        return list(used)
    return [name for name in (match_name(model, catalog.models, "model") for model in models) if name in used]


def chunks_among(dataset: str, registered: Sequence[str], keys: Sequence[str] | None) -> list[str]:
    """Return these chunks, or all.

    Raises:
        CatalogError: some are not registered.
    """
    unknown = [key for key in keys or () if key not in registered]
    if unknown:
        ends = f"{registered[0]} … {registered[-1]}" if registered else "none"
        raise CatalogError(f"Data set {dataset!r} has no chunk {', '.join(unknown)}; registered are {ends}.")
    return list(registered if keys is None else keys)


def calibration_missing(dataset: Dataset, stages: Sequence[str]) -> None:
    """Refuse to start hours of work that must fail at its first aggregate.

    Raises:
        MissingChunksError: the data set has no calibration examples, and a stage that needs them was asked for.
    """
    if not any(STAGES[stage].level == "model" for stage in stages):
        return
    splits = [record.split for record in open_dataset(dataset).records]
    if "cal" not in splits:
        counts = ", ".join(f"{split} {splits.count(split)}" for split in ("train", "cal", "test"))
        raise MissingChunksError(
            f"Data set {dataset.name!r} has no calibration examples ({counts}), which statistics and thresholds are "
            f"fitted on: {split_advice(dataset)}. Or end with --to sparse_activations."
        )
