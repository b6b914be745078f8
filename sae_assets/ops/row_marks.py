"""A unit marks rows of an example as its concept's, and these marks fall on the rows that are, or beside. (numerics 7)

How cut-offs are chosen is in ``ops.localization``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.artifacts.localization import METHODS, Localization
from sae_assets.errors import ArtifactError
from sae_assets.ops.intervals import clustered_f1_intervals
from sae_assets.ops.pooling import MAXIMUM, Pooling, pool_rows
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk, entries_of_pairs
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets.ops.truth_sets import spread


@dataclass(frozen=True)
class Choice:
    """Units and thresholds of scores by which examples are detected, one each per concept, and what is located."""

    units: Int[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    located: Bool[Tensor, " concepts"]
    pooling: Pooling


class SeenRows:
    """The rows of a chunk, seen by the chosen units. A unit's values are float64, 0 where none is stored."""

    def __init__(self, rows: SparseRows, units: Int[Tensor, " concepts"], pooling: Pooling):
        self.rows, self.example, self._units = rows, rows.example_of_row(), units
        # The largest row of an example is seen by its rows alone.
        self._pooled = None if pooling == MAXIMUM else pool_rows(rows, pooling)
        pair, entry = entries_of_pairs(rows, units)
        order = pair.sort(stable=True).indices
        self._row, self._value = rows.row_of_entry()[entry[order]], rows.values[entry[order]].double()
        self._starts = offsets_of(torch.bincount(pair, minlength=len(units)))

    def values(self, concept: int) -> Float[Tensor, " rows"]:
        low, high = self._starts[concept : concept + 2].tolist()
        values = torch.zeros(self.rows.n_rows, dtype=torch.float64, device="cpu")
        values[self._row[low:high]] = self._value[low:high]
        return values

    def detected(self, concept: int, values: Float[Tensor, " rows"], threshold: float) -> Bool[Tensor, " rows"]:
        """Return rows of examples whose score reaches the threshold; ``values`` are the unit's on the rows."""
        examples = torch.zeros(self.rows.n_examples, dtype=torch.bool, device="cpu")
        if self._pooled is None:
            examples[self.example[values >= threshold]] = True
        else:
            unit, score, example = self._pooled
            examples[example[(unit == self._units[concept]) & (score.double() >= threshold)]] = True
        return examples[self.example]

    def similarities(self, direction: Float[Tensor, " units"], row: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return cosine of these rows with a direction of length 1, in 0..1; 0 of rows that store nothing.

        Entries of a row are added in their order, so the bits depend on nothing else. The result is rounded to float32,
        so that rows that are alike tie, as by definition.
        """
        lengths = self.rows.entries_per_row()[row]
        entry, _ = spread(self.rows.row_offsets[row], lengths)
        value = self.rows.values[entry].double()
        products = value * direction[self.rows.unit_ids[entry].long()]
        dot, square = (
            torch.segment_reduce(terms, "sum", lengths=lengths, unsafe=True) for terms in (products, value.square())
        )
        cosine = torch.where(square > 0, dot / square.clamp(min=1e-300).sqrt(), 0.0)
        return cosine.clamp(max=1).float().double()

    def marks(
        self, concept: int, cutoffs: Float[Tensor, " 3"], direction: Float[Tensor, " units"]
    ) -> tuple[Bool[Tensor, "3 rows"], Bool[Tensor, " rows"]]:
        """Return rows that each method marks, none without a cut-off, and all rows of the detected examples."""
        values = self.values(concept)
        detected = self.detected(concept, values, float(cutoffs[0]))
        marks = torch.stack(
            [detected & (values >= cutoffs[0]), detected & (values >= cutoffs[1]), torch.zeros_like(detected)]
        )
        if not bool(cutoffs[2].isnan()):
            row = detected.nonzero().flatten()
            similarity = self.similarities(direction, row)
            marks[2, row] = (similarity >= cutoffs[2]) & (similarity > 0)
        return marks, detected


def truth_of(chunk: RowChunk) -> list[Bool[Tensor, " rows"]]:
    """Return which rows are each concept's."""
    truth = torch.zeros(len(chunk.truth.concepts), chunk.truth.n_rows, dtype=torch.bool, device="cpu")
    truth[chunk.truth.concept_ids.long(), chunk.truth.row_of_positive()] = True
    return list(truth)


@plain_arithmetic()
def mark_rows(
    rows: SparseRows, localization: Localization, pooling: Pooling = MAXIMUM
) -> Bool[Tensor, "3 concepts rows"]:
    """Return the rows of a chunk that each method marks for each concept, in the order of ``METHODS``.

    Args:
        pooling: as of :func:`localize`.

    Raises:
        ArtifactError: a chunk of another width.
    """
    if rows.n_units != localization.n_units:
        raise ArtifactError(f"A chunk has {rows.n_units} units, the localization {localization.n_units}.")
    seen = SeenRows(rows, localization.unit_ids, pooling)
    cutoffs = localization.cutoffs.T
    marks = [seen.marks(n, cutoffs[n], localization.direction(n))[0] for n in range(len(localization.concepts))]
    return torch.stack(marks, 1)


def expect_rows_of(chunk: RowChunk, concepts: Sequence[str], n_units: int) -> None:
    """Check that a chunk is of these concepts and units. Raises: ArtifactError, if it is not."""
    if chunk.activations.n_units != n_units:
        raise ArtifactError(f"A chunk has {chunk.activations.n_units} units, expected {n_units}.")
    if chunk.truth.concepts != tuple(concepts):
        raise ArtifactError(f"Ground truth is of concepts {list(chunk.truth.concepts)}, expected {list(concepts)}.")


def count_marks(
    chunks: Iterable[RowChunk],
    concepts: Sequence[str],
    choice: Choice,
    cutoffs: Float[Tensor, "3 concepts"],
    directions: Float[Tensor, "concepts units"],
) -> tuple[Int[Tensor, "3 2 concepts 4"], Int[Tensor, "2 concepts 4"], Float[Tensor, "3 concepts 2"]]:
    """Return row counts of every method, of whole detected examples, and intervals of the F1 on test.

    Raises:
        ArtifactError: chunks of another width or of other concepts.
    """
    judged = (choice.located & (choice.units >= 0)).nonzero().flatten().tolist()
    n = len(choice.units)
    counts = torch.zeros(len(METHODS) + 1, len(EVALUATED), n, 4, dtype=torch.int64, device="cpu")
    per_example: list[Tensor] = []
    for chunk in chunks:
        expect_rows_of(chunk, concepts, directions.shape[1])
        rows, truth = SeenRows(chunk.activations, choice.units, choice.pooling), truth_of(chunk)
        inside = [chunk.rows_in(split) for split in EVALUATED]
        each = torch.zeros(len(METHODS), n, chunk.activations.n_examples, 3, dtype=torch.int64, device="cpu")
        for concept in judged:
            marks, detected = rows.marks(concept, cutoffs[:, concept], directions[concept])
            for method, marked in enumerate([*marks, detected]):
                if method < len(METHODS) and bool(cutoffs[method, concept].isnan()):
                    continue
                positive = truth[concept]
                cells = [marked & positive, marked & ~positive, ~marked & positive, ~marked & ~positive]
                for index, chosen in enumerate(inside):
                    counts[method, index, concept] += torch.stack([(cell & chosen).sum() for cell in cells])
                if method < len(METHODS):
                    for column, cell in enumerate(cells[:3]):
                        where = rows.example[cell]
                        each[method, concept, :, column] = torch.bincount(where, minlength=each.shape[2])
        per_example.append(each[:, :, chunk.examples_in("test")])
    of_examples = torch.cat(per_example, 2)
    exists = torch.zeros(n, dtype=torch.bool, device="cpu")
    exists[judged] = counts[-1, 1, judged][:, [0, 2]].sum(1) > 0
    ends = torch.stack([clustered_f1_intervals(each) for each in of_examples])
    intervals = torch.where((exists & ~cutoffs.isnan())[..., None], ends, torch.nan)
    return counts[:-1], counts[-1], intervals
