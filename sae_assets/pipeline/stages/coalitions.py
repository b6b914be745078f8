"""``coalitions``: several units for one concept, grown on train, chosen on cal, reported on test."""

from collections.abc import Iterator, Mapping
from typing import Any

from sae_assets import ops
from sae_assets.artifacts.examples import stands_in_for_train
from sae_assets.errors import MismatchError
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.freezing import frozen_settings, kept_choice
from sae_assets.pipeline.options import ScoringOptions
from sae_assets.pipeline.plots import plot_coalitions
from sae_assets.pipeline.scoring import pooling_of, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target


def _make(work: Pass) -> Made:
    assert isinstance(work.options, ScoringOptions)
    pooling = pooling_of(work.target, work.options)
    best, labels = work.artifact("best_pairs"), work.inputs["labels"]
    halved = not any(labels.header(key).scalars["n_by_split"]["train"] for key in labels)
    chunks = work.inputs["sparse_activations"]
    n_units = int(chunks.header(next(iter(chunks))).scalars["n_units"])

    def scores(names: Mapping[str, str]) -> Any:
        """Return scores of two parts, under the names of the splits that are scored."""

        def labelled() -> Iterator[ops.example_scores.LabelledChunk]:
            for activations, chunk_labels in work.pairs("sparse_activations"):
                if chunk_labels.concepts != best.concepts:
                    what = f"Labels are of concepts {list(chunk_labels.concepts)}, pairs of {list(best.concepts)}"
                    raise MismatchError(f"{what}. Materialize the pairs again.")
                splits = parts_of(chunk_labels, halved)
                renamed = tuple(names.get(split, "") for split in splits)
                yield ops.example_scores.LabelledChunk(activations, renamed, chunk_labels.labels)

        return ops.example_scores.score_examples(
            labelled(), n_units=n_units, pooling=pooling, device=work.device, memory_budget=work.memory_budget
        )

    first, last = scores({"train": "cal", "cal": "test"}), scores({"test": "test"})
    artifact = ops.coalitions.choose_coalitions(
        first["cal"],
        first["test"],
        last["test"],
        concepts=best.concepts,
        pairs=(best.unit_ids, best.thresholds),
        halved=halved,
        earlier=kept_choice(work, COALITIONS),
    )
    return COALITIONS.only(work, Result(artifact, plot=lambda: plot_coalitions(artifact)))


def _settings(target: Target, options: ScoringOptions) -> dict[str, Any]:
    return {**scoring_settings(target, options), **frozen_settings(target)}


def parts_of(labels: Any, halved: bool) -> tuple[str, ...]:
    """Return splits of a chunk's examples; ``halved``, half of cal by the hash of its ids takes the place of train."""
    if not halved:
        return tuple(labels.splits)
    return tuple(
        "train" if split == "cal" and stands_in_for_train(example) else split
        for example, split in zip(labels.example_ids, labels.splits, strict=True)
    )


def _holds_up(artifact: Any, _expected: Expected) -> Outcome:
    several = [number for number, size in enumerate(artifact.sizes.tolist()) if size > 1]
    names = [
        f"{artifact.concepts[number]} ({difference:+.3g}, at most {high:+.3g})"
        for number in several
        for difference, _, high in [artifact.differences[number].tolist()]
        if high < 0
    ]
    shown = {"concepts": len(artifact.concepts), "of_several_units": len(several), "worse_than_one": len(names)}
    return Outcome(not names, {**shown, "names": ", ".join(names[:MOST_NAMED])} if names else shown)


def _counts(artifact: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {"of_several_units": int((artifact.sizes > 1).sum())}
    named = [*zip(artifact.concepts, artifact.f1[2].tolist(), artifact.differences[:, 0].tolist(), strict=True)]
    figures |= {f"test_f1[{name}]": f1 for name, f1, _ in named}
    figures |= {f"test_difference[{name}]": difference for name, _, difference in named}
    return {name: value for name, value in figures.items() if value == value}  # one that does not exist is not shown


COALITIONS = Stage(
    name="coalitions",
    level="model",
    description="Per concept the units that detect it together: grown on train, chosen on cal, beside the single one.",
    make=_make,
    code_version="5",
    chunk_inputs=("sparse_activations", "labels"),
    model_inputs=("best_pairs",),
    settings=_settings,
    options=ScoringOptions,
    seconds_offset=2000,
    splits=("train", "cal", "test"),
    checks=(
        Check(
            "not_worse_than_one",
            "No coalition of several units has a test F1 surely below that of the single unit.",
            _holds_up,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_coalitions,
)
