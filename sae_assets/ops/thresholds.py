"""Thresholds: exact quantiles of the positive calibration values, per concept and unit and per unit (numerics 5).

One pass collects values, as in ``ops.unit_stats``; then those of as many pairs as fit the budget are sorted. Nothing of
the test split is looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import FilteredActivations, GroundTruth, SparseRows, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops.key_runs import KeyRuns
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import BITS, keys_within, linear_quantiles, pack, positions, sort_keys
from sae_assets.ops.truth_sets import spread
from sae_assets.ops.unit_stats import rows_of

TAIL_FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ENTRIES_AT_ONCE = 2**12  # whose keys, one per concept of their rows, the processor's cache holds while they are made


@plain_arithmetic()
def expect_same_rows(activations: SparseRows, truth: GroundTruth) -> None:
    """Refuse activations and ground truth of different chunks.

    Raises:
        ArtifactError: they start at different examples, or their examples have other numbers of rows.
    """
    if activations.first_example != truth.first_example:
        raise ArtifactError(
            f"Activations start at example {activations.first_example}, ground truth at {truth.first_example}: they "
            "are of different chunks."
        )
    if not torch.equal(activations.example_offsets, truth.example_offsets):
        raise ArtifactError(
            f"Activations have {activations.n_rows} rows over {activations.n_examples} examples, ground truth "
            f"{truth.n_rows} rows over {len(truth.example_offsets) - 1}: they must agree."
        )


@dataclass(frozen=True)
class CalibrationChunk:
    """A chunk's filtered activations, its row-level truth, and which of its examples are calibration examples."""

    activations: FilteredActivations
    truth: GroundTruth
    cal: Bool[Tensor, " examples"]

    def __post_init__(self) -> None:
        expect_same_rows(self.activations, self.truth)

    def keys(self, n_concepts: int) -> Int[Tensor, " n"]:
        """(pair, value) packed, of every positive value on calibration rows: as of "any", then of its row's concepts.

        Pairs are concept · units + unit, "any" being concept ``n_concepts``.
        """
        rows = self.activations
        entry = positions(rows_of(rows, self.cal).repeat_interleave(rows.entries_per_row()))
        of_unit = pack(rows.unit_ids.index_select(0, entry), rows.values.index_select(0, entry))
        row, offsets = rows.row_of_entry().index_select(0, entry), self.truth.row_offsets
        starts, lengths = offsets.index_select(0, row), offsets.diff().index_select(0, row)
        concepts = self.truth.concept_ids.long() * rows.n_units << BITS
        keys = torch.empty(len(entry) + int(lengths.sum()), dtype=torch.int64, device="cpu")
        filled = len(entry)
        torch.add(of_unit, n_concepts * rows.n_units << BITS, out=keys[:filled])
        for part in zip(*(each.split(ENTRIES_AT_ONCE) for each in (of_unit, starts, lengths)), strict=True):
            member, run = spread(*part[1:])
            stop = filled + len(run)
            torch.add(part[0].index_select(0, run), concepts.index_select(0, member), out=keys[filled:stop])
            filled = stop
        return keys


@plain_arithmetic()
def calibrate_thresholds(
    chunks: Iterable[CalibrationChunk],
    *,
    concepts: Sequence[str],
    kept_units: Int[Tensor, " kept"],
    tail_fractions: Sequence[float] = TAIL_FRACTIONS,
    device: torch.device | str = "cpu",
    memory_budget: int = 256 * 2**20,
) -> Thresholds:
    """Quantile (1 - p) of each (concept, unit)'s positive values on positive calibration rows, linear, exact.

    Args:
        chunks: gone through once.
        tail_fractions: shares p of the values to keep, each within (0, 1).
        memory_budget: as of ``compute_unit_stats``; at least one (concept, unit) pair's values are held.

    Raises:
        ArtifactError: tail fractions outside (0, 1) or not ascending, no calibration rows, or widths that differ.
    """
    if not all(0 < p < 1 for p in tail_fractions) or list(tail_fractions) != sorted(set(tail_fractions)):
        raise ArtifactError(f"Tail fractions must ascend within (0, 1), found {list(tail_fractions)}.")
    n_kept, n_concepts = len(kept_units), len(concepts)
    runs = KeyRuns(keys_within(memory_budget, device))
    rows, n_positive = _collect(chunks, concepts, n_kept, runs)
    if rows == 0:
        raise ArtifactError("There are no calibration rows: the chunks hold no example of split 'cal'.")

    q = 1 - torch.tensor(tail_fractions, dtype=torch.float64, device=device)
    values = torch.empty(len(n_positive), len(tail_fractions), dtype=torch.float64, device=device)
    for block in runs.blocks(n_positive):
        pairs, keys = slice(block.start, block.stop), sort_keys(block.keys.to(device))
        linear_quantiles(keys, n_positive[pairs].to(device), q, out=values[pairs])
        del block, keys  # before the next ones
    return Thresholds(
        concepts=tuple(concepts),
        kept_units=kept_units,
        tail_fractions=tuple(tail_fractions),
        n_positive=n_positive.view(n_concepts + 1, n_kept),
        values=values.view(n_concepts + 1, n_kept, -1).cpu(),
    )


def _collect(
    chunks: Iterable[CalibrationChunk], concepts: Sequence[str], n_kept: int, runs: KeyRuns
) -> tuple[int, Int[Tensor, " pairs"]]:
    """Calibration rows, and each pair's positive values; its own function, so that no chunk outlives the pass."""
    n_concepts = len(concepts)
    n_positive = torch.zeros((n_concepts + 1) * n_kept, dtype=torch.int64, device="cpu")
    rows = 0
    for chunk in chunks:
        activations = chunk.activations
        if activations.n_units != n_kept:
            raise ArtifactError(f"A chunk has {activations.n_units} kept units, the mapping {n_kept}.")
        if chunk.truth.concepts != tuple(concepts):
            raise ArtifactError(f"Ground truth is of concepts {list(chunk.truth.concepts)}, expected {list(concepts)}.")
        rows += int(rows_of(activations, chunk.cal).sum())
        keys = chunk.keys(n_concepts)
        n_positive += torch.bincount(keys >> BITS, minlength=len(n_positive))
        runs.add(keys)
    return rows, n_positive
