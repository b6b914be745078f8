"""Runs beside each other: counts against loops, F1 against scikit-learn, and how often a difference is told of none."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from sae_assets.artifacts import Labels
from sae_assets.errors import ArtifactError
from sae_assets.ops.comparison import TestCounts, compare_counts, count_on_test
from sae_assets.ops.intervals import weighted_f1_difference
from sae_assets.ops.row_chunks import RowChunk
from sae_assets_tests.strategies import World, random_world

pytestmark = pytest.mark.slow

UNITS, THRESHOLDS, OF_ROWS = [2, -1], [1.5, float("nan")], [0.5, float("nan")]


def chunks_of(world: World, parts: list[list[int]]) -> list[tuple[RowChunk, Labels]]:
    chunks = []
    for part in parts:
        mine = world.take(part)
        labels = Labels(
            world.concepts, part[0], tuple(f"e{number}" for number in part), mine.splits,
            torch.from_numpy(mine.labels), tuple("{}" for _ in part),
        )  # fmt: skip
        chunks.append((RowChunk(mine.sparse(), mine.ground_truth(), mine.splits), labels))
    return chunks


def counted(world: World, parts: list[list[int]], units: list[int], thresholds: list[float]) -> TestCounts:
    doubles = [torch.tensor(values, dtype=torch.float64) for values in (thresholds, OF_ROWS)]
    return count_on_test(
        chunks_of(world, parts),
        units=torch.tensor(units),
        thresholds=doubles[0],
        row_thresholds=doubles[1],
        located=torch.tensor([True, False]),
    )


@pytest.mark.parametrize("seed", [3, 4])
def test_counts_are_those_of_loops(seed: int) -> None:
    """Of every test example and concept, however examples are cut into chunks; a concept without a unit is missed."""
    world = random_world(seed, n_examples=40)
    n, tests = len(world.lengths), np.flatnonzero(world.examples_in("test"))
    whole = counted(world, [list(range(n))], UNITS, THRESHOLDS)
    cut = counted(world, [list(range(7)), list(range(7, n))], UNITS, THRESHOLDS)
    assert torch.equal(whole.examples, cut.examples) and torch.equal(whole.rows, cut.rows)
    assert whole.example_ids == cut.example_ids == tuple(f"e{number}" for number in tests)
    for concept, (unit, threshold, of_rows) in enumerate(zip(UNITS, THRESHOLDS, OF_ROWS, strict=True)):
        for place, example in enumerate(tests):
            rows = world.example_of_row == example
            values = world.activations[rows][:, unit] if unit >= 0 else np.zeros(rows.sum())
            found, true = bool((values >= threshold).any()), bool(world.labels[example, concept])
            expected = [found and true, found and not true, not found and true]
            assert whole.examples[concept, place].tolist() == expected
            fires, truth = values >= of_rows, world.truth[rows][:, concept]
            cells = [(fires & truth).sum(), (fires & ~truth).sum(), (~fires & truth).sum()]
            assert whole.rows[concept, place].tolist() == cells


def draw(rng: np.random.Generator, n: int, p_hit: float, p_false: float, truth: np.ndarray) -> torch.Tensor:
    """Counts of a detector that finds so many of the positives and of the others, int64 [n_concepts, n, 3]."""
    found = rng.random((len(truth), n)) < np.where(truth, p_hit, p_false)
    cells = np.stack([found & truth, found & ~truth, ~found & truth], -1)
    return torch.from_numpy(cells.astype(np.int64))


def of(counts: torch.Tensor, first: int = 0) -> TestCounts:
    n = counts.shape[1]
    return TestCounts(tuple(f"e{first + k}" for k in range(n)), counts, counts, torch.tensor([True] * len(counts)))


def test_f1_is_scikit_learns_and_differences_those_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 60)) < 0.4
    one, other = draw(rng, 60, 0.9, 0.1, truth), draw(rng, 60, 0.6, 0.3, truth)
    got = compare_counts(of(one), of(other))
    for concept in range(3):
        for counts, f1 in ((one, got.f1), (other, got.other_f1)):
            found = counts[concept, :, :2].sum(-1).bool().numpy()
            assert float(f1[concept]) == pytest.approx(f1_score(truth[concept], found))
        expected = weighted_f1_difference(one[[concept]], other[[concept]])
        assert torch.equal(got.differences[concept], expected)
    weights = truth.sum(1)
    assert float(got.f1[-1]) == pytest.approx(np.average(got.f1[:-1].numpy(), weights=weights))
    assert float(got.differences[-1, 0]) == pytest.approx(float(got.f1[-1] - got.other_f1[-1]))


def test_examples_are_paired_by_their_ids() -> None:
    """In whatever order they come; those of one run alone are left out."""
    rng = np.random.default_rng(1)
    truth = rng.random((2, 50)) < 0.5
    one, other = draw(rng, 50, 0.8, 0.2, truth), draw(rng, 50, 0.7, 0.2, truth)
    turned = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    names = tuple(f"e{int(k)}" for k in turned)
    shuffled = TestCounts(names, other[:, turned], other[:, turned], torch.tensor([True, True]))
    assert torch.equal(compare_counts(of(one), shuffled).differences, compare_counts(of(one), of(other)).differences)
    fewer = compare_counts(of(one[:, :30]), of(other[:, 10:], first=10))
    assert fewer.n_examples == 20
    assert torch.equal(fewer.differences, compare_counts(of(one[:, 10:30]), of(other[:, 10:30])).differences)


def test_what_cannot_be_compared() -> None:
    rng = np.random.default_rng(2)
    truth = np.array([[True] * 10, [False] * 10, [True] * 5 + [False] * 5])
    counts = of(draw(rng, 10, 0.5, 0.5, truth))
    got = compare_counts(counts, counts)
    assert got.differences[:2].isnan().all() and not got.differences[2:].isnan().any()
    assert got.differences[2:, 0].tolist() == [0, 0]
    nowhere = TestCounts(counts.example_ids, counts.examples, counts.rows, torch.tensor([False] * 3))
    assert compare_counts(nowhere, counts, by_rows=True).differences.isnan().all()
    with pytest.raises(ArtifactError, match="no test example in common"):
        compare_counts(counts, of(counts.examples, first=50))
    with pytest.raises(ArtifactError, match="3 and 2 concepts"):
        compare_counts(counts, of(counts.examples[:2]))


@pytest.mark.long
def test_a_difference_of_none_is_told_rarely() -> None:
    """Of 100 pairs of results that detect alike, at most ten have an interval without 0, also if they mostly agree."""
    rng = np.random.default_rng(3)
    told = {"apart": 0, "alike": 0}
    for _ in range(100):
        truth = rng.random((1, 60)) < 0.4
        one, other = draw(rng, 60, 0.8, 0.15, truth), draw(rng, 60, 0.8, 0.15, truth)
        mixed = torch.where(torch.from_numpy(rng.random(60) < 0.8)[None, :, None], one, other)
        for name, second in (("apart", other), ("alike", mixed)):
            _, low, high = compare_counts(of(one), of(second)).differences[0].tolist()
            told[name] += low > 0 or high < 0
    assert told["apart"] <= 10 and told["alike"] <= 10, told
