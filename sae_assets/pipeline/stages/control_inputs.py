"""``control_inputs``: what controls need of a chunk's rows, made in the pass that encodes them.

Only data sets whose catalog entry has ``controls`` have it. Its encoder is that of ``sparse_activations``, and it is
made anew with it.
"""

from typing import Any

from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.embedding_files import embedding_files
from sae_assets.pipeline.options import EncodeOptions
from sae_assets.pipeline.scoring import scoring_settings
from sae_assets.pipeline.stage import Stage, Target
from sae_assets.pipeline.stages.sparse_activations import (
    catalog_keys,
    encoder_identity,
    make_rows,
    ratios,
    settings_of,
)


def _settings(target: Target, options: Any) -> dict[str, Any]:
    assert target.dataset.controls is not None  # else the data set has no such stage
    # The one row of an example under cls is its score.
    pooling = {} if target.token_kind == "cls" else scoring_settings(target, options)
    return {**settings_of(target, options), **target.dataset.controls.model_dump(exclude={"second_pass"}), **pooling}


def _catalog_keys(target: Target) -> dict[str, Any]:
    return {**catalog_keys(target), **_settings(target, EncodeOptions())}


def _embeddings_differ(artifact: Any, _expected: Expected) -> Outcome:
    """From embeddings that are all alike no control learns anything; one example is like itself."""
    first, n_examples = artifact.mean_embeddings[:1], artifact.n_examples
    alike = int((artifact.mean_embeddings == first).all(1).sum())
    return Outcome(n_examples < 2 or alike < n_examples, {"examples": n_examples, "like_the_first": alike})


def _counts(artifact: Any) -> dict[str, Any]:
    return {
        "rows": artifact.n_rows,
        "examples": artifact.n_examples,
        "sampled_rows": len(artifact.row_ids),
        "random_saes": artifact.n_seeds,
        **ratios(random_units_per_example=(len(artifact.random_units), artifact.n_seeds * artifact.n_examples)),
    }


CONTROL_INPUTS = Stage(
    name="control_inputs",
    level="chunk",
    description="Of each example, and of a sample of its rows, embeddings and the scores of random SAEs.",
    make=make_rows,
    code_version="3",
    chunk_inputs=("examples",),
    settings=_settings,
    catalog_keys=_catalog_keys,
    identity=encoder_identity,
    outside=embedding_files,
    options=EncodeOptions,
    every_kind=True,
    kept_if_current=True,
    shared="sparse_activations",
    after="sparse_activations",
    applies=lambda dataset: dataset.controls is not None,
    of_encoded=True,
    pool="gpu",
    checks=(
        Check(
            "embeddings_differ",
            "Examples of the chunk have different embeddings.",
            _embeddings_differ,
            blocking=False,
        ),
    ),
    counts=_counts,
)
