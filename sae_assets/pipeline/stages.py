"""The stages: their names, levels, inputs and code versions, in one table that everything else reads.

The asset factory, the command line, fingerprints and the documentation all follow this table. What a stage does is in
``assets`` and ``ops``; raise its ``code_version`` when its result changes.
"""

from dataclasses import dataclass
from typing import Literal

from sae_assets.errors import CatalogError

Level = Literal["dataset-chunk", "chunk", "model"]


@dataclass(frozen=True)
class Stage:
    """One stage of the graph.

    Attributes:
        level: ``dataset-chunk`` (no model), ``chunk`` (model × chunk) or ``model``.
        chunk_inputs: stages read for the same chunk if the stage is chunk-level, for every chunk if it is model-level.
        model_inputs: model-level stages read for the same model.
        op: name of the step that makes it; two stages of one op come from one pass.
        splits: a model-level stage reads the chunks that hold an example of one of these, and no others.
    """

    name: str
    level: Level
    description: str
    chunk_inputs: tuple[str, ...] = ()
    model_inputs: tuple[str, ...] = ()
    code_version: str = "1"
    op: str = ""
    splits: tuple[str, ...] = ("cal",)


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "examples", "dataset-chunk", "The immutable manifest of a chunk: example ids, paths, file hashes.",
            code_version="3",
        ),
        Stage(
            "labels", "dataset-chunk", "Splits and labels of a chunk's examples, and hashes of their masks or spans.",
            ("examples",),
        ),
        Stage(
            "ground_truth", "chunk", "Which rows are positive for which concept, under the image's own transform.",
            ("examples", "labels"),
        ),
        Stage(
            "sparse_activations", "chunk", "SAE activations of every row, sparse, from one pass of the transformer.",
            ("examples",),
        ),
        Stage(
            "unit_stats", "model", "Count, mean, max, p95, p99, density and selectivity of every unit on cal rows.",
            ("sparse_activations", "labels"), code_version="2",
        ),
        Stage(
            "unit_mapping", "model", "Which units are kept, in which order, and why each other one is not.",
            ("ground_truth", "labels"), ("unit_stats",),
        ),
        Stage(
            "filtered_activations", "chunk", "The activations of kept units only, renumbered.",
            ("sparse_activations",), ("unit_mapping",),
        ),
        Stage(
            "thresholds", "model", "Detection cut-offs: exact quantiles of positive cal values per concept and unit.",
            ("filtered_activations", "ground_truth", "labels"), ("unit_mapping",),
        ),
        Stage(
            "detection_stats", "model", "Confusion counts of every (concept, unit, tail fraction) on cal and test.",
            ("filtered_activations", "labels"), ("thresholds",), op="detection", splits=("cal", "test"),
            code_version="2",
        ),
        Stage(
            "best_pairs", "model", "Per concept the pair chosen on cal, its test figures, chance level and interval.",
            ("filtered_activations", "labels"), ("thresholds",), op="detection", splits=("cal", "test"),
            code_version="2",
        ),
    )
}  # fmt: skip
ORDER = tuple(STAGES)
FROZEN_STAGES = ("unit_stats", "unit_mapping", "thresholds")  # kept as they are where `calibration: freeze`
MODEL_STAGES = tuple(name for name in ORDER if STAGES[name].level == "model")
CHUNK_STAGES = tuple(name for name in ORDER if STAGES[name].level == "chunk")


def stage_range(first: str | None, last: str | None) -> tuple[str, ...]:
    """Stage names from ``first`` to ``last``, both included; None means the ends.

    Raises:
        CatalogError: an unknown stage, or a first one that comes after the last.
    """
    from sae_assets.catalog import match_name

    start = ORDER.index(match_name(first, ORDER, "stage")) if first else 0
    stop = ORDER.index(match_name(last, ORDER, "stage")) if last else len(ORDER) - 1
    if start > stop:
        raise CatalogError(f"Stage {ORDER[start]!r} comes after {ORDER[stop]!r}; the order is {', '.join(ORDER)}.")
    return ORDER[start : stop + 1]
