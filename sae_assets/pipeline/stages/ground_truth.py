"""``ground_truth``: which rows of a chunk are positive for which concept, under the model's own rows."""

from typing import Any

from sae_assets import ops
from sae_assets.chunks.contents import expect_contents
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.embedding_files import embedding_files
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Made, Pass, Result, Sources, Stage, Target
from sae_assets.rows.identity import transformer_identity, truth_settings
from sae_assets.rows.truth import row_truth
from sae_assets.storage.provenance import digest


def _make(work: Pass) -> Made:
    target, examples, labels = work.target, work.artifact("examples"), work.artifact("labels")
    reader = work.sources.reader(target.dataset)
    if target.token_kind != "cls":  # whose truth is the labels
        expect_contents(examples, target.chunk, reader, labels)
    truth = row_truth(labels, target.token_kind, target.dataset, target.model, reader)
    artifact = ops.ground_truth.collect_truth(
        truth.rows, labels.concepts, labels.first_index, truth.pixels, truth.patch_pixels
    )
    return GROUND_TRUTH.only(work, Result(artifact, Expected(limits={"labels": int(labels.labels.sum())})))


def _settings(target: Target, _options: Options) -> dict[str, Any]:
    return truth_settings(target.dataset, target.model, target.token_kind)


def _outside(target: Target, sources: Sources, options: Options) -> dict[str, str]:
    """Return transformer and embedding files, which say how many rows there are and where; ``cls`` rows are the
    examples."""
    if target.token_kind == "cls":
        return {}
    transformer = {"transformer": digest(transformer_identity(target.model.transformer))}
    return transformer | embedding_files(target, sources, options)


def _labels_on_rows(artifact: Any, expected: Expected) -> Outcome:
    """Masks that are all black and spans that meet no token leave every label without a row."""
    labels, positives = expected.limits["labels"], len(artifact.concept_ids)
    return Outcome(positives > 0 or labels == 0, {"labels": labels, "positives": positives})


def _counts(artifact: Any) -> dict[str, Any]:
    positives = artifact.concept_ids.bincount(minlength=len(artifact.concepts)).tolist()
    return {
        "rows": artifact.n_rows,
        "positive_rows": artifact.row_offsets.diff().gt(0).sum().item(),
        **{f"positive_rows[{name}]": count for name, count in zip(artifact.concepts, positives, strict=True)},
    }


GROUND_TRUTH = Stage(
    name="ground_truth",
    level="chunk",
    description="Which rows are positive for which concept, under the image's own transform.",
    make=_make,
    code_version="2",
    chunk_inputs=("examples", "labels"),
    settings=_settings,
    outside=_outside,
    checks=(
        Check(
            "labels_on_rows",
            "Some row shows a concept, where examples of the chunk are labelled with one.",
            _labels_on_rows,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_ground_truth,
)
