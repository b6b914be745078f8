"""Stages that score examples and rows share these settings, and read a model's chunks in this way."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Dataset
from sae_assets.datasets.reader import WEAK
from sae_assets.datasets.records import Record
from sae_assets.errors import MismatchError
from sae_assets.pipeline.options import Options, PoolingOptions
from sae_assets.pipeline.stage import Pass, Rereadable, Target
from sae_assets.storage.ahead import chunk_by_chunk

if TYPE_CHECKING:
    from sae_assets.artifacts import Labels
    from sae_assets.ops.example_scores import GatheredScores
    from sae_assets.ops.pooling import Pooling
    from sae_assets.ops.sorted_scores import ExampleScores


def catalog_or(target: Target, options: Options, names: Sequence[str]) -> dict[str, Any]:
    """Return keys of ``detection``: as set for one run, else as the data set's catalog entry says."""
    overrides = {name: getattr(options, name) for name in names}
    return {
        name: getattr(target.dataset.detection, name) if value is None else value for name, value in overrides.items()
    }


def scoring_settings(target: Target, options: PoolingOptions) -> dict[str, Any]:
    """Return how rows become the score of an example; ``pooling_k`` only where it changes it."""
    settings = catalog_or(target, options, ("pooling", "pooling_k"))
    return settings if settings["pooling"] == "topk_mean" else {"pooling": settings["pooling"]}


def pooling_of(target: Target, options: PoolingOptions) -> "Pooling":
    """Return the settings as ops take them."""
    settings = scoring_settings(target, options)
    return ops.pooling.Pooling(settings["pooling"], settings.get("pooling_k", 1))


def found_concepts(dataset: Dataset, records: Sequence[Record]) -> int:
    """Return how many concepts have the positives on cal that a threshold has to find."""
    cal = [record.labels for record in records if record.split == "cal"]
    return sum(sum(labels) >= dataset.detection.min_support for labels in zip(*cal, strict=True))


class Unlocated:
    """Positive examples on cal and on test that do not say where a concept is, counted as labels are read anyway.

    Attributes:
        total: int64 [2, n_concepts], of the chunks so far.
    """

    def __init__(self, work: Pass):
        # The one row of an example under cls is the example, so its truth is always its own.
        self._inherited = None if work.target.token_kind == "cls" else WEAK
        self.total: Any = 0

    def add(self, labels: "Labels") -> None:
        self.total = self.total + ops.row_alignment.count_unlocated([labels], self._inherited)

    @property
    def none(self) -> Any:
        """Concepts that every positive example locates, bool [n_concepts]."""
        return self.total.sum(0) == 0


def read_rows(work: Pass, concepts: Sequence[str], unlocated: Unlocated | None = None) -> Rereadable:
    """Return the activations of a pass with their truth and splits, as ops take them; each time, chunks are read anew.

    Args:
        unlocated: counts the labels the first time.

    Raises:
        MismatchError: while reading, truth of other concepts, which would count for each other.
    """
    chunks, truths, labels = (work.inputs[name] for name in ("sparse_activations", "ground_truth", "labels"))
    counting = [unlocated.add] if unlocated else []

    def read() -> "Iterator[ops.row_chunks.RowChunk]":
        count = counting.pop() if counting else None
        for activations, truth, chunk_labels in chunk_by_chunk(chunks, truths, labels):
            if truth.concepts != tuple(concepts):
                what = f"Rows are of concepts {list(truth.concepts)}, earlier stages of {list(concepts)}"
                raise MismatchError(f"{what}. Materialize those again.")
            if count:
                count(chunk_labels)
            yield ops.row_chunks.RowChunk(activations, truth, chunk_labels.splits)

    return Rereadable(read)


def gather_scores(
    work: Pass,
    concepts: Sequence[str],
    stage: str = "sparse_activations",
    n_units: int | None = None,
    unlocated: Unlocated | None = None,
) -> "tuple[GatheredScores, dict[str, list[Any]]]":
    """Return the scores of the examples of cal and test, and by split their numbers of rows chunk by chunk.

    Each chunk is read once.

    Args:
        concepts: what the labels must be of, in this order.
        stage: whose rows are scored; n_units: of them, if not the SAE's.
        unlocated: counts the labels.

    Raises:
        MismatchError: labels of other concepts, which would count for each other.
    """
    pooling = pooling_of(work.target, work.options)  # type: ignore[arg-type]
    chunks = work.inputs[stage]
    lengths: dict[str, list[Any]] = {split: [] for split in ops.sorted_scores.EVALUATED}

    def labelled() -> "Iterator[ops.example_scores.LabelledChunk]":
        for activations, labels in work.pairs(stage):
            if labels.concepts != tuple(concepts):
                what = f"Labels are of concepts {list(labels.concepts)}, earlier stages of {list(concepts)}"
                raise MismatchError(f"{what}. Materialize those again.")
            if unlocated:
                unlocated.add(labels)
            for split, parts in lengths.items():
                parts.append(activations.example_offsets.diff()[labels.in_split(split)])
            yield ops.example_scores.LabelledChunk(activations, labels.splits, labels.labels)

    if n_units is None:
        n_units = int(chunks.header(next(iter(chunks))).scalars["n_units"])
    scores = ops.example_scores.gather_scores(
        labelled(), n_units=n_units, pooling=pooling, device=work.device, memory_budget=work.memory_budget
    )
    return scores, lengths


def score_examples(
    work: Pass, concepts: Sequence[str], unlocated: Unlocated | None = None
) -> "tuple[dict[str, ExampleScores], dict[str, list[Any]]]":
    """Return by split all scores of every unit at once, and the numbers of rows, as :func:`gather_scores` does."""
    scores, lengths = gather_scores(work, concepts, unlocated=unlocated)
    return scores.whole(), lengths
