"""Controls: what a random SAE, or embeddings without any SAE, reach on the same test as the SAE's units (numerics 12).

How each is fitted is in ``ops.detectors``; here stands what they are fitted on, which there are, and how they compare.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import SPLITS, GroundTruth, Labels, SparseRows
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.artifacts.controls import CONTROLS, RANDOM, ROW_CONTROLS, UNIT, Controls
from sae_assets.artifacts.rows import stands_in_for_train
from sae_assets.errors import ArtifactError
from sae_assets.ops.detectors import (
    Detector,
    dimensions,
    k_sparse,
    logistic_on_embeddings,
    logistic_on_units,
    mean_difference,
    searched_units,
)
from sae_assets.ops.found_pairs import MIN_SUPPORT
from sae_assets.ops.intervals import (
    counts_of,
    difference_to_draws,
    f1_interval,
    weighted_f1,
    weighted_f1_difference,
    weighted_f1_interval,
)
from sae_assets.ops.items import Items, UnitScores
from sae_assets.ops.logistic import N_FOLDS
from sae_assets.ops.pooling import MAXIMUM, Pooling, pool_rows
from sae_assets.ops.prevalence_free import auroc, average_precision
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.thresholds import expect_same_rows


@dataclass(frozen=True)
class ControlChunk:
    """A chunk with all that controls read; ``truth`` where rows are classified too."""

    inputs: ControlInputs
    activations: SparseRows
    labels: Labels
    truth: GroundTruth | None = None

    def __post_init__(self) -> None:
        inputs, rows = self.inputs, self.activations
        if not torch.equal(inputs.example_offsets, rows.example_offsets) or inputs.n_units != rows.n_units:
            raise ArtifactError(
                f"Control inputs are of {inputs.n_examples} examples with {int(inputs.example_offsets[-1])} rows and "
                f"{inputs.n_units} units, activations of {rows.n_examples} with {rows.n_rows} and {rows.n_units}."
            )
        if len(self.labels) != rows.n_examples:
            raise ArtifactError(f"Labels are of {len(self.labels)} examples, activations of {rows.n_examples}.")
        if self.truth is not None:
            expect_same_rows(rows, self.truth)


@dataclass(frozen=True)
class ControlData:
    """All chunks, as what is classified.

    Attributes:
        examples: with mean embeddings and the SAE's scores, pooled.
        max_embeddings: float32 [n_examples, d_model]; random: scores of each random SAE, pooled as the SAE's.
        rows: the sampled rows, with their own embeddings and activations; None where truth was not given.
        example_of_row: int64 [n_rows], number of each row's example.
    """

    examples: Items
    max_embeddings: Float[Tensor, "examples d"]
    random: tuple[UnitScores, ...]
    rows: Items | None
    example_of_row: Int[Tensor, " rows"]


@plain_arithmetic()
def collect(
    chunks: Iterable[ControlChunk], device: torch.device | str = "cpu", pooling: Pooling = MAXIMUM
) -> ControlData:
    """Everything that controls need of all chunks, which are gone through once.

    Args:
        pooling: of the SAE's scores, as those of random SAEs come.

    Memory: two embeddings per example, the sampled rows, and 20 bytes for each (example, unit) with a score.

    Raises:
        ArtifactError: no chunks, chunks of different widths, or scores of random SAEs that are pooled otherwise.
    """
    parts: dict[str, list[Any]] = {}
    ids: list[str] = []
    n_rows = 0
    width: tuple[int, ...] = ()
    for chunk in chunks:
        inputs, n = chunk.inputs, len(ids)
        now = (inputs.n_units, inputs.d_model, inputs.n_seeds, chunk.labels.labels.shape[1])
        if width not in ((), now):
            raise ArtifactError(f"Chunks have other units, dimensions, seeds or concepts: {now} and {width}.")
        width = now
        several = bool((inputs.example_offsets.diff() > 1).any())  # of a single row, every pooling says the same
        if several and (inputs.pooling or MAXIMUM.label) != pooling.label:
            raise ArtifactError(
                f"Scores of random SAEs are pooled by {inputs.pooling or MAXIMUM.label}, those of units by "
                f"{pooling.label}. Materialize control_inputs again."
            )
        ids += chunk.labels.example_ids
        unit, value, example = pool_rows(chunk.activations, pooling)
        add = {
            "labels": chunk.labels.labels,
            "split": torch.tensor(
                [SPLITS.index(name) for name in chunk.labels.splits], dtype=torch.int64, device="cpu"
            ),
            "mean": inputs.mean_embeddings,
            "max": inputs.max_embeddings,
            "units": (unit, example + n, value),
        }
        seed_example = torch.repeat_interleave(
            torch.arange(len(inputs.random_offsets) - 1, device="cpu"), inputs.random_offsets.diff()
        )
        for seed in range(inputs.n_seeds):
            mine = seed_example // max(1, inputs.n_examples) == seed
            add[f"random {seed}"] = (
                inputs.random_units[mine].long(),
                seed_example[mine] % inputs.n_examples + n,
                inputs.random_values[mine],
            )
        if chunk.truth is not None:
            add |= _rows(chunk, chunk.truth, n, n_rows)
            n_rows += len(inputs.row_ids)
        for name, part in add.items():
            parts.setdefault(name, []).append(part)
    if not ids:
        raise ArtifactError("There are no chunks to compare controls in.")
    n_units, _, n_seeds, _ = width
    hashes = [hashlib.sha256(name.encode()).digest() for name in ids]
    order = torch.tensor(sorted(range(len(ids)), key=hashes.__getitem__), dtype=torch.int64, device="cpu").argsort()
    coin = torch.tensor([stands_in_for_train(name) for name in ids], dtype=torch.bool, device="cpu")

    def whole(name: str) -> Tensor:
        return torch.cat(parts[name]).to(device)

    def scores_of(name: str) -> UnitScores:
        unit, item, value = (torch.cat(column).to(device) for column in zip(*parts[name], strict=True))
        return UnitScores.of(unit, item, value, n_units)

    examples = Items(
        whole("labels"), whole("split"), order.to(device), coin.to(device), whole("mean"), scores_of("units")
    )
    rows, of_row = None, torch.zeros(0, dtype=torch.int64, device="cpu")
    if "row labels" in parts:
        of_row = torch.cat(parts["row example"])
        drawn = torch.randperm(len(of_row), generator=torch.Generator().manual_seed(0), device="cpu")
        rows = Items(
            whole("row labels"),
            examples.split[of_row.to(device)],
            drawn.to(device),
            examples.coin[of_row.to(device)],
            whole("row embeddings"),
            scores_of("row units"),
            (order[of_row] % N_FOLDS).to(device),
        )
    random = tuple(scores_of(f"random {seed}") for seed in range(n_seeds))
    return ControlData(examples, whole("max"), random, rows, of_row.to(device))


def _rows(chunk: ControlChunk, truth: GroundTruth, first_example: int, first_row: int) -> dict[str, Any]:
    """The sampled rows of a chunk, numbered from ``first_row``."""
    ids, rows = chunk.inputs.row_ids, chunk.activations
    place = torch.full((rows.n_rows,), -1, dtype=torch.int64, device="cpu")
    place[ids] = torch.arange(len(ids), device="cpu")
    labels = torch.zeros(len(ids), len(truth.concepts), dtype=torch.bool, device="cpu")
    true = place[truth.row_of_positive()]
    labels[true[true >= 0], truth.concept_ids.long()[true >= 0]] = True
    entry = place[rows.row_of_entry()]
    some = entry >= 0
    return {
        "row labels": labels,
        "row example": rows.example_of_row()[ids] + first_example,
        "row embeddings": chunk.inputs.row_embeddings,
        "row units": (rows.unit_ids[some].long(), entry[some] + first_row, rows.values[some]),
    }


FITTED: Mapping[str, Callable[..., Detector]] = {  # of all data, and of the cal positives that a threshold must find
    "diffmean": lambda data, min_support=MIN_SUPPORT: mean_difference(data.examples, min_support),
    "logistic": lambda data, min_support=MIN_SUPPORT: logistic_on_embeddings(data.examples, min_support),
    "logistic_units": lambda data, min_support=MIN_SUPPORT: logistic_on_units(data.examples, min_support),
    "k_sparse": lambda data, min_support=MIN_SUPPORT: k_sparse(data.examples, min_support),
    "embedding_dims": lambda data, min_support=MIN_SUPPORT: dimensions(data.examples, data.max_embeddings, min_support),
}
ROW_FITTED: Mapping[str, Callable[[Items, int], Detector]] = {
    "diffmean": mean_difference,
    "logistic": logistic_on_embeddings,
}


def counts_on_test(items: Items, detector: Detector) -> Int[Tensor, "concepts 4"]:
    """TP, FP, FN, TN of a detector, int64, on the CPU."""
    truth = items.labels[items.tests].T
    counts = counts_of(detector.detected, truth).sum(1)
    return torch.cat([counts, truth.shape[1] - counts.sum(-1, keepdim=True)], -1).cpu()


def random_units(data: ControlData, min_support: int = MIN_SUPPORT) -> list[Detector]:
    """The unit and threshold of each random SAE, chosen as if it were the SAE."""
    return [searched_units(data.examples, scores, min_support) for scores in data.random]


@plain_arithmetic()
def compare(
    concepts: Sequence[str],
    data: ControlData,
    unit: Detector,
    random: Sequence[Detector],
    fitted: Mapping[str, Detector],
    rows: "RowDetectors | None" = None,
) -> Controls:
    """The unit of each concept beside its controls, on test.

    Args:
        unit: of the best pair, which finds nothing where there is none.
        random, fitted: its controls, the latter by the names of ``FITTED``.
    """
    items = data.examples
    numbers = torch.arange(int(items.tests.sum()), device=items.labels.device)
    detectors = {UNIT: [unit], RANDOM: list(random), **{name: [fitted[name]] for name in CONTROLS[1:]}}
    keeps = torch.ones(len(concepts), dtype=torch.bool, device=items.labels.device)
    parts = [_figures(items, detectors, numbers, keeps)]
    if rows is not None and data.rows is not None:
        places = items.tests.long().cumsum(0) - 1
        of_row = places[data.example_of_row[data.rows.tests]]
        beside = {UNIT: [rows.unit], **{name: [rows.fitted[name]] for name in ROW_CONTROLS}}
        parts.append(_figures(data.rows, beside, of_row, rows.located.to(items.labels.device)))
    figures = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    n_items = torch.zeros(2, 3, dtype=torch.int64, device="cpu")
    for level, each in enumerate((items, data.rows)[: len(parts)]):
        assert each is not None
        n_items[level] = torch.stack([part.sum() for part in (each.fits, each.chooses, each.tests)]).cpu()
    return Controls(
        concepts=tuple(concepts),
        n_seeds=len(random),
        n_units=items.units.n_units,
        d_model=items.embeddings.shape[1],
        fitted_on_cal=items.fitted_on_cal,
        row_figures=len(parts) > 1,
        n_items=n_items,
        **figures,
    )


@dataclass(frozen=True)
class RowDetectors:
    """Detectors of the sampled rows: the unit that cal rows choose, those by the names of ``ROW_FITTED``.

    ``located`` is bool [n_concepts]: whether every positive example says where the concept is.
    """

    unit: Detector
    fitted: Mapping[str, Detector]
    located: Bool[Tensor, " concepts"]


def _figures(
    items: Items,
    detectors: Mapping[str, list[Detector]],
    example: Int[Tensor, " test"],
    keeps: Bool[Tensor, " concepts"],
) -> dict[str, Tensor]:
    """Figures on test of the unit, the first, and its controls; several detectors of one name are draws of a kind.

    Args:
        example: number of the test example that each test item is of.
        keeps: concepts that have figures at all.
    """
    truth = items.labels[items.tests].T.contiguous()
    keeps = keeps & truth.any(1) & ~truth.all(1)
    every = [detector for draws in detectors.values() for detector in draws]
    choices = torch.stack([torch.where(keeps, each.choices, -1) for each in every])
    exists = choices >= 0
    by_example = [
        _per_example(counts_of(each.detected & there[:, None], truth), example)
        for each, there in zip(every, exists, strict=True)
    ]
    counts = torch.stack([each.sum(1) for each in by_example])
    scores = [torch.where(there[:, None], each.scores, torch.nan) for each, there in zip(every, exists, strict=True)]
    differences, weighted, first = [], [], 1
    for draws in list(detectors.values())[1:]:
        places = range(first, first + len(draws))
        first += len(draws)
        both = keeps & exists[list(places)].any(0)  # a concept that no unit stands for is not detected: F1 0
        mine, others = by_example[0], [by_example[place] for place in places]
        of_each = torch.full((len(truth), 3), torch.nan, dtype=torch.float64, device=truth.device)
        for concept in both.nonzero().flatten().tolist():
            of_each[concept] = _difference(mine[[concept]], [other[[concept]] for other in others])
        of_all = torch.full((4,), torch.nan, dtype=torch.float64, device=truth.device)
        if bool(both.any()):
            of_all[0] = weighted_f1(mine[both])
            of_all[1] = torch.stack([weighted_f1(other[both]) for other in others]).mean()
            of_all[2:] = _difference(mine[both], [other[both] for other in others])[1:]
        differences.append(of_each)
        weighted.append(of_all)
    return {
        "choices": choices,
        "counts": torch.cat([counts, truth.shape[1] - counts.sum(-1, keepdim=True)], -1),
        "intervals": torch.where(exists[..., None], _intervals(by_example), torch.nan),
        "auroc": torch.stack([auroc(each, truth) for each in scores]),
        "average_precision": torch.stack([average_precision(each, truth) for each in scores]),
        "differences": torch.stack(differences),
        "weighted": torch.stack(weighted),
    }


def _per_example(counts: Int[Tensor, "concepts items 3"], example: Int[Tensor, " items"]) -> Int[Tensor, "c n 3"]:
    """TP, FP and FN of all items of each example that has any."""
    _, place = example.unique(return_inverse=True)
    n = int(place.max()) + 1 if len(place) else 0
    total = torch.zeros(len(counts), n, 3, dtype=torch.int64, device=counts.device)
    return total.index_add_(1, place, counts)


def _intervals(by_example: list[Int[Tensor, "concepts n 3"]]) -> Float[Tensor, "detectors concepts 2"]:
    """Of the F1 of each detector and concept; items of one example go together."""
    counts = torch.stack(by_example)
    if bool((counts.sum(-1) <= 1).all()):  # each example is one item
        true, false, missed = counts.sum(2).unbind(-1)
        return f1_interval(true, false, missed)
    ends = [weighted_f1_interval(each[[concept]])[1:] for each in counts for concept in range(counts.shape[1])]
    return torch.stack(ends).view(*counts.shape[:2], 2)


def _difference(mine: Int[Tensor, "c n 3"], draws: list[Int[Tensor, "c n 3"]]) -> Float[Tensor, " 3"]:
    """Of the weighted F1 to that of one other detector, or to the mean of several draws."""
    return weighted_f1_difference(mine, draws[0]) if len(draws) == 1 else difference_to_draws(mine, torch.stack(draws))
