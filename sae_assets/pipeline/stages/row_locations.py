"""``row_locations``: where each row of a chunk stands in its example, under the model's own tokens and patches."""

from typing import Any

from sae_assets.chunks.contents import expect_contents
from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.embedding_files import embedding_files
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Made, Pass, Result, Sources, Stage, Target
from sae_assets.rows.identity import location_settings, transformer_identity
from sae_assets.rows.locations import locate_rows, unlocated
from sae_assets.storage.provenance import digest


def _make(work: Pass) -> Made:
    target, examples = work.target, work.artifact("examples")
    if target.token_kind == "cls":  # a row stands for its whole example, and nothing need be looked at
        return ROW_LOCATIONS.only(work, Result(unlocated(examples, 1), Expected(rows=1)))
    reader = work.sources.reader(target.dataset)
    expect_contents(examples, target.chunk, reader)
    return ROW_LOCATIONS.only(work, Result(locate_rows(examples, target.dataset, target.model, reader)))


def _settings(target: Target, _options: Options) -> dict[str, Any]:
    return {} if target.token_kind == "cls" else location_settings(target.dataset, target.model, target.token_kind)


def _outside(target: Target, sources: Sources, options: Options) -> dict[str, str]:
    """Return transformer and embedding files, which say how many rows there are and where; ``cls`` rows are the
    examples."""
    if target.token_kind == "cls":
        return {}
    transformer = {"transformer": digest(transformer_identity(target.model.transformer))}
    return transformer | embedding_files(target, sources, options)


def _known(artifact: Any, expected: Expected) -> Outcome:
    """Check that rows stand somewhere that is known; where ``expected.rows`` is 1, a row is its example."""
    return Outcome(artifact.is_known or expected.rows == 1, {"known": artifact.is_known})


def _counts(artifact: Any) -> dict[str, Any]:
    of = "characters" if artifact.spans is not None else "pixels" if artifact.transforms is not None else "unknown"
    shown = {"rows": artifact.n_rows, "examples": artifact.n_examples, "located_by": of}
    if artifact.transforms is not None:
        shown["grid"] = f"{artifact.grid[0]}x{artifact.grid[1]}"
        shown["patch"] = f"{artifact.patch[0]}x{artifact.patch[1]} pixels"
    return shown


ROW_LOCATIONS = Stage(
    name="row_locations",
    level="chunk",
    description="Where each row stands in its example: characters of a token, pixels of a patch.",
    make=_make,
    chunk_inputs=("examples",),
    settings=_settings,
    outside=_outside,
    checks=(Check("rows_located", "Something says where each row stands in its example.", _known, blocking=False),),
    counts=_counts,
)
