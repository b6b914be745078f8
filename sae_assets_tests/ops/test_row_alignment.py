"""Row figures of every pair against exhaustive dense ones and scikit-learn's, for any chunking and any blocks."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from sae_assets.errors import ArtifactError
from sae_assets.ops import row_chunks
from sae_assets.ops.detection_stats import EVALUATED
from sae_assets.ops.row_alignment import RowFigures, align_rows
from sae_assets.ops.row_chunks import RowChunk, count_per_example
from sae_assets_tests.reference import row_alignment as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, chunkings, random_world, worlds


def chunk_of(world: World) -> RowChunk:
    return RowChunk(world.filtered(), world.ground_truth(), world.splits)


def align(world: World, parts=None, **options) -> RowFigures:
    chunks = [chunk_of(world)] if parts is None else [chunk_of(world.take(part)) for part in parts]
    return align_rows(chunks, concepts=world.concepts, n_units=world.n_units, **options)


def split_rows(world: World, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Activations as float64 and truth of the split's rows."""
    rows = world.rows_in(split)
    return world.activations[rows].astype(np.float64), world.truth[rows]


def of_rows(values: list[float], truth: list[int], test: tuple[list[float], list[int]] | None = None) -> World:
    """One unit and one concept on the rows of one cal and one test example, which are the same unless given."""
    test = (values, truth) if test is None else test
    dense = np.array([*values, *test[0]], np.float32)[:, None]
    located = np.array([*truth, *test[1]], bool)[:, None]
    return World(dense, np.array([len(values), len(test[0])]), EVALUATED, located, np.ones((2, 1), bool))


def same(one: RowFigures, two: RowFigures) -> None:
    for field in dataclasses.fields(RowFigures):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) if isinstance(a, torch.Tensor) else a == b, field.name


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(max_rows=8))
def test_every_figure_is_the_exhaustive_one(device, world):
    """Threshold, counts, AP, AUROC and purity of every pair, and the best unit, against definitions in fractions."""
    got = align(world, device=device)
    assert got.n_rows == tuple(world.rows_in(split).sum() for split in EVALUATED)
    for unit, concept in np.ndindex(*got.thresholds.shape):
        cal, test = (split_rows(world, split) for split in EVALUATED)
        threshold = reference.best_threshold(cal[0][:, unit], cal[1][:, concept])
        np.testing.assert_equal(float(got.thresholds[unit, concept]), np.nan if threshold is None else threshold)
        for row, (values, truth) in enumerate((cal, test)):
            counts = reference.counts_at(values[:, unit], truth[:, concept], threshold)
            assert tuple(got.counts[row, unit, concept].tolist()) == counts
            expected = reference.average_precision(values[:, unit], truth[:, concept])
            np.testing.assert_allclose(float(got.average_precision[row, unit, concept]), expected, rtol=1e-12)
        values, truth = test[0][:, unit], test[1][:, concept]
        np.testing.assert_allclose(float(got.auroc[unit, concept]), reference.auroc(values, truth), rtol=1e-12)
        np.testing.assert_allclose(float(got.purity[unit, concept]), reference.purity(values, truth, 16), rtol=1e-12)
    for concept, truth in enumerate(split_rows(world, "cal")[1].T):
        assert got.best_units[concept] == reference.best_unit(split_rows(world, "cal")[0], truth)


@PROPERTY
@given(worlds(max_rows=8))
def test_figures_are_scikit_learns(world):
    """AP, AUROC, F1 and IoU to 1e-9, on rows that include ties, units that never fire, and zeros."""
    got = align(world)
    values, truth = split_rows(world, "test")
    rates = {"f1": f1_score, "iou": jaccard_score}
    for unit, concept in np.ndindex(*got.thresholds.shape):
        score, label = values[:, unit], truth[:, concept]
        if not label.any():
            assert bool(got.average_precision[1, unit, concept].isnan())
            continue
        expected = average_precision_score(label, score)
        assert abs(float(got.average_precision[1, unit, concept]) - expected) < 1e-9
        if not label.all():
            assert abs(float(got.auroc[unit, concept]) - roc_auc_score(label, score)) < 1e-9
        threshold = float(got.thresholds[unit, concept])
        if not np.isnan(threshold):
            for name, function in rates.items():
                expected = function(label, score >= threshold, zero_division=0.0)
                assert abs(float(got.rate(name)[1, unit, concept]) - expected) < 1e-9


def test_larger_rows_agree_with_scikit_learn():
    """Continuous values with a few ties, hundreds of rows, many distinct sets of concepts."""
    world = random_world(4, n_examples=120, rows=12, n_units=8, n_concepts=6)
    coarse = dataclasses.replace(world, activations=np.round(world.activations, 1))
    for each in (world, coarse):
        got, (values, truth) = align(each), split_rows(each, "test")
        for unit, concept in np.ndindex(*got.thresholds.shape):
            score, label = values[:, unit], truth[:, concept]
            assert abs(float(got.average_precision[1, unit, concept]) - average_precision_score(label, score)) < 1e-9
            assert abs(float(got.auroc[unit, concept]) - roc_auc_score(label, score)) < 1e-9


@PROPERTY
@given(world=worlds(), budget=st.sampled_from([1, 100]), entries=st.sampled_from([1, 7]), data=st.data())
def test_chunks_and_blocks_change_nothing(world, budget, entries, data):
    """In any chunks and order of examples, with any memory budget and blocks of any size: the same bits."""
    parts = data.draw(chunkings(len(world.lengths)))
    same(align(world), align(world, parts, memory_budget=budget, entries_at_once=entries))


def test_units_that_do_not_fit_one_sort_are_cut_on(monkeypatch):
    """Unit, value and set of concepts share 63 bits: fewer units at once give the same figures."""
    world = random_world(5)
    whole = align(world)
    monkeypatch.setattr(row_chunks, "units_at_once", lambda _: 5)
    same(whole, align(world))


def test_by_hand():
    """Values 5, 4, 2 and two rows at 0; rows 5, 2 and one at 0 are the concept's."""
    got = align(of_rows([5, 4, 2, 0, 0], [1, 0, 1, 1, 0]))
    assert float(got.thresholds[0, 0]) == 2 and got.counts[0, 0, 0].tolist() == [2, 1, 1]
    assert float(got.rate("f1")[1, 0, 0]) == 2 / 3 and float(got.rate("iou")[1, 0, 0]) == 1 / 2
    assert float(got.rate("precision")[1, 0, 0]) == 2 / 3 and float(got.rate("recall")[1, 0, 0]) == 2 / 3
    np.testing.assert_allclose(float(got.average_precision[1, 0, 0]), (1 + 2 / 3 + 3 / 5) / 3, rtol=1e-15)
    assert float(got.auroc[0, 0]) == 3.5 / 6  # 5 beats 4 and 0, 2 beats 0, 0 ties with 0
    assert float(got.purity[0, 0]) == 2 / 16


def test_a_threshold_of_cal_is_carried_over_to_test():
    """Test has values between and beside those of cal; its own best threshold would be another."""
    got = align(of_rows([4, 2, 1], [1, 1, 0], ([3, 2, 1.5, 1], [1, 0, 0, 1])))
    assert float(got.thresholds[0, 0]) == 2 and got.counts[1, 0, 0].tolist() == [1, 1, 1]


def test_purity_shares_a_tie_across_the_last_rank():
    """15 rows above, then four that tie, one of them true: a quarter of it has room."""
    values = [*range(100, 85, -1), 1, 1, 1, 1]
    got = align(of_rows(values, [*[1] * 10, *[0] * 5, 0, 1, 0, 0]))
    assert float(got.purity[0, 0]) == 10.25 / 16


def test_coverage_is_of_concepts_with_rows_on_both_splits():
    """Their best unit by cal AP, judged by its test AP; no concept gives null."""
    world = random_world(6, n_concepts=3)
    truth = world.truth.copy()
    truth[world.rows_in("test"), 2] = False
    world = dataclasses.replace(world, truth=truth)
    got = align(world)
    cal, test = (split_rows(world, split) for split in EVALUATED)
    reached = []
    for concept in range(2):
        precisions = [average_precision_score(cal[1][:, concept], column) for column in cal[0].T]
        best = int(np.argmax(precisions))
        assert got.best_units_by_ap[concept] == best
        reached.append(average_precision_score(test[1][:, concept], test[0][:, best]))
    for least in (0.0, *(r - 1e-6 for r in reached), *(r + 1e-6 for r in reached)):
        assert got.coverage(least) == np.mean([r >= least for r in reached])
    none = align(dataclasses.replace(world, truth=np.zeros_like(truth)))
    assert np.isnan(none.coverage(0.3)) and none.best_units_by_ap.tolist() == [-1] * 3 == none.best_units.tolist()


@PROPERTY
@given(world=worlds(), data=st.data())
def test_counts_per_example_add_up_to_the_pairs(world, data):
    """Each example's TP, FP and FN are those of its rows; over a split's examples they are the pair's counts."""
    got = align(world)
    n_concepts = len(world.concepts)
    pairs = st.tuples(st.integers(-1, world.n_units - 1), st.integers(0, n_concepts - 1))
    units, concepts = torch.tensor(data.draw(st.lists(pairs, min_size=1, max_size=5))).T
    thresholds = torch.where(units >= 0, got.thresholds[units, concepts], torch.nan)
    parts = data.draw(chunkings(len(world.lengths), shuffled=False))
    each = [count_per_example(chunk_of(world.take(part)), units, concepts, thresholds) for part in parts]
    counts = torch.cat(each, 1)
    for row, split in enumerate(EVALUATED):
        summed = counts[:, world.mask(split)].sum(1)
        for pair, (unit, concept) in enumerate(zip(units.tolist(), concepts.tolist(), strict=True)):
            expected = [0, 0, int(got.n_positive[row, concept])]
            assert summed[pair].tolist() == (got.counts[row, unit, concept].tolist() if unit >= 0 else expected)
    for example, pair in np.ndindex(len(world.lengths), len(units)):
        inside = world.example_of_row == example
        unit, threshold = int(units[pair]), float(thresholds[pair])
        values = world.activations[inside, unit].astype(np.float64)
        truth = world.truth[inside, int(concepts[pair])]
        expected = reference.counts_at(values, truth, None if np.isnan(threshold) else threshold)
        assert tuple(counts[pair, example].tolist()) == expected


def test_what_does_not_fit_is_refused():
    """Other units, other concepts, other splits, no chunks."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match="A chunk has 12 units, expected 3"):
        align_rows([chunk_of(world)], concepts=world.concepts, n_units=3)
    with pytest.raises(ArtifactError, match="Ground truth is of concepts"):
        align_rows([chunk_of(world)], concepts=("other",), n_units=12)
    with pytest.raises(ArtifactError, match="There are no chunks"):
        align_rows([], concepts=world.concepts, n_units=12)
    with pytest.raises(ArtifactError, match="60 examples, but 1 splits"):
        RowChunk(world.filtered(), world.ground_truth(), ("cal",))
    with pytest.raises(ArtifactError, match="must agree"):
        RowChunk(world.filtered(), world.take(range(59)).ground_truth(), world.splits)
