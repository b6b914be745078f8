"""Controls together: what they are collected from, figures and differences on test, and what the intervals hold."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sae_assets.artifacts.controls import CONTROLS, LARGEST, ROW_CONTROLS, Controls, controls_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.chosen_pairs import choose_exactly
from sae_assets.ops.control_data import ControlChunk, ControlData, collect
from sae_assets.ops.controls import (
    FITTED,
    ROW_FITTED,
    RowDetectors,
    compare,
    counts_on_test,
    random_row_units,
    random_units,
)
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.intervals import (
    auroc_interval,
    counts_of,
    difference_to_draws,
    weighted_f1_difference,
    weighted_f1_interval,
)
from sae_assets.ops.items import DetectorScores
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.row_alignment import align_rows, rank_pairs
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.unit_detectors import given_units, searched_units
from sae_assets_tests.helpers.control_worlds import ControlWorld, control_world
from sae_assets_tests.helpers.process_states import under
from sae_assets_tests.reference import concept_pairs
from sae_assets_tests.reference import controls as reference

pytestmark = pytest.mark.slow

MADE = control_world(11, n_examples=80, n_concepts=3)
EVERYWHERE = torch.ones(3, dtype=torch.bool)


def all_controls(
    data: ControlData, located: torch.Tensor | None = EVERYWHERE
) -> tuple[Controls, dict[str, DetectorScores]]:
    """The comparison as the stage makes it, and its detectors."""
    fitted = {name: make(data) for name, make in FITTED.items() if name != LARGEST or data.largest is not None}
    unit, random = searched_units(data.examples), random_units(data)
    rows = None
    if data.rows is not None and located is not None:
        by_rows = {name: make(data) for name, make in ROW_FITTED.items()}
        rows = RowDetectors(searched_units(data.rows), by_rows, located, random_row_units(data))
    concepts = tuple(f"concept {number}" for number in range(data.examples.labels.shape[1]))
    return compare(concepts, data, unit, random, fitted, rows), {"unit": unit, **fitted}


@pytest.fixture(scope="module")
def made() -> tuple[ControlData, Controls, dict[str, DetectorScores]]:
    """Everything of one data set, whose rows are all located."""
    data = MADE.data()
    return data, *all_controls(data)


def test_chunks_do_not_matter() -> None:
    """One chunk or three: the same items, in the same order."""
    whole, parts = collect([MADE.chunk()]), collect([MADE.chunk(0, 30), MADE.chunk(30, 31), MADE.chunk(31)])
    for one, two in ((whole.examples, parts.examples), (whole.rows, parts.rows)):
        for name in ("labels", "split", "order", "coin", "embeddings"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
        assert all(
            torch.equal(getattr(one.units, name), getattr(two.units, name)) for name in ("starts", "items", "values")
        )
    for one, two in zip(whole.random, parts.random, strict=True):
        assert torch.equal(one.values, two.values) and torch.equal(one.items, two.items)
    assert torch.equal(whole.max_embeddings, parts.max_embeddings)
    assert torch.equal(whole.example_of_row, parts.example_of_row)
    assert torch.equal(whole.rows.folds, parts.rows.folds)


def test_sampled_rows_are_rows_of_the_chunk() -> None:
    """Truth, embeddings, activations, split and fold of each sampled row are its own; folds hold whole examples."""
    rows, sampled, world = collect([MADE.chunk(0, 40), MADE.chunk(40)]).rows, MADE.sampled, MADE.world
    np.testing.assert_array_equal(rows.labels, world.truth[sampled])
    np.testing.assert_array_equal(rows.embeddings, MADE.embeddings[sampled])
    np.testing.assert_array_equal(rows.units.dense(torch.arange(12), len(rows.labels)).T, world.activations[sampled])
    assert [("train", "cal", "test")[each] for each in rows.split] == list(
        np.array(world.splits)[world.example_of_row[sampled]]
    )
    example = world.example_of_row[sampled]
    assert all(len(set(rows.folds[example == each].tolist())) <= 1 for each in range(80))


def test_figures_and_differences_are_of_test(made) -> None:
    """F1, AUROC and average precision as scikit-learn's, paired differences of counts per example."""
    data, got, detectors = made
    tests = data.examples.tests.numpy()
    labels = MADE.world.labels[tests]
    assert got.detectors[:5] == (
        ("examples", "unit", None), ("examples", "random_sae", 0), ("examples", "random_sae", 1),
        ("examples", "random_sae", 2), ("examples", "diffmean", None),
    )  # fmt: skip
    random = random_units(data)
    for name in ("unit", *CONTROLS[1:]):
        for concept, y in enumerate(labels.T):
            detected, scores = detectors[name].detected[concept].numpy(), detectors[name].scores[concept].numpy()
            figures = [
                got.of(each, "examples", name)[0, concept] for each in (got.f1, got.auroc, got.average_precision)
            ]
            ends = got.of(got.auroc_intervals, "examples", name)[0, concept]
            truth = torch.from_numpy(y.copy())
            np.testing.assert_array_equal(ends, auroc_interval(detectors[name].scores[concept], truth)[1:])
            expected = [f1_score(y, detected), roc_auc_score(y, scores), average_precision_score(y, scores)]
            np.testing.assert_allclose(figures, expected, atol=1e-9)
    counts = {name: counts_of(detectors[name].detected, torch.from_numpy(labels.T.copy())) for name in detectors}
    draws = torch.stack([counts_of(each.detected, torch.from_numpy(labels.T.copy())) for each in random])
    for place, (_, name) in enumerate(got.comparisons[: len(CONTROLS)]):
        for concept in range(3):
            mine = counts["unit"][[concept]]
            if name == "random_sae":
                expected = difference_to_draws(mine, draws[:, [concept]])
                f1 = got.of(got.f1, "examples", name)[:, concept].mean()
                assert float(got.f1[0, concept] - f1) == pytest.approx(float(expected[0]), abs=1e-12)
            else:
                expected = weighted_f1_difference(mine, counts[name][[concept]])
            np.testing.assert_allclose(got.differences[place, concept], expected)
        other = counts[name] if name != "random_sae" else None
        mean = f1_score(labels, detectors["unit"].detected.T, average="weighted")
        assert float(got.weighted[place, 0]) == pytest.approx(mean, abs=1e-12)
        if other is not None:
            mean = f1_score(labels, detectors[name].detected.T, average="weighted")
            assert float(got.weighted[place, 1]) == pytest.approx(mean, abs=1e-12)
            np.testing.assert_allclose(got.weighted[place, 2:], weighted_f1_difference(counts["unit"], other)[1:])


def test_rows_are_fitted_chosen_and_tested_apart(made) -> None:
    """Every control of sampled rows against scikit-learn and searches, beside the best unit of the same rows."""
    data, got, _ = made
    rows, sampled, world = data.rows, MADE.sampled, MADE.world
    x, truth, units = MADE.embeddings[sampled].astype(np.float64), world.truth[sampled], world.activations[sampled]
    train, cal, test = (rows.split.numpy() == each for each in range(3))
    example = world.example_of_row[sampled][test]
    assert got.n_items.tolist() == [
        [int(world.examples_in(each).sum()) for each in ("train", "cal", "test")],
        [int(each.sum()) for each in (train, cal, test)],
    ]
    for concept, y in enumerate(truth.T):
        unit = concept_pairs.best_unit(units[cal], y[cal], 3)
        scores = {"unit": (units[:, unit], unit), "diffmean": (reference.diffmean(x, y, train), 0)}
        # By labels of examples and all of their rows, not the sampled ones alone.
        shown = world.labels[world.example_of_row, concept]
        fits = np.array(world.splits)[world.example_of_row] == "train"
        scores["diffmean_max"] = (reference.diffmean(MADE.embeddings.astype(np.float64), shown, fits)[sampled], 0)
        folds, every = rows.folds.numpy()[train], units.astype(np.float64)
        scores["logistic"] = reference.logistic(reference.standardised(x, train), y, train, folds)
        scores["logistic_units"] = reference.logistic(reference.one_size(every, train), y, train, folds)
        scores["k_sparse"] = reference.k_sparse(every, y, train, cal, folds)
        dims = np.concatenate([x, -x], 1) - min(x.min(), -x.max()) + 1
        dimension = concept_pairs.best_unit(dims[cal], y[cal], 3)
        scores["embedding_dims"] = (dims[:, dimension], dimension)
        each_example = {}
        for name, (values, choice) in scores.items():
            rounded = values.astype(np.float32)
            threshold = reference.best_threshold(rounded[cal], y[cal])
            detected = rounded[test] >= threshold
            figures = [
                got.of(part, "rows", name)[0, concept]
                for part in (got.choices, got.f1, got.auroc, got.average_precision)
            ]
            expected = (choice, f1_score(y[test], detected), roc_auc_score(y[test], rounded[test]))
            np.testing.assert_allclose(figures, [*expected, average_precision_score(y[test], rounded[test])], atol=1e-6)
            each_row = counts_of(torch.from_numpy(detected)[None], torch.from_numpy(y[test])[None])[0]
            each_example[name] = torch.stack([each_row[example == number].sum(0) for number in np.unique(example)])[
                None
            ]
            ends = got.of(got.intervals, "rows", name)[0, concept]
            np.testing.assert_allclose(ends, weighted_f1_interval(each_example[name])[1:])
        draws = []
        for seed, activations in enumerate(MADE.random):
            values = activations[sampled]
            best = concept_pairs.best_unit(values[cal], y[cal], 3)
            detected = values[test, best] >= concept_pairs.best_threshold(values[cal, best], y[cal], 3)
            assert int(got.of(got.choices, "rows", "random_sae")[seed, concept]) == best
            f1 = float(got.of(got.f1, "rows", "random_sae")[seed, concept])
            assert f1 == pytest.approx(f1_score(y[test], detected), abs=1e-9)
            each_row = counts_of(torch.from_numpy(detected)[None], torch.from_numpy(y[test])[None])[0]
            draws.append(torch.stack([each_row[example == number].sum(0) for number in np.unique(example)])[None])
        for place, (level, name) in enumerate(got.comparisons):
            if level == "rows" and name == "random_sae":
                expected = difference_to_draws(each_example["unit"], torch.stack(draws))
            elif level == "rows":
                expected = weighted_f1_difference(each_example["unit"], each_example[name])
            if level == "rows":
                np.testing.assert_allclose(got.differences[place, concept], expected)


def test_concepts_without_figures_have_none() -> None:
    """No negative on test, nowhere located: null figures, no part in a mean."""
    labels = MADE.world.labels.copy()
    labels[MADE.world.examples_in("test"), 1] = True
    made = ControlWorld(replace(MADE.world, labels=labels), MADE.embeddings, MADE.random, MADE.sampled)
    got, _ = all_controls(collect([made.chunk()]), torch.tensor([True, True, False]))
    level = np.array([each[0] for each in got.detectors])
    missing = got.choices < 0
    assert missing[level == "examples"].all(0).tolist() == [False, True, False]
    assert missing[level == "rows"].all(0).tolist() == [False, False, True]
    assert bool(got.f1[missing].isnan().all()) and bool(got.auroc[missing].isnan().all())
    for place, (of, _) in enumerate(got.comparisons):
        null = [False, of == "examples", of == "rows"]
        assert got.differences[place].isnan().any(1).tolist() == null
    positive = torch.from_numpy(labels[MADE.world.examples_in("test")]).sum(0)[[0, 2]].double()
    f1 = got.f1[0, [0, 2]]
    assert float(got.weighted[0, 0]) == pytest.approx(float((f1 * positive).sum() / positive.sum()), abs=1e-12)


def test_a_concept_that_no_unit_stands_for_is_not_detected() -> None:
    """Its F1 is 0 in every difference, and it has its part in the means."""
    data = MADE.data(truth=False)
    units = torch.tensor([0, -1, 2])
    unit = given_units(data.examples, units, torch.tensor([0.5, np.nan, 0.5], dtype=torch.float64))
    fitted = {name: make(data) for name, make in FITTED.items()}
    got = compare(("a", "b", "c"), data, unit, random_units(data), fitted)
    for place, (level, name) in enumerate(got.comparisons):
        mean = got.of(got.f1, level, name)[:, 1].mean()
        assert float(got.differences[place, 1, 0]) == pytest.approx(-float(mean), abs=1e-12)
        positive = data.examples.labels[data.examples.tests].sum(0).double()
        mine = float((got.f1[0].nan_to_num(0) * positive).sum() / positive.sum())
        assert float(got.weighted[place, 0]) == pytest.approx(mine, abs=1e-12)


def test_without_rows_there_are_no_row_figures() -> None:
    """Chunks without truth: examples alone."""
    data = collect([MADE.chunk(truth=False)])
    got, _ = all_controls(data)
    assert data.rows is None and not got.row_figures and got.n_items[1].tolist() == [0, 0, 0]
    assert {level for level, *_ in got.detectors} == {"examples"} and len(got.comparisons) == len(CONTROLS) - 1


def test_the_unit_is_the_one_of_the_best_pair() -> None:
    """A unit and a threshold that were chosen elsewhere, and none."""
    items = collect([MADE.chunk()]).examples
    got = given_units(items, torch.tensor([4, -1, 0]), torch.tensor([1.5, np.nan, 0.5], dtype=torch.float64))
    scores = MADE.pooled(MADE.world.activations)[items.tests.numpy()]
    np.testing.assert_array_equal(got.detected, [scores[:, 4] >= 1.5, scores[:, 0] < 0, scores[:, 0] >= 0.5])
    assert got.choices.tolist() == [4, -1, 0] and bool(got.scores[1].isnan().all())
    labels, detected = MADE.world.labels[items.tests.numpy()].T, got.detected.numpy()
    cells = (detected & labels, detected & ~labels, ~detected & labels, ~detected & ~labels)
    assert counts_on_test(items, got).tolist() == np.stack([cell.sum(1) for cell in cells], 1).tolist()


@pytest.mark.parametrize("pooling", [Pooling("mean"), Pooling("topk_mean", 2), Pooling("last")])
def test_units_and_random_saes_are_pooled_alike(pooling: Pooling) -> None:
    """As asked, in place of the maximum; what was pooled otherwise is refused, and not compared."""
    got = collect([MADE.chunk(pooling=pooling)], pooling=pooling)
    n, every = len(MADE.world.lengths), torch.arange(MADE.world.n_units)
    expected = MADE.pooled(MADE.world.activations, pooling)
    np.testing.assert_allclose(got.examples.units.dense(every, n).T, expected, rtol=1e-6)
    for scores, activations in zip(got.random, MADE.random, strict=True):
        np.testing.assert_allclose(scores.dense(every, n).T, MADE.pooled(activations, pooling), rtol=1e-6)
    with pytest.raises(ArtifactError, match=r"are pooled by max, those of units by " + re.escape(pooling.label)):
        collect([MADE.chunk()], pooling=pooling)
    with pytest.raises(ArtifactError, match="Materialize control_inputs again"):
        collect([MADE.chunk(pooling=pooling)])


def test_chunks_that_do_not_belong_together_are_refused() -> None:
    """Other examples, other units, no chunks at all."""
    other = control_world(2, n_examples=80, n_concepts=3, n_units=5)
    with pytest.raises(ArtifactError, match="no chunks"):
        collect([])
    with pytest.raises(ArtifactError, match="Control inputs are of 80 examples"):
        replace(MADE.chunk(), inputs=other.chunk().inputs)
    with pytest.raises(ArtifactError, match="Labels are of 40 examples"):
        replace(MADE.chunk(), labels=MADE.chunk(0, 40).labels)
    with pytest.raises(ArtifactError, match="other units"):
        collect([MADE.chunk(), other.chunk()])


# What the intervals hold --------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("n", "spread", "recall", "others"),
    [(76, 0.0, 0.85, 5), (76, 0.6, 0.85, 5), (200, 0.4, 0.7, 5), (400, 1.0, 0.7, 2)],
)
def test_a_detector_drawn_as_the_others_differs_by_nothing(n: int, spread: float, recall: float, others: int) -> None:
    """Draws of one kind, which differ by ``spread`` and agree on what is hard: 0 is held as often as said."""
    rng, trials, held = np.random.default_rng(7), 100, 0
    for _ in range(trials):
        truth = rng.random((1, n)) < 0.33
        hard = rng.normal(size=(1, n))
        draws = []
        for _ in range(1 + others):
            ease = (hard + rng.normal(size=(1, n))) / 2**0.5 + spread * rng.normal()
            detected = np.where(truth, ease < stats.norm.ppf(recall), ease > stats.norm.ppf(0.9))
            draws.append(counts_of(torch.from_numpy(detected), torch.from_numpy(truth)))
        _, low, high = difference_to_draws(draws[0], torch.stack(draws[1:])).tolist()
        held += low <= 0 <= high
    assert held >= stats.binom(trials, 0.93).ppf(0.0005)


@pytest.mark.parametrize("n_draws", [2, 3, 6])
def test_limits_of_a_difference_to_draws_are_those_of_a_further_draw(n_draws: int) -> None:
    """Where draws differ more than examples do: ``± t s √(1 + 1/S)`` of the S draws' F1."""
    number, recall = torch.arange(400)[None], np.arange(10 - n_draws, 10) / 10
    truth = number % 2 == 0
    draws = torch.stack([counts_of(truth & (number % 20 < 20 * each), truth) for each in recall])
    f1 = 2 * recall / (1 + recall)
    far = stats.t.ppf(0.975, n_draws - 1) * f1.std(ddof=1) * (1 + 1 / n_draws) ** 0.5
    expected = f1[-1] - f1.mean() + np.array([0, -far, far])
    np.testing.assert_allclose(difference_to_draws(draws[-1], draws), expected.clip(-1, 1), rtol=1e-12)


def test_a_better_detector_is_told_from_random_ones() -> None:
    """The interval is not so wide that nothing could be found: it excludes 0 where the difference is large."""
    rng = np.random.default_rng(8)
    truth = torch.from_numpy(rng.random((1, 150)) < 0.4)
    draws = [counts_of(truth ^ torch.from_numpy(rng.random((1, 150)) < 0.3), truth) for _ in range(5)]
    good = counts_of(truth ^ torch.from_numpy(rng.random((1, 150)) < 0.04), truth)
    assert float(difference_to_draws(good, torch.stack(draws))[1]) > 0
    assert float(difference_to_draws(draws[0], torch.stack([good] * 5))[2]) < 0
    assert bool(difference_to_draws(good, torch.stack(draws[:1]))[1:].isnan().all())


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_random_sae_given_as_the_sae_differs_from_random_saes_by_nothing() -> None:
    """The whole choice of unit and threshold on cal, for seven random SAEs a trial: one of them plays the SAE.

    Embeddings hold the concepts, so random SAEs detect well; differences of concepts and of the mean hold 0. Rows
    choose the units of all; of the one that plays the SAE all rows of cal, of the others the sampled ones.
    """
    trials, held, f1 = 24, np.zeros(4), []
    for trial in range(trials):
        made = control_world(100 + trial, n_examples=120, n_units=16, n_concepts=3, d=8, n_seeds=7, signal=1.2)
        world = replace(made.world, activations=made.random[0])
        made = ControlWorld(world, made.embeddings, made.random[1:], made.sampled)
        chunk, concepts = RowChunk(world.sparse(), world.ground_truth(), world.splits), world.concepts
        figures = align_rows([chunk], concepts=concepts, n_units=world.n_units)
        everywhere = torch.zeros(2, 3, dtype=torch.int64)
        aligned = rank_pairs(figures, [chunk], concepts=concepts, n_unlocated=everywhere)
        labelled = LabelledChunk(chunk.activations, world.splits, torch.from_numpy(world.labels))
        chosen = choose_exactly(score_examples([labelled], n_units=world.n_units), aligned)
        data = collect([made.chunk()])
        unit = given_units(data.examples, chosen.unit_ids, chosen.thresholds)
        random = random_units(data, by_rows=chosen.by_rows)
        got = compare(concepts, data, unit, random, dict.fromkeys(CONTROLS[1:], unit))
        low, high = got.differences[0, :, 1], got.differences[0, :, 2]
        held[:3] += ((low <= 0) & (high >= 0)).numpy()
        held[3] += float(got.weighted[0, 2]) <= 0 <= float(got.weighted[0, 3])
        f1.append(float(got.weighted[0, 0]))
    assert np.mean(f1) > 0.5
    each, of_mean = held[:3].sum(), held[3]
    assert each >= stats.binom(3 * trials, 0.93).ppf(0.0005) and of_mean >= stats.binom(trials, 0.93).ppf(0.0005)


@pytest.fixture(scope="module")
def alone() -> tuple[list[ControlChunk], str]:
    """Chunks of a small data set, and the hash of what a process makes of them that has set nothing."""
    small = control_world(1, n_examples=30, n_units=4, n_concepts=1, d=3)
    chunks = [small.chunk()]
    return chunks, all_controls(collect(chunks), EVERYWHERE[:1])[0].content_hash()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("state", ["inference mode", "three threads", "subnormals to 0", "rounded up", "many at once"])
def test_the_same_bits_whatever_the_process_has_set(alone, state: str) -> None:
    """Collected, fitted and compared under the state: the same artifact."""
    chunks, expected = alone
    assert under(state, lambda: all_controls(collect(chunks), EVERYWHERE[:1])[0].content_hash()) == expected


@pytest.mark.slow
def test_what_is_chosen_does_not_depend_on_test() -> None:
    """Other labels and embeddings of test: detectors make the same choices and say the same of the same examples."""
    rng, made = np.random.default_rng(3), control_world(4, n_examples=45, n_units=6)
    tests = made.world.examples_in("test")
    labels, embeddings = made.world.labels.copy(), made.embeddings.copy()
    labels[tests] = rng.permutation(labels[tests])
    embeddings[made.world.rows_in("test")] += rng.normal(size=embeddings[made.world.rows_in("test")].shape) * 3
    other = ControlWorld(replace(made.world, labels=labels), made.embeddings, made.random, made.sampled)
    moved = ControlWorld(made.world, embeddings.astype(np.float32), made.random, made.sampled)
    one, two, three = (each.data(truth=False) for each in (made, other, moved))
    for name, make in FITTED.items():
        before, relabelled, changed = make(one), make(two), make(three)
        assert before.choices.tolist() == relabelled.choices.tolist() == changed.choices.tolist(), name
        assert torch.equal(before.detected, relabelled.detected) and torch.equal(before.scores, relabelled.scores), name
        by_embeddings = name not in ("logistic_units", "k_sparse")
        assert by_embeddings != torch.equal(before.scores, changed.scores), name


def test_where_rows_were_not_looked_at_again_the_other_controls_are_compared() -> None:
    """No largest DiffMean, and every other figure as it was."""
    data = MADE.data()
    whole, without = (all_controls(each)[0] for each in (data, replace(data, largest=None)))
    assert whole.second_pass and without.second_pass is None
    assert set(whole.comparisons) - set(without.comparisons) == {("examples", LARGEST)}
    for name in (*controls_of(None), "unit"):
        for one, two in ((whole.counts, without.counts), (whole.intervals, without.intervals)):
            assert torch.equal(whole.of(one, "examples", name), without.of(two, "examples", name))


def test_all_row_controls_are_compared(made) -> None:
    """Every control of rows has a comparison, after those of examples; rows depend on each other within an example."""
    _, got, _ = made
    rows = torch.tensor([level == "rows" for level, *_ in got.detectors])
    assert bool(got.auroc_intervals[rows].isnan().all()) and not bool(got.auroc_intervals[~rows].isnan().any())
    assert got.comparisons == (*(("examples", name) for name in CONTROLS), *(("rows", name) for name in ROW_CONTROLS))
