"""Controls are fitted, chosen and tested on all chunks, as examples and sampled rows (``ops.items``)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import SPLITS, GroundTruth, Labels, SparseRows
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.artifacts.examples import stands_in_for_train
from sae_assets.errors import ArtifactError
from sae_assets.ops.items import Items, LargestScores, UnitScores
from sae_assets.ops.logistic import N_FOLDS
from sae_assets.ops.pooling import MAXIMUM, Pooling, pool_rows
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
        n_rows: int64 [n_examples]; largest: scores in the directions of ``ops.detectors.row_mean_difference``: for them
            rows are looked at once more; None of :func:`collect`.
        random_rows: values of each random SAE on these rows; none where they were not collected.
        example_of_row: int64 [n_rows], number of each row's example.
    """

    examples: Items
    max_embeddings: Float[Tensor, "examples d"]
    random: tuple[UnitScores, ...]
    rows: Items | None
    example_of_row: Int[Tensor, " rows"]
    n_rows: Int[Tensor, " examples"]
    random_rows: tuple[UnitScores, ...] = ()
    largest: LargestScores | None = None


@plain_arithmetic()
def collect(
    chunks: Iterable[ControlChunk], device: torch.device | str = "cpu", pooling: Pooling = MAXIMUM
) -> ControlData:
    """Return everything that controls need of all chunks, which are gone through once.

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
            "n_rows": inputs.example_offsets.diff(),
            "units": (unit, example + n, value),
        }
        add |= _by_seed("random", inputs, inputs.n_examples, n)
        if chunk.truth is not None:
            add |= _rows(chunk, chunk.truth, n, n_rows)
            add |= _by_seed("row_random", inputs, len(inputs.row_ids), n_rows)
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
    random, of_rows = (
        tuple(scores_of(f"{name} {seed}") for seed in range(n_seeds) if f"{name} {seed}" in parts)
        for name in ("random", "row_random")
    )
    return ControlData(examples, whole("max"), random, rows, of_row.to(device), whole("n_rows"), of_rows)


def _by_seed(name: str, inputs: ControlInputs, n_items: int, first: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return unit, item and value of each random SAE, items numbered from ``first``; nothing if they were not
    collected."""
    if name not in inputs.random_codes:
        return {}
    offsets, units, values = inputs.random_codes[name]
    item = torch.repeat_interleave(torch.arange(n_items, device="cpu").repeat(inputs.n_seeds), offsets.diff())
    segments = offsets[:: max(1, n_items)].tolist() if n_items else [0] * (inputs.n_seeds + 1)
    return {
        f"{name} {seed}": (units[low:high].long(), item[low:high] + first, values[low:high])
        for seed, (low, high) in enumerate(pairwise(segments))
    }


def _rows(chunk: ControlChunk, truth: GroundTruth, first_example: int, first_row: int) -> dict[str, Any]:
    """Return the sampled rows of a chunk, numbered from ``first_row``."""
    ids, rows = chunk.inputs.row_ids, chunk.activations
    sample_index = torch.full((rows.n_rows,), -1, dtype=torch.int64, device="cpu")
    sample_index[ids] = torch.arange(len(ids), device="cpu")
    labels = torch.zeros(len(ids), len(truth.concepts), dtype=torch.bool, device="cpu")
    true = sample_index[truth.row_of_positive()]
    labels[true[true >= 0], truth.concept_ids.long()[true >= 0]] = True
    entry = sample_index[rows.row_of_entry()]
    some = entry >= 0
    return {
        "row labels": labels,
        "row example": rows.example_of_row()[ids] + first_example,
        "row embeddings": chunk.inputs.row_embeddings,
        "row units": (rows.unit_ids[some].long(), entry[some] + first_row, rows.values[some]),
    }
