"""Row figures of every pair against exhaustive dense ones and scikit-learn's, for any chunking and any blocks."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from sae_assets.artifacts.row_alignment import MATCHES, RowAlignment
from sae_assets.errors import ArtifactError
from sae_assets.ops import row_chunks
from sae_assets.ops.ground_truth import collect_truth, covered_patches, pixels_of_patches
from sae_assets.ops.intervals import clustered_f1_intervals
from sae_assets.ops.row_alignment import PixelCounts, RowFigures, align_rows, rank_pairs
from sae_assets.ops.row_chunks import RowChunk, count_per_example
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets_tests.reference import row_alignment as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, activations, chunkings, random_world, worlds


def chunk_of(world: World) -> RowChunk:
    return RowChunk(world.filtered(), world.ground_truth(), world.splits)


def align(world: World, parts=None, **options) -> RowFigures:
    chunks = [chunk_of(world)] if parts is None else [chunk_of(world.take(part)) for part in parts]
    return align_rows(chunks, concepts=world.concepts, n_units=world.n_units, **options)


def pixel_iou(figures: RowFigures, chunks: list[RowChunk]) -> torch.Tensor:
    pixels = PixelCounts(figures.thresholds)
    for chunk in chunks:
        pixels.add(chunk)
    return pixels.iou(figures.predicted[1])


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def ranked(world: World, n_unlocated=None) -> RowAlignment:
    """The stored figures of a world's rows."""
    nowhere = torch.zeros(2, len(world.concepts), dtype=torch.int64) if n_unlocated is None else n_unlocated
    return rank_pairs(align(world), [chunk_of(world)], concepts=world.concepts, n_unlocated=nowhere)


def test_figures_of_the_whole_sae():
    """Coverage by the best unit of cal AP, means of the best units, and units that match some concept, by scikit-learn.

    Over the concepts with rows on both splits that are located: the third has none on test, the fourth is not located.
    """
    world = random_world(6, n_concepts=4)
    truth = world.truth.copy()
    truth[world.rows_in("test"), 2] = False
    world = dataclasses.replace(world, truth=truth)
    got = ranked(world, torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]]))
    cal, test = (split_rows(world, split) for split in EVALUATED)
    figures, f1, iou = align(world), [], []
    reached, matching = [], {"f1": set(), "iou": set()}
    for concept in range(2):
        precisions = [average_precision_score(cal[1][:, concept], column) for column in cal[0].T]
        best = int(np.argmax(precisions))
        assert got.unit_ids[got.best_by_ap[concept]] == best
        reached.append(average_precision_score(test[1][:, concept], test[0][:, best]))
        scored = []
        for values, located in (cal, test):
            marked = values >= figures.thresholds[:, concept].numpy()
            scored.append([(f1_score(located[:, concept], each), jaccard_score(located[:, concept], each))
                           for each in marked.T])  # fmt: skip
        first = int(figures.best_units[concept])
        f1.append(scored[1][first][0])
        iou.append(scored[1][first][1])
        for place, (name, limit) in enumerate(MATCHES.items()):
            matching[name] |= {u for u in range(world.n_units) if min(scored[0][u][place], scored[1][u][place]) > limit}
    for least in (0.0, *(r - 1e-6 for r in reached), *(r + 1e-6 for r in reached)):
        assert got.covered(least)[got.judged].tolist() == [r >= least for r in reached]
    summary = got.summary
    assert summary["concepts"] == 2 and summary["coverage@0.3"] == np.mean([r >= 0.3 for r in reached])
    assert summary["mean_best_f1"] == pytest.approx(np.mean(f1)) and summary["mean_best_iou"] == pytest.approx(
        np.mean(iou)
    )
    assert summary["mean_best_ap"] == pytest.approx(np.mean(reached)) and np.isnan(summary["mean_best_pixel_iou"])
    assert summary["concepts_f1>0.5"] == sum(value > 0.5 for value in f1)
    assert {name: summary[f"units_{name}>{limit:g}"] for name, limit in MATCHES.items()} == {
        name: len(units) for name, units in matching.items()
    }


def test_without_a_concept_there_are_no_figures_of_the_whole_sae():
    """And a concept that no unit fires on counts as not found."""
    world = random_world(6, n_concepts=3)
    none = ranked(dataclasses.replace(world, truth=np.zeros_like(world.truth)))
    assert none.summary["concepts"] == 0 and np.isnan(none.summary["coverage@0.3"])
    assert none.best_by_ap.tolist() == none.best.tolist() == [-1] * 3
    silent = ranked(dataclasses.replace(world, activations=np.zeros_like(world.activations)))
    assert silent.summary["concepts"] == 3 and silent.summary["coverage@0.3"] == 0 == silent.summary["mean_best_f1"]


@pytest.mark.slow
@PROPERTY
@given(st.data(), st.sampled_from([1, 3, 0.5]), st.integers(1, 9))
def test_iou_of_pixels_is_that_of_every_single_one(data, min_overlap, entries):
    """On images of 2 × 3 patches of 2 × 2 pixels: masks and firing patches are compared pixel by pixel."""
    side, grid, n_examples, n_units, n_concepts = 2, (2, 3), 6, 3, 2
    masks = data.draw(hnp.arrays(np.bool_, (n_examples, n_concepts, grid[0] * side, grid[1] * side)))
    pixels = [torch.stack([pixels_of_patches(torch.from_numpy(mask), side) for mask in each], 1) for each in masks]
    truth = [covered_patches(each, side**2, min_overlap) for each in pixels]
    n_rows = grid[0] * grid[1]
    values = data.draw(activations(n_examples * n_rows, n_units))
    lengths, splits = np.full(n_examples, n_rows), EVALUATED * (n_examples // 2)
    dense = torch.cat(truth).numpy()
    world = World(values, lengths, splits, dense, np.ones((n_examples, n_concepts), bool))
    located = collect_truth(truth, world.concepts, 0, pixels, side**2)
    chunk = RowChunk(world.filtered(), located, splits)
    figures = align_rows([chunk], concepts=world.concepts, n_units=n_units)
    got = pixel_iou(figures, [chunk])
    test = world.examples_in("test")
    for unit, concept in np.ndindex(n_units, n_concepts):
        threshold, shown = float(figures.thresholds[unit, concept]), masks[test, concept]
        if np.isnan(threshold) or not shown.any():
            assert np.isnan(float(got[unit, concept]))
            continue
        fires = (values[:, unit].reshape(n_examples, *grid) >= np.float32(threshold)).repeat(side, 1).repeat(side, 2)
        expected = jaccard_score(shown.ravel(), fires[test].ravel(), zero_division=0.0)
        np.testing.assert_allclose(float(got[unit, concept]), expected, rtol=1e-12)
    cut = row_chunks.shared_pixels(chunk, "test", figures.thresholds, entries_at_once=entries)
    assert all(map(torch.equal, cut, row_chunks.shared_pixels(chunk, "test", figures.thresholds)))


def test_pixels_that_do_not_belong_together():
    """Chunks that say nothing of pixels leave all IoU of pixels null; patches of other sizes are refused."""
    world = random_world(1)
    plain, figures = chunk_of(world), align(world)
    shown = torch.from_numpy(world.truth.astype(np.int32))
    truth = [torch.from_numpy(world.truth)]
    sized = [dataclasses.replace(plain, truth=dataclasses.replace(
        collect_truth(truth, world.concepts, 0, [shown], size), example_offsets=plain.truth.example_offsets,
    )) for size in (4, 9)]  # fmt: skip
    assert not bool(pixel_iou(figures, sized[:1]).isnan().all())
    assert bool(pixel_iou(figures, [plain, sized[0]]).isnan().all())
    with pytest.raises(ArtifactError, match="Patches of different chunks"):
        pixel_iou(figures, sized)
    with pytest.raises(ArtifactError, match="does not say which pixels"):
        row_chunks.shared_pixels(plain, "test", figures.thresholds)


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


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_the_interval_is_of_the_first_pair_of_each_concept_on_any_number_of_threads(n_threads):
    """Also of many units; a concept without a threshold has none."""
    world = random_world(5, n_examples=24, rows=6, n_units=2000, n_concepts=4)
    world.truth[:, 3] = False
    chunk, located = chunk_of(world), torch.zeros(2, 4, dtype=torch.int64)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        aligned = rank_pairs(align(world), [chunk], concepts=world.concepts, n_unlocated=located)
    finally:
        torch.set_num_threads(before)
    first = aligned.best[:3].long()
    counts = count_per_example(chunk, aligned.unit_ids[first].long(), torch.arange(3), aligned.thresholds[first])
    expected = clustered_f1_intervals(counts[:, chunk.examples_in("test")])
    assert torch.equal(aligned.intervals[:3], expected) and bool(expected.isfinite().all())
    assert bool(aligned.intervals[3].isnan().all())
