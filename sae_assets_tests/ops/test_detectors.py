"""Each control against scikit-learn on dense arrays: what is fitted, chosen, detected."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.ops import designs, detectors, unit_detectors
from sae_assets.ops.control_data import collect
from sae_assets.ops.items import DetectorScores, Items, UnitScores
from sae_assets_tests.helpers.control_worlds import ControlWorld, control_world
from sae_assets_tests.reference import concept_pairs
from sae_assets_tests.reference import controls as reference
from sae_assets_tests.strategies import PROPERTY

MADE = control_world(3, n_examples=75, n_units=9)


def order_of(items: Items) -> np.ndarray:
    return items.order.numpy()


def expect_detector(got: DetectorScores, concept: int, items: Items, scores: np.ndarray, choice: int) -> None:
    """These scores on test, thresholded on cal, and this choice."""
    y, chooses, tests = items.labels[:, concept].numpy(), items.chooses.numpy(), items.tests.numpy()
    rounded = scores.astype(np.float32)
    threshold = reference.best_threshold(rounded[chooses], y[chooses])
    assert int(got.choices[concept]) == choice
    np.testing.assert_allclose(got.scores[concept].double(), scores[tests], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got.detected[concept], rounded[tests] >= threshold)


@pytest.mark.slow
@pytest.mark.parametrize(("without_train", "sparse"), [(False, False), (True, False), (False, True)])
def test_fitted_detectors_are_those_of_scikit_learn(
    without_train: bool, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DiffMean, logistic on embeddings and on all units, k-sparse; fitted on train, or on half of cal.

    Scores of units are taken as a dense matrix, as these are, or as sparse ones, as those of rows are.
    """
    monkeypatch.setattr(designs, "DENSE_SHARE", 2.0 if sparse else 0.0)
    made = MADE
    if without_train:
        splits = tuple("cal" if split == "train" else split for split in MADE.world.splits)
        world = type(MADE.world)(**{**vars(MADE.world), "splits": splits})
        made = ControlWorld(world, MADE.embeddings, MADE.random, MADE.sampled)
    data = made.data()
    items = data.examples
    assert items.fitted_on_cal is without_train
    fits, chooses = items.fits.numpy(), items.chooses.numpy()
    assert not (fits & chooses).any() and not (fits & items.tests.numpy()).any() and fits.any()
    x, units = made.mean_embeddings().astype(np.float64), made.pooled(made.world.activations).astype(np.float64)
    means = detectors.mean_difference(items)
    largest = detectors.largest_mean_difference(items, data.largest)
    rows, of_row = made.embeddings.astype(np.float64), made.world.example_of_row
    regression, on_units = detectors.logistic_on_embeddings(items), detectors.logistic_on_units(items)
    probes = detectors.k_sparse(items)
    for concept, y in enumerate(made.world.labels.T):
        expect_detector(means, concept, items, reference.diffmean(x, y, fits), 0)
        expect_detector(largest, concept, items, reference.diffmean_of_rows(rows, of_row, y, fits), 0)
        folds = reference.stratified_folds(y[fits], order_of(items)[fits])
        expect_detector(
            regression, concept, items, *reference.logistic(reference.standardised(x, fits), y, fits, folds)
        )
        expect_detector(on_units, concept, items, *reference.logistic(reference.one_size(units, fits), y, fits, folds))
        effects = reference.effects(units[fits], y[fits])
        np.testing.assert_allclose(detectors.effect_sizes(items)[:, concept], effects, rtol=1e-9)
        expect_detector(probes, concept, items, *reference.k_sparse(units, y, fits, chooses, folds))


@pytest.mark.slow
def test_more_dimensions_than_examples_are_the_same_regression() -> None:
    """Features are turned into as many dimensions as there are examples, which changes nothing."""
    made = control_world(5, n_examples=45, d=60)
    items = collect([made.chunk()]).examples
    fits, x = items.fits.numpy(), made.mean_embeddings().astype(np.float64)
    got = detectors.logistic_on_embeddings(items)
    for concept, y in enumerate(made.world.labels.T):
        folds = reference.stratified_folds(y[fits], order_of(items)[fits])
        expect_detector(got, concept, items, *reference.logistic(reference.standardised(x, fits), y, fits, folds))


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 10**6])
@pytest.mark.parametrize("share", [0.0, 2.0])
def test_more_units_than_examples_are_the_same_regression(
    share: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the axes of units or of examples, dense or sparse."""
    monkeypatch.setattr(designs, "DENSE_SHARE", share)
    monkeypatch.setattr(detectors, "MOST_OF_KERNEL", most)
    made = control_world(8, n_examples=45, n_units=60)
    items = collect([made.chunk()]).examples
    fits, units = items.fits.numpy(), made.pooled(made.world.activations).astype(np.float64)
    assert fits.sum() < 60
    got = detectors.logistic_on_units(items)
    for concept, y in enumerate(made.world.labels.T):
        folds = reference.stratified_folds(y[fits], order_of(items)[fits])
        expect_detector(got, concept, items, *reference.logistic(reference.one_size(units, fits), y, fits, folds))


def test_units_and_dimensions_are_searched_exhaustively() -> None:
    """Random SAEs and both signs of every dimension, against an exhaustive search on cal."""
    data = collect([MADE.chunk()])
    items, cal, tests = data.examples, data.examples.split.numpy() == 1, data.examples.tests.numpy()
    found = [unit_detectors.searched_units(items, scores) for scores in data.random]
    dense = [MADE.pooled(activations) for activations in MADE.random]
    most = MADE.max_embeddings()
    found.append(unit_detectors.dimensions(items, data.max_embeddings))
    both = np.concatenate([most, -most], 1)
    dense.append((both - both.min() + 1).astype(np.float64))
    for got, scores in zip(found, dense, strict=True):
        for concept, y in enumerate(MADE.world.labels.T):
            unit = concept_pairs.best_unit(scores[cal], y[cal], 3)
            threshold = concept_pairs.best_threshold(scores[cal][:, unit], y[cal], 3)
            assert int(got.choices[concept]) == unit
            np.testing.assert_array_equal(got.detected[concept], scores[tests][:, unit] >= threshold)


def test_dimensions_are_searched_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, or all together: the same detector, with ties between dimensions and their negatives."""
    items = collect([MADE.chunk()]).examples
    embeddings = items.embeddings.round().repeat(1, 2)
    whole = unit_detectors.dimensions(items, embeddings)
    monkeypatch.setattr(unit_detectors, "VALUES_AT_ONCE", 1)
    each = unit_detectors.dimensions(items, embeddings)
    assert whole.choices.tolist() == each.choices.tolist() and min(whole.choices.tolist()) >= 0
    assert torch.equal(whole.detected, each.detected) and torch.equal(whole.scores, each.scores)


def test_k_sparse_probes_are_fitted_on_as_many_items_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first in the order that is drawn; units are ranked on all of them, and all items are scored."""
    items = collect([MADE.chunk()]).examples
    monkeypatch.setattr(detectors, "VALUES_FITTED", 20 * max(detectors.SPARSITIES))
    shapes, fit = [], detectors._fitted
    monkeypatch.setattr(detectors, "_fitted", lambda items, x, *rest: shapes.append(x.n_items) or fit(items, x, *rest))
    got = detectors.k_sparse(items)
    assert set(shapes) == {20} and int(items.fits.sum()) > 20
    assert min(got.choices.tolist()) > 0 and not bool(got.scores.isnan().any())


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 2.0])
def test_a_concept_is_the_same_beside_others(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, or among three: k-sparse probes to the last bit, regressions that are solved together but for the last."""
    monkeypatch.setattr(designs, "DENSE_SHARE", share)
    items = collect([control_world(7, n_examples=75, n_units=9, n_concepts=3).chunk()]).examples
    for make in (detectors.k_sparse, detectors.logistic_on_units, detectors.logistic_on_embeddings):
        together = make(items)
        for concept in range(3):
            alone = make(replace(items, labels=items.labels[:, [concept]]))
            assert int(alone.choices) == int(together.choices[concept])
            assert torch.equal(alone.detected[0], together.detected[concept])
            apart = (alone.scores[0] - together.scores[concept]).abs().max()
            assert float(apart) <= (0.0 if make is detectors.k_sparse else 1e-6 * float(alone.scores.abs().max()))


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12), st.integers(1, 3))
def test_thresholds_are_those_of_an_exhaustive_search(pairs: list[tuple[int, bool]], min_support: int) -> None:
    """Ties and signs included; NaN where no threshold finds enough."""
    scores = np.array([value - 2 for value, _ in pairs], np.float32)
    labels = np.array([label for _, label in pairs], bool)
    got = detectors.best_thresholds(torch.from_numpy(scores)[None], torch.from_numpy(labels)[None], min_support)
    expected = reference.best_threshold(scores, labels, min_support)
    assert got.isnan().item() if expected is None else float(got) == expected


def test_a_missing_class_gives_no_detector() -> None:
    """A concept without positives in train has no fitted detector; one of a single positive no regression."""
    labels = MADE.world.labels.copy()
    train = np.flatnonzero(MADE.world.examples_in("train"))
    labels[train, 0] = False
    labels[train, 1] = train == train[3]
    made = ControlWorld(type(MADE.world)(**{**vars(MADE.world), "labels": labels}), MADE.embeddings, (), MADE.sampled)
    items = collect([made.chunk()]).examples
    assert detectors.mean_difference(items).choices.tolist() == [-1, 0]
    for make in (detectors.logistic_on_embeddings, detectors.logistic_on_units, detectors.k_sparse):
        got = make(items)
        assert got.choices.tolist() == [-1, -1] and not bool(got.detected.any()) and bool(got.scores.isnan().all())


def test_units_that_are_all_silent_say_the_same_of_every_example() -> None:
    """Only the intercept is fitted: the best threshold detects all; no unit is there for a probe."""
    items = collect([MADE.chunk()]).examples
    nothing = torch.zeros(0, dtype=torch.int64)
    items = replace(items, units=UnitScores.of(nothing, nothing, torch.zeros(0), items.units.n_units))
    got = detectors.logistic_on_units(items)
    assert bool(got.detected.all()) and all(len(each.unique()) == 1 for each in got.scores)
    assert detectors.k_sparse(items).choices.tolist() == [-1, -1]


def test_nothing_to_fit_on_gives_no_detector() -> None:
    """Neither train nor cal: nothing is fitted or searched, and nothing fails."""
    world = type(MADE.world)(**{**vars(MADE.world), "splits": ("test",) * len(MADE.world.splits)})
    data = collect([ControlWorld(world, MADE.embeddings, MADE.random, MADE.sampled).chunk()])
    for make in (
        detectors.mean_difference,
        detectors.logistic_on_embeddings,
        detectors.logistic_on_units,
        detectors.k_sparse,
        lambda items: unit_detectors.dimensions(items, data.max_embeddings),
        lambda items: unit_detectors.searched_units(items, data.random[0]),
    ):
        assert make(data.examples).choices.tolist() == [-1, -1]


def test_scores_are_sorted_whatever_their_order() -> None:
    """By unit, then item."""
    unit, item = torch.tensor([2, 0, 2, 0]), torch.tensor([1, 3, 0, 1])
    got = UnitScores.of(unit, item, torch.tensor([1.0, 2.0, 3.0, 4.0]), 4)
    assert (got.starts.tolist(), got.items.tolist(), got.values.tolist()) == (
        [0, 2, 2, 4, 4],
        [1, 3, 0, 1],
        [4, 2, 3, 1],
    )
    assert got.dense(torch.tensor([2, -1]), 4)[0].tolist() == [3, 1, 0, 0]


@pytest.mark.slow
def test_rows_choose_the_unit_of_a_random_sae_as_they_choose_the_saes() -> None:
    """By every threshold on every sampled cal row, of units with a threshold on examples; the others by examples."""
    made = control_world(6, n_examples=60, n_units=7, n_concepts=3)
    data = collect([made.chunk()])
    by_rows, every, passed_over = torch.tensor([True, False, True]), [], []
    cal = np.flatnonzero(made.sampled & np.isin(made.world.example_of_row, made.world.examples_in("cal").nonzero()[0]))
    of_cal = made.world.examples_in("cal")
    for seed, (scores, on_rows) in enumerate(zip(data.random, data.random_rows, strict=True)):
        units = unit_detectors.units_by_rows(data.examples, scores, data.rows, on_rows, by_rows)
        values, pooled = made.random[seed][cal].copy(), made.pooled(made.random[seed])
        for least in (3, 5):
            given = unit_detectors.units_by_rows(data.examples, scores, data.rows, on_rows, by_rows, least)
            for concept in (0, 2):
                able = ((pooled[of_cal] > 0) & made.world.labels[of_cal, concept, None]).sum(0) >= least
                expected = concept_pairs.best_unit(np.where(able, values, 0), made.world.truth[cal, concept], 1)
                assert int(given[concept]) == expected
                best = concept_pairs.best_unit(values, made.world.truth[cal, concept], 1)
                passed_over.append(expected not in (-1, best))
        assert int(units[1]) == -1
        got = unit_detectors.searched_units(data.examples, scores, units=units)
        plain = unit_detectors.searched_units(data.examples, scores)
        assert got.choices.tolist() == [int(units[0]), int(plain.choices[1]), int(units[2])]
        for concept, unit in enumerate(got.choices.tolist()):
            score, y = pooled[:, unit], made.world.labels[:, concept]
            threshold = concept_pairs.best_threshold(score[of_cal], y[of_cal], 3)
            tests = made.world.examples_in("test")
            np.testing.assert_array_equal(got.detected[concept], score[tests] >= threshold)
        every.append(got.choices.tolist() != plain.choices.tolist())
    assert any(every)  # rows and examples choose different units of some SAE
    assert any(passed_over)  # rows would choose a unit without a threshold on examples
