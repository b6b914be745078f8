"""The exact choice of pairs, by rows and by examples, against exhaustive choices over dense scores."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts.row_alignment import RowAlignment
from sae_assets.errors import ArtifactError
from sae_assets.ops.chosen_pairs import choose_exactly
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.row_alignment import align_rows, rank_pairs
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.sorted_scores import ExampleScores
from sae_assets_tests.helpers.ops_of_worlds import nowhere
from sae_assets_tests.reference import concept_pairs as reference
from sae_assets_tests.reference.detection_stats import example_scores
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, random_world, worlds

pytestmark = pytest.mark.slow


def scores_of(world: World, device: str = "cpu") -> dict[str, ExampleScores]:
    """Scores of all units by original id."""
    chunk = LabelledChunk(world.sparse(), world.splits, torch.from_numpy(world.labels))
    return score_examples([chunk], n_units=world.n_units, device=device)


def rows_of(world: World, located: bool = True) -> RowAlignment:
    """Row figures of all pairs, or of none where the data set locates nothing."""
    rows = [RowChunk(world.sparse(), world.ground_truth(), world.splits)]
    figures = align_rows(rows, concepts=world.concepts, n_units=world.n_units)
    unlocated = torch.full((2, len(world.concepts)), int(not located), dtype=torch.int64)
    return rank_pairs(figures, rows, concepts=world.concepts, n_unlocated=unlocated)


def dense(world: World) -> np.ndarray:
    """Scores of cal, [examples, units]."""
    return example_scores(world.activations, world.example_of_row, len(world.lengths))[world.examples_in("cal")]


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(), min_support=st.integers(1, 3))
def test_examples_choose_the_exhaustive_pair(device, world, min_support):
    """Unit, threshold, support and tail fraction of each concept with both classes on cal; others have none."""
    scores = scores_of(world, device)
    got = choose_exactly(scores, rows_of(world), choose_by="examples", min_support=min_support)
    values = dense(world)
    for concept in range(len(world.concepts)):
        truth = world.labels[world.examples_in("cal"), concept]
        unit = reference.best_unit(values, truth, min_support) if truth.any() and not truth.all() else -1
        assert int(got.unit_ids[concept]) == int(got.example_unit_ids[concept]) == unit
        if unit < 0:
            assert bool(got.thresholds[concept].isnan()) and int(got.support[concept]) == 0
            continue
        threshold = reference.best_threshold(values[:, unit], truth, min_support)
        assert float(got.thresholds[concept]) == threshold
        assert int(got.support[concept]) == reference.counts_at(values[:, unit], truth, threshold)[0] >= min_support
    assert not bool(got.by_rows.any())


@PROPERTY
@given(worlds())
def test_rows_choose_the_unit_with_the_best_row_f1(world):
    """Among the units that have a threshold on examples; that threshold is the exhaustive one of that unit."""
    rows, got = rows_of(world), choose_exactly(scores_of(world), rows_of(world), min_support=1)
    values, cal = dense(world), world.rows_in("cal")
    for concept in range(len(world.concepts)):
        truth, labels = world.truth[cal, concept], world.labels[world.examples_in("cal"), concept]
        best = []
        for unit in range(world.n_units):
            column = world.activations[cal, unit]
            able = reference.best_threshold(values[:, unit], labels, 1) is not None
            threshold = reference.best_threshold(column, truth, 1)
            if able and threshold is not None:
                counts = reference.counts_at(column, truth, threshold)
                best.append(reference.f1(counts))
                if int(got.unit_ids[concept]) == unit:
                    ours = best[-1]
        if best and bool(got.by_rows[concept]):
            assert ours == max(best)
            unit = int(got.unit_ids[concept])
            assert float(got.thresholds[concept]) == reference.best_threshold(values[:, unit], labels, 1)
            assert float(got.row_thresholds[concept]) == float(rows.thresholds[rows.find(concept, unit)])
        else:
            assert not best and not bool(got.by_rows[concept])


def test_what_stands_beside_a_concept_is_not_chosen_where_rows_say_where_it_is():
    """Unit 0 fires on the concept's rows and misses one example; unit 1 fires beside it in every positive example."""
    truth = np.zeros((40, 1), bool)
    truth[0:40:4] = True  # the first of an example's two rows, in every other example
    labels = truth.reshape(20, 2).any(1)[:, None]
    activations = np.zeros((40, 2), np.float32)
    activations[truth[:, 0], 0] = 2
    activations[0, 0] = 0
    activations[1:40:4, 1] = 3
    world = World(activations, np.full(20, 2), ("cal",) * 20, truth, labels)
    by_rows = choose_exactly(scores_of(world), rows_of(world))
    assert by_rows.unit_ids.tolist() == [0] and by_rows.by_rows.tolist() == [True]
    assert by_rows.example_unit_ids.tolist() == [1]
    assert choose_exactly(scores_of(world), rows_of(world), choose_by="examples").unit_ids.tolist() == [1]
    not_located = choose_exactly(scores_of(world), rows_of(world, located=False))
    assert not_located.unit_ids.tolist() == [1] and not_located.by_rows.tolist() == [False]


def test_rows_choose_where_every_example_is_positive():
    """Sky is in every frame: examples cannot choose its unit, rows can."""
    truth = np.zeros((40, 1), bool)
    truth[0:40:2] = True
    activations = np.where(np.concatenate([truth, ~truth], 1), 1, 0).astype(np.float32)
    world = World(activations, np.full(20, 2), ("cal",) * 20, truth, np.ones((20, 1), bool))
    got = choose_exactly(scores_of(world), rows_of(world))
    assert got.unit_ids.tolist() == [0] and got.example_unit_ids.tolist() == [-1]
    assert choose_exactly(scores_of(world), rows_of(world, located=False)).unit_ids.tolist() == [-1]


@pytest.mark.long
@PROPERTY
@given(worlds(max_examples=10), st.integers(2, 4), st.integers(0, 99))
def test_folds_are_counted_with_the_pair_chosen_without_them(world, n_folds, seed):
    """Fold by fold over dense scores; null where rows chose."""
    got = choose_exactly(scores_of(world), rows_of(world), choose_by="examples", min_support=1, n_folds=n_folds,
                         seed=seed)  # fmt: skip
    values, n = dense(world), len(world.examples_in("cal").nonzero()[0])
    fold = np.zeros(n, int)
    fold[torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()] = np.arange(n) % n_folds
    for concept in range(len(world.concepts)):
        truth = world.labels[world.examples_in("cal"), concept]
        cells, with_positives = np.zeros(3, int), 0
        for number in range(n_folds):
            inside = fold == number
            with_positives += truth[inside].any()
            unit = reference.best_unit(values[~inside], truth[~inside], 1)
            threshold = None if unit < 0 else reference.best_threshold(values[~inside][:, unit], truth[~inside], 1)
            cells += reference.counts_at(values[inside][:, max(unit, 0)], truth[inside], threshold)[:3]
        if with_positives < 2 or truth.all():
            assert bool(got.fold_f1[concept].isnan())
        else:
            assert float(got.fold_f1[concept]) == 2 * cells[0] / (2 * cells[0] + cells[1] + cells[2])
    by_rows = choose_exactly(scores_of(world), rows_of(world), min_support=1, n_folds=n_folds)
    assert bool(by_rows.fold_f1[by_rows.by_rows].isnan().all())


@PROPERTY
@given(worlds(), st.data())
def test_scores_of_some_units_or_examples_are_those_of_the_rest_left_out(world, data):
    """As if the others had never been there."""
    whole = scores_of(world)["cal"]
    units = torch.tensor(sorted(data.draw(st.sets(st.integers(0, world.n_units - 1), min_size=1))))
    some = whole.of_units(units)
    assert torch.equal(some.starts.diff(), whole.starts.diff()[units])
    for number, unit in enumerate(units.tolist()):
        for threshold in (0.0, 0.5):
            assert torch.equal(some.detected(number, threshold), whole.detected(unit, threshold))
    chosen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(whole.labels), max_size=len(whole.labels))),
                          dtype=torch.bool)  # fmt: skip
    part = whole.of_examples(chosen)
    assert torch.equal(part.labels, whole.labels[chosen])
    for unit in range(world.n_units):
        assert torch.equal(part.detected(unit, 0.5), whole.detected(unit, 0.5)[chosen])


def test_row_figures_of_other_units_are_refused():
    """They would name other units by the same numbers."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match=f"Row figures are of {world.n_units + 1} units"):
        choose_exactly(scores_of(world), nowhere(world.concepts, world.n_units + 1))


def test_the_choice_sees_nothing_of_test():
    """Other test labels and values change nothing."""
    world = random_world(6, n_examples=60)
    labels, activations = world.labels.copy(), world.activations.copy()
    labels[world.examples_in("test")] = ~labels[world.examples_in("test")]
    activations[world.rows_in("test")] = activations[world.rows_in("test")][:, ::-1]
    other = dataclasses.replace(world, labels=labels, activations=activations)
    one, two = (choose_exactly(scores_of(each), rows_of(each), n_folds=3) for each in (world, other))
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) if isinstance(a, torch.Tensor) else a == b
