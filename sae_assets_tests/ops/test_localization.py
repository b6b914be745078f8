"""Localisation against a dense, row-by-row one: directions, cut-offs, counts and marks, for any chunking."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts.localization import METHODS, Localization
from sae_assets.errors import ArtifactError
from sae_assets.ops.intervals import weighted_f1_interval
from sae_assets.ops.localization import localize
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.row_marks import mark_rows
from sae_assets_tests.reference import localization as reference
from sae_assets_tests.strategies import ORDINARY, PROPERTY, World, chunkings, random_world, worlds

FRACTIONS = (0.1, 0.5, 0.9)


def chunk_of(world: World) -> RowChunk:
    return RowChunk(world.filtered(), world.ground_truth(), world.splits)


def run(world: World, units: list[int], thresholds: list[float], parts=None, located=None, **options) -> Localization:
    chunks = [chunk_of(world)] if parts is None else [chunk_of(world.take(part)) for part in parts]
    located = [True] * len(units) if located is None else located
    return localize(
        chunks,
        concepts=world.concepts,
        unit_ids=torch.tensor(units),
        thresholds=torch.tensor(thresholds, dtype=torch.float64),
        located=torch.tensor(located),
        n_units=world.n_units,
        tail_fractions=options.pop("tail_fractions", FRACTIONS),
        **options,
    )


@st.composite
def choices(draw: st.DrawFn, world: World) -> tuple[list[int], list[float]]:
    """A unit and one of its values per concept; none where it never fires."""
    units, thresholds = [], []
    for _ in world.concepts:
        unit = draw(st.integers(-1, world.n_units - 1))
        levels = np.unique(world.activations[:, unit][world.activations[:, unit] > 0]) if unit >= 0 else []
        units.append(unit if len(levels) else -1)
        thresholds.append(float(draw(st.sampled_from(list(levels)))) if len(levels) else np.nan)
    return units, thresholds


@pytest.mark.slow
@PROPERTY
@given(data=st.data(), world=worlds(max_examples=8, pool=ORDINARY))
def test_everything_is_as_by_definition(data, world):
    """Directions to 1e-12; at the op's own cut-offs every mark and count, and no candidate of cal is better."""
    units, thresholds = data.draw(choices(world))
    got = run(world, units, thresholds)
    values, example = world.activations.astype(np.float64), world.example_of_row
    fitted, cal = world.rows_in("train") | world.rows_in("cal"), world.rows_in("cal")
    marks = mark_rows(world.filtered(), got).numpy()
    for concept, (unit, threshold) in enumerate(zip(units, thresholds, strict=True)):
        truth = world.truth[:, concept]
        if unit < 0:
            assert not marks[:, concept].any() and bool(got.cutoffs[:, concept].isnan().all())
            assert got.counts[:, :, concept].sum() == 0 and int(got.n_superactivators[concept]) == 0
            continue
        towards = reference.direction(values, unit, threshold, fitted)
        dense = got.direction(concept).numpy()
        np.testing.assert_allclose(dense, 0 if towards is None else towards, rtol=1e-12, atol=1e-15)
        inside = reference.detected(values, unit, threshold, example)
        similar = reference.similarities(values, dense)
        cutoffs = got.cutoffs[:, concept].tolist()
        # Sums in another order may fall on the other side.
        near = np.isclose(similar, cutoffs[2], rtol=1e-7) & (similar != cutoffs[2])
        expected = [
            values[:, unit] >= cutoffs[0],
            inside & (values[:, unit] >= cutoffs[1]),
            inside & (similar >= cutoffs[2]) & (similar > 0),
        ]
        for method, marked in enumerate(expected):
            same = marks[method, concept] == marked
            assert same[~near].all() if method == 2 else same.all()
            for place, split in enumerate(("cal", "test")):
                rows = world.rows_in(split)
                cells = reference.confusion(marks[method, concept][rows], truth[rows])
                counted = got.counts[method, place, concept].tolist()
                assert tuple(counted) == (cells if not np.isnan(cutoffs[method]) else (0, 0, 0, 0))
        for place, split in enumerate(("cal", "test")):
            rows = world.rows_in(split)
            assert tuple(got.whole[place, concept].tolist()) == reference.confusion(inside[rows], truth[rows])
        if not truth[cal].any():
            assert np.isnan(cutoffs[1:]).all()
            continue
        firing = np.sort(values[cal & truth & (values[:, unit] > 0), unit])
        levels = [threshold]
        if len(firing):
            levels += [level for p in FRACTIONS if (level := np.quantile(firing, 1 - p)) < threshold]
        by_value = [(inside & (values[:, unit] >= level))[cal] for level in levels]
        assert cutoffs[1] == levels[reference.choose(levels, by_value, truth[cal])]
        if (cal & inside).any():
            cuts = [float(np.quantile(similar[cal & inside], 1 - p)) for p in FRACTIONS]
            f1 = [float(_f1((inside & (similar >= cut) & (similar > 0))[cal], truth[cal])) for cut in cuts]
            assert cutoffs[2] == pytest.approx(min(cuts, key=lambda cut: abs(cut - cutoffs[2])), abs=1e-12)
            assert float(got.rate("f1")[2, 0, concept]) == pytest.approx(max(f1), abs=1e-12)


def _f1(marked: np.ndarray, truth: np.ndarray) -> float:
    tp, fp, fn, _ = reference.confusion(marked, truth)
    return 2 * tp / (2 * tp + fp + fn)


@pytest.mark.slow
@PROPERTY
@given(data=st.data(), world=worlds())
def test_chunks_and_memory_change_nothing(data, world):
    """The same bits of every field for the examples in any chunks, and with room for one concept at a time."""
    units, thresholds = data.draw(choices(world))
    parts = data.draw(chunkings(len(world.lengths), shuffled=False))
    assert run(world, units, thresholds) == run(world, units, thresholds, parts, memory_budget=1)


def by_hand() -> World:
    """Two units, one concept, examples of three rows: one each of train, cal, cal and test.

    Unit 0 detects at 4. What its strongest rows have in common is unit 1, which other rows of the concept show, too.
    """
    rows = [
        [[4, 3], [0, 2], [0, 0]],
        [[4, 3], [2, 4], [2, 0]],
        [[0, 5], [3, 0], [0, 0]],
        [[5, 4], [1, 3], [1, 0]],
    ]
    truth = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]], bool)
    dense = np.array(rows, np.float32).reshape(12, 2)
    splits = ("train", "cal", "cal", "test")
    return World(dense, np.full(4, 3), splits, truth.reshape(12, 1), truth.any(1)[:, None])


def test_by_hand():
    """Both superactivators of train and cal are (4, 3), at length 1 (0.8, 0.6); the third example is not detected."""
    got = run(by_hand(), [0], [4.0])
    assert int(got.n_superactivators[0]) == 2
    np.testing.assert_allclose(got.direction(0), [0.8, 0.6], rtol=1e-15)
    assert got.counts[0, :, 0].tolist() == [[1, 0, 2, 3], [1, 0, 1, 1]]
    # Values of the unit on cal rows of the concept: 4 and 2. The quantiles below 4 are 3.8, 3 and 2.2: all mark 4.
    assert float(got.cutoffs[1, 0]) == 4 and float(got.tail_fractions[1, 0]) == 0.5
    # Cosines in the detected cal example: 1, (1.6 + 2.4) / √20 = 0.894 and 0.8. At their median F1 is 4/5.
    assert float(got.cutoffs[2, 0]) == np.float32(4 / 20**0.5) and float(got.tail_fractions[2, 0]) == 0.5
    assert got.counts[2, :, 0].tolist() == [[2, 0, 1, 3], [1, 0, 1, 1]]  # the second row of test: 2.6 / √10 = 0.82
    assert got.whole[:, 0].tolist() == [[2, 1, 1, 2], [2, 1, 0, 0]]
    marks = mark_rows(by_hand().filtered(), got)
    assert marks[2, 0].reshape(4, 3).tolist() == [
        [True, False, False],
        [True, True, False],
        [False] * 3,
        [True, False, False],
    ]


def test_two_stages_find_rows_where_the_unit_is_silent():
    """The unit fires on one row of each region; the others share what fires beside it. F1 .40 by the unit, 1 by two."""
    rng = np.random.default_rng(0)
    n, rows = 40, 6
    labels = rng.random((n, 1)) < 0.5
    dense = np.zeros((n, rows, 3), np.float32)
    truth = np.zeros((n, rows), bool)
    for example in np.flatnonzero(labels[:, 0]):
        truth[example, :4] = True
        dense[example, :4, 1] = rng.uniform(2, 3, 4)
        dense[example, 0, 0] = 3
    dense[:, 4:, 2] = 2
    splits = tuple(np.resize(["train", "cal", "test"], n).tolist())
    world = World(dense.reshape(-1, 3), np.full(n, rows), splits, truth.reshape(-1, 1), labels)
    got = run(world, [0], [3.0], tail_fractions=(0.25, 0.5, 2 / 3, 0.9))
    f1 = got.rate("f1")[:, 1, 0]
    assert f1[:2].tolist() == [0.4, 0.4] and float(f1[2]) == 1 and float(got.rate("iou")[2, 1, 0]) == 1
    assert float(got.whole_rate("f1")[1, 0]) == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["mean", "last"])
def test_examples_are_detected_by_their_pooled_score(name):
    """An example whose largest row reaches the threshold is not detected where its mean, or its last row, does not."""
    world, threshold = random_world(6), 0.5
    got = run(world, [0, 1], [threshold] * 2, pooling=Pooling(name))
    marks = mark_rows(world.filtered(), got, Pooling(name)).numpy()
    ends = np.cumsum(world.lengths)
    for concept in range(2):
        expected = np.zeros(len(world.truth), bool)
        for first, end in zip(ends - world.lengths, ends, strict=True):
            values = world.activations[first:end, concept].astype(np.float64)
            pooled = np.float32(values.mean() if name == "mean" else values[-1])
            expected[first:end] = (pooled >= threshold) & (values >= threshold)
        assert (marks[0, concept] == expected).all() and expected.any()
    assert (marks[0] != mark_rows(world.filtered(), run(world, [0, 1], [threshold] * 2)).numpy()[0]).any()


def test_intervals_are_those_of_examples():
    """Counts of every test example, as of any mean of F1 over one concept; null where nothing is judged."""
    world = random_world(3, n_examples=90)
    got = run(world, [0, 1], [2.5, 2.5], located=[True, False])
    marks = mark_rows(world.filtered(), got).numpy()
    test = np.flatnonzero(world.examples_in("test"))
    for method in range(len(METHODS)):
        counts = [
            reference.confusion(marks[method, 0][rows], world.truth[rows, 0])[:3]
            for rows in (world.example_of_row == example for example in test)
        ]
        expected = weighted_f1_interval(torch.tensor(counts)[None])[1:]
        assert torch.equal(got.intervals[method, 0], expected)
    assert bool(got.intervals[:, 1].isnan().all()) and bool(got.rate("f1")[:, :, 1].isnan().all())
    assert bool(got.cutoffs[1:, 1].isnan().all()) and int(got.n_superactivators[1]) > 0 and marks[0, 1].any()


def test_test_takes_no_part_in_any_choice():
    """Other rows and other truth on test: the same cut-offs and directions."""
    world = random_world(4, n_examples=90)
    test = world.rows_in("test")
    rng = np.random.default_rng(1)
    dense, truth = world.activations.copy(), world.truth.copy()
    dense[test], truth[test] = rng.permutation(dense[test]), rng.permutation(truth[test])
    one, two = (run(each, [0, 1], [2.5, 2.5]) for each in (world, dataclasses.replace(
        world, activations=dense, truth=truth)))  # fmt: skip
    for name in ("cutoffs", "tail_fractions", "direction_units", "direction_weights", "n_superactivators"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert torch.equal(one.counts[:, 0], two.counts[:, 0]) and not torch.equal(one.counts[:, 1], two.counts[:, 1])


def test_what_does_not_fit_is_refused():
    """Other units, other concepts, no chunks."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match="There are no chunks"):
        run(world, [0, 1], [1.0, 1.0], [])
    with pytest.raises(ArtifactError, match="A chunk has 12 units, expected 3"):
        localize(
            [chunk_of(world)], concepts=world.concepts, unit_ids=torch.tensor([0, 1]),
            thresholds=torch.ones(2, dtype=torch.float64), located=torch.ones(2, dtype=torch.bool), n_units=3,
        )  # fmt: skip
    with pytest.raises(ArtifactError, match="Ground truth is of concepts"):
        localize(
            [chunk_of(world)], concepts=("x", "y"), unit_ids=torch.tensor([0, 1]),
            thresholds=torch.ones(2, dtype=torch.float64), located=torch.ones(2, dtype=torch.bool), n_units=12,
        )  # fmt: skip
    with pytest.raises(ArtifactError, match="A chunk has 12 units, the localization 13"):
        mark_rows(world.filtered(), dataclasses.replace(run(world, [0, 1], [1.0, 1.0]), n_units=13))


@pytest.mark.parametrize("seed", range(3))
def test_what_was_chosen_before_is_kept_and_counted_anew(seed):
    """On other examples the cut-offs of the first, whose own would be others; another pair is chosen for anew."""
    first, later = random_world(seed, n_examples=40), random_world(seed + 50, n_examples=60)
    units, thresholds = [0, 1], [0.5, 0.5]
    before, anew = run(first, units, thresholds), run(later, units, thresholds)
    got = run(later, units, thresholds, earlier=before)
    for name in ("cutoffs", "tail_fractions", "direction_units", "direction_weights", "n_superactivators"):
        assert torch.equal(getattr(got, name), getattr(before, name)), name
    assert not torch.equal(got.cutoffs, anew.cutoffs)
    marks, cal_or_test = mark_rows(later.filtered(), got).numpy(), [later.rows_in(split) for split in ("cal", "test")]
    for place, inside in enumerate(cal_or_test):
        for method in range(len(METHODS)):
            for concept in range(2):
                marked, truth = marks[method, concept][inside], later.truth[inside, concept]
                cells = (marked & truth, marked & ~truth, ~marked & truth, ~marked & ~truth)
                assert got.counts[method, place, concept].tolist() == [int(cell.sum()) for cell in cells]
    assert run(later, units, [0.5, 0.25], earlier=before) == run(later, units, [0.5, 0.25])
    with pytest.raises(ArtifactError, match="A chunk has 5 units, expected 12"):
        run(random_world(seed, n_units=5), units, thresholds, earlier=before)
