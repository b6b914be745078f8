"""Results beside each other: what chosen units of two SAEs, layers or token kinds make of the same test examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import Labels
from sae_assets.errors import ArtifactError
from sae_assets.ops.intervals import counts_of, weighted_f1, weighted_f1_difference
from sae_assets.ops.pooling import MAXIMUM, Pooling
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.row_marks import SeenRows, truth_of


@dataclass(frozen=True)
class TestCounts:
    """The counts say what each concept's unit makes of test examples.

    Attributes:
        example_ids: of the examples; examples: int64 [n_concepts, n_examples, 3], TP FP FN of each by itself.
        rows: int64 of the same shape, in rows of each example; of concepts that are not located nothing is said.
        located: bool [n_concepts].
    """

    __test__ = False  # no test, whatever pytest makes of its name

    example_ids: tuple[str, ...]
    examples: Int[Tensor, "concepts examples 3"]
    rows: Int[Tensor, "concepts examples 3"]
    located: Bool[Tensor, " concepts"]

    def only(self, example_ids: Sequence[str]) -> "TestCounts":
        """Return the same of these examples, in this order."""
        index = {name: number for number, name in enumerate(self.example_ids)}
        chosen = torch.tensor([index[name] for name in example_ids], dtype=torch.int64, device="cpu")
        return TestCounts(tuple(example_ids), self.examples[:, chosen], self.rows[:, chosen], self.located)


@plain_arithmetic()
def count_on_test(
    chunks: Iterable[tuple[RowChunk, Labels]],
    *,
    units: Int[Tensor, " concepts"],
    thresholds: Float[Tensor, " concepts"],
    row_thresholds: Float[Tensor, " concepts"],
    located: Bool[Tensor, " concepts"],
    pooling: Pooling = MAXIMUM,
) -> TestCounts:
    """Return examples that each concept's unit detects, and rows that it fires on from its row threshold on.

    Args:
        units: original ids, -1 where none stands for the concept; thresholds, row_thresholds: float64, NaN there.

    Raises:
        ArtifactError: no chunks, or truth of other concepts than the units.
    """
    ids: list[str] = []
    examples, of_rows = [], []
    for chunk, labels in chunks:
        if len(chunk.truth.concepts) != len(units):
            raise ArtifactError(f"Truth is of {len(chunk.truth.concepts)} concepts, units of {len(units)}.")
        seen, truth, tests = SeenRows(chunk.activations, units, pooling), truth_of(chunk), labels.in_split("test")
        n, example = chunk.activations.n_examples, chunk.activations.example_of_row()
        ids += [name for name, mine in zip(labels.example_ids, tests.tolist(), strict=True) if mine]
        detected = torch.zeros(len(units), n, dtype=torch.bool, device="cpu")
        rows = torch.zeros(len(units), n, 3, dtype=torch.int64, device="cpu")
        for concept in range(len(units)):
            values, threshold = seen.values(concept), float(thresholds[concept])
            if threshold == threshold:
                detected[concept, example[seen.detected(concept, values, threshold)]] = True
            fires = values >= row_thresholds[concept]  # never of one that is NaN
            cells = counts_of(fires[None], truth[concept][None])[0]
            rows[concept].index_add_(0, example, cells)
        examples.append(counts_of(detected, labels.labels.T)[:, tests])
        of_rows.append(rows[:, tests])
    if not examples:
        raise ArtifactError("There are no chunks to compare in.")
    return TestCounts(tuple(ids), torch.cat(examples, 1), torch.cat(of_rows, 1), located)


@dataclass(frozen=True)
class Differences:
    """F1 of one side minus that of the other on the same test examples: estimate, low and high of the 95 % interval.

    Attributes:
        n_examples: that both have; f1, other_f1: float64 [n_concepts + 1], the last the mean weighted by positives.
        differences: float64 [n_concepts + 1, 3]; NaN of concepts that test lacks, and on rows of those not located.
    """

    n_examples: int
    f1: Float[Tensor, " concepts_plus_1"]
    other_f1: Float[Tensor, " concepts_plus_1"]
    differences: Float[Tensor, "concepts_plus_1 3"]


@plain_arithmetic()
def compare_counts(one: TestCounts, other: TestCounts, *, by_rows: bool = False) -> Differences:
    """Return the F1 of two sides on the test examples that both have, by ``ops.intervals.weighted_f1_difference``.

    Args:
        by_rows: of rows in place of examples, over concepts that both locate; each side counts its own rows, and those
            of an example go together.

    Raises:
        ArtifactError: counts of other concepts, or without a test example in common.
    """
    if len(one.examples) != len(other.examples):
        raise ArtifactError(f"Results are of {len(one.examples)} and {len(other.examples)} concepts.")
    names = set(other.example_ids)
    common = [name for name in one.example_ids if name in names]
    if not common:
        raise ArtifactError("The results have no test example in common.")
    one, other = one.only(common), other.only(common)
    mine, others = (one.rows, other.rows) if by_rows else (one.examples, other.examples)
    positive = torch.stack([counts[..., [0, 2]].sum((1, 2)) for counts in (mine, others)])
    keeps = (positive > 0).all(0)
    keeps &= (one.located & other.located) if by_rows else (positive[0] < len(common))
    differences = torch.full((len(mine) + 1, 3), torch.nan, dtype=torch.float64, device="cpu")
    f1, other_f1 = differences[:, 0].clone(), differences[:, 0].clone()
    indices = keeps.nonzero().flatten().tolist()
    for index, concepts in [*((each, [each]) for each in indices), (len(mine), indices)] if indices else []:
        differences[index] = weighted_f1_difference(mine[concepts], others[concepts])
        f1[index], other_f1[index] = weighted_f1(mine[concepts]), weighted_f1(others[concepts])
    return Differences(len(common), f1, other_f1, differences)
