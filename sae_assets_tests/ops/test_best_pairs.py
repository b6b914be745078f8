"""The choice of pairs against an exhaustive reference, chance levels and intervals against their definitions."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binom
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from sae_assets.errors import ArtifactError
from sae_assets.ops.best_pairs import figure_pairs
from sae_assets.ops.choice import best_pair
from sae_assets.ops.intervals import auroc_interval, counts_of, weighted_f1_interval
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets_tests.helpers.ops_of_worlds import (
    at,
    calibrate,
    choice,
    choose,
    dense_scores,
    lengths_of,
    rows_of,
    world_of,
)
from sae_assets_tests.reference import best_pairs as reference
from sae_assets_tests.reference import detection_stats as reference_detection
from sae_assets_tests.strategies import (
    DEVICES,
    PROPERTY,
    THOROUGH,
    World,
    chunkings,
    random_world,
    tail_fractions,
    worlds,
)

pytestmark = pytest.mark.slow

RATES = {"precision": precision_score, "recall": recall_score, "f1": f1_score}


# The choice -----------------------------------------------------------------------------------------------------


@PROPERTY
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4))
def test_the_best_pair_is_the_exhaustive_one(data, n_units, n_fractions, n_positive, n_negative):
    """Highest F1; ties by higher recall, smaller tail fraction, lower unit: in exact arithmetic, over all pairs."""
    counts = hnp.arrays(np.int32, (n_units, n_fractions), elements=st.integers(0, 4), fill=st.nothing())
    true, false = np.minimum(data.draw(counts), n_positive), np.minimum(data.draw(counts), n_negative)
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=n_units, max_size=n_units)))
    true[~valid], false[~valid] = 0, 0
    got = best_pair(torch.from_numpy(true), torch.from_numpy(false), n_positive, torch.from_numpy(valid))
    assert got == reference.best_pair(true, false, n_positive - true, valid)


@pytest.mark.parametrize(
    ("true", "false", "n_positive", "expected"),
    [
        ([[1], [2]], [[0], [0]], 4, (1, 0)),  # F1
        ([[2, 3]], [[0, 3]], 6, (0, 1)),  # 4/8 and 6/12 are equal: higher recall
        ([[1, 2], [2, 1]], [[0, 1], [1, 0]], 4, (1, 0)),  # equal F1 and recall: smaller fraction before lower unit
        ([[2], [2]], [[1], [1]], 4, (0, 0)),  # all equal: lower unit
        ([[0], [0]], [[1], [3]], 4, (0, 0)),  # nothing found by any: still a choice, by the same rule
    ],
)
def test_each_tie_rule(true, false, n_positive, expected):
    """One case for each key of the order."""
    valid = torch.ones(len(true), dtype=torch.bool)
    got = best_pair(torch.tensor(true, dtype=torch.int32), torch.tensor(false, dtype=torch.int32), n_positive, valid)
    assert got == expected


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(), fractions=tail_fractions)
def test_chosen_pairs_and_their_counts(device, world, fractions):
    """Original unit id, tail fraction, threshold and counts on both splits, all from dense counts of cal."""
    thresholds = calibrate(world, fractions)
    got = choose(world, fractions, device=device)
    cutoffs = thresholds.values[:-1].numpy()
    valid = (thresholds.n_positive[:-1] > 0).numpy()
    tables = []
    for split in EVALUATED:
        labels = world.labels[world.examples_in(split)]
        tables.append(reference_detection.confusion(dense_scores(world, split), labels, cutoffs))
    for concept in range(len(world.concepts)):
        tp, fp, fn, _ = (table[concept] for table in tables[0])
        pair = reference.best_pair(tp, fp, fn, valid[concept])
        if pair is None or world.labels[world.examples_in("cal"), concept].all():
            assert got.unit_ids[concept] == -1
            assert bool(got.thresholds[concept].isnan()) and bool(got.tail_fractions[concept].isnan())
            assert not bool(got.counts[:, concept, :2].any())
            assert float(got.rate("f1")[:, concept].nan_to_num().max()) == 0
            continue
        unit, place = pair
        assert got.unit_ids[concept] == 2 * unit and got.tail_fractions[concept] == fractions[place]
        assert got.thresholds[concept] == cutoffs[concept, unit, place]
        for split in range(2):
            assert got.counts[split, concept].tolist() == [table[concept, unit, place] for table in tables[split]]


@PROPERTY
@given(worlds(), st.data())
def test_chunking_changes_nothing(world, data):
    """Cut in order, chance levels and intervals are the same too; in any order, the choice and its counts are."""
    whole = choose(world)
    assert choose(world, parts=data.draw(chunkings(len(world.lengths), shuffled=False))) == whole
    mixed = choose(world, parts=data.draw(chunkings(len(world.lengths))))
    same = ("unit_ids", "tail_fractions", "thresholds", "counts")
    assert dataclasses.replace(whole, **{name: getattr(mixed, name) for name in same}) == whole


# Rates ----------------------------------------------------------------------------------------------------------


@PROPERTY
@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12),
)
def test_rates_are_scikit_learns(cal, test):
    """Precision, recall, F1 and accuracy of (label, detected) pairs; 0/0 is 0, a split of one class is null."""
    pairs = {"cal": cal, "test": test}
    scores = {split: [2.0 if detected else 1.0 for _, detected in both] for split, both in pairs.items()}
    labels = {split: [label for label, _ in both] for split, both in pairs.items()}
    got = choose(world_of(scores, labels), thresholds=at(2.0))
    chosen = any(labels["cal"]) and not all(labels["cal"])
    assert (int(got.unit_ids[0]) == 4) == chosen
    for place, split in enumerate(EVALUATED):
        truth, predicted = labels[split], [detected and chosen for _, detected in pairs[split]]
        exists = any(truth) and not all(truth)
        for name, metric in RATES.items():
            expected = metric(truth, predicted, zero_division=0) if exists else np.nan
            np.testing.assert_allclose(got.rate(name)[place, 0], expected, rtol=1e-12)
        expected = accuracy_score(truth, predicted) if exists else np.nan
        np.testing.assert_allclose(got.rate("accuracy")[place, 0], expected, rtol=1e-12)


@PROPERTY
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.lists(st.booleans(), min_size=1, max_size=12))
def test_the_always_positive_figure_is_scikit_learns(cal, test):
    """F1 of calling every example positive, in float64 as every other figure; null without both classes."""
    labels = {"cal": cal, "test": test}
    world = world_of({split: [1.0] * len(values) for split, values in labels.items()}, labels)
    got = choose(world, thresholds=at(2.0)).always_positive_f1[:, 0]
    for figure, truth in zip(got, labels.values(), strict=True):
        if all(truth):
            assert bool(figure.isnan())
            continue
        expected = f1_score(truth, [True] * len(truth)) if any(truth) else np.nan
        np.testing.assert_allclose(reference.always_positive_f1(sum(truth), len(truth)), expected, rtol=1e-12)
        np.testing.assert_allclose(figure, expected, rtol=1e-12)


def test_always_positive_figures_from_marginal_counts_by_hand():
    """Test positives 30, 12 and 48 of 60: F1 2/3, 1/3 and 8/9, weighted (30·2/3 + 12·1/3 + 48·8/9) / 90 = 0.7407.

    A unit that fires on every example reaches exactly these figures by detection; so golden numbers of published data
    follow from their marginal counts alone.
    """
    marginals, n = (30, 12, 48), 60
    labels = np.arange(n)[:, None] < np.array(marginals)
    both = np.concatenate([labels, labels])
    world = World(np.ones((2 * n, 1), np.float32), np.ones(2 * n, int), ("cal",) * n + ("test",) * n, both, both)
    got = choose(world, thresholds=at(1.0, 3))
    assert [round(figure, 4) for figure in got.always_positive_f1[1].tolist()] == [0.6667, 0.3333, 0.8889]
    assert round(got.weighted(got.always_positive_f1[1]), 4) == 0.7407
    np.testing.assert_allclose(got.rate("f1")[1], got.always_positive_f1[1], rtol=1e-15)
    assert round(got.weighted(got.rate("f1")[1]), 4) == 0.7407


@pytest.mark.parametrize(
    ("marginals", "n", "published"),
    [((140,), 285, 0.6588), ((178,), 349, 0.6755), ((46, 60, 60, 46, 60, 60), 166, 0.5041)],
    ids=["Sarcasm", "iSarcasm", "CLEVR"],
)
def test_published_always_positive_figures_come_out_of_detection(marginals, n, published):
    """Through the confusion counts of a unit that fires on every example.

    The counts of the first two follow from the figure; those of CLEVR are one of the ways to it (colours and shapes
    each sum to its 166 examples).
    """
    labels = np.arange(n)[:, None] < np.array(marginals)
    both = np.concatenate([labels, labels])
    world = World(np.ones((2 * n, 1), np.float32), np.ones(2 * n, int), ("cal",) * n + ("test",) * n, both, both)
    got = choose(world, thresholds=at(1.0, len(marginals)))
    assert round(got.weighted(got.rate("f1")[1]), 4) == published
    assert round(got.weighted(got.always_positive_f1[1]), 4) == published


def test_the_weighted_figure_counts_concepts_by_their_test_positives():
    """Every column of weighted means is over the same concepts: those with both classes in both splits."""
    got = choose(random_world(3, n_concepts=3))
    weights = got.n_positive[1].tolist()
    assert len(set(weights)) > 1 and bool(got.two_classes.all())
    expected = reference.weighted_mean([0.2, 0.5, 1.0], weights)
    np.testing.assert_allclose(got.weighted(torch.tensor([0.2, 0.5, 1.0]).double()), expected, rtol=1e-7)
    counts = got.counts.clone()
    counts[0, 1, 2:] = torch.tensor([0, int(counts[0, 1].sum())])
    counts[0, 1, :2] = 0
    fewer = dataclasses.replace(got, counts=counts)
    expected = reference.weighted_mean([0.2, np.nan, 1.0], weights)
    np.testing.assert_allclose(fewer.weighted(torch.tensor([0.2, 0.5, 1.0]).double()), expected, rtol=1e-7)
    counts[:, :, 2:] = counts[:, :, :2].clone().zero_()
    assert np.isnan(dataclasses.replace(got, counts=counts * 0).weighted(torch.ones(3).double()))


@pytest.mark.parametrize("labels", [False, True])
def test_a_concept_of_one_class_keeps_its_counts_and_has_no_figures(labels):
    """It stays in the table; every figure is null and none is 0 or 1."""
    world = world_of({"cal": [1.0, 2.0], "test": [1.0, 2.0]}, {"cal": [labels] * 2, "test": [labels] * 2})
    got = choose(world, thresholds=at(1.0))
    assert got.unit_ids.tolist() == [-1]
    assert got.counts[:, 0].tolist() == ([[0, 0, 2, 0]] * 2 if labels else [[0, 0, 0, 2]] * 2)
    for name in ("precision", "recall", "f1", "accuracy"):
        assert bool(got.rate(name).isnan().all())
    for name in (
        "null_f1",
        "p",
        "family_p",
        "q",
        "test_interval",
        "scores",
        "auroc_interval",
        "weighted_interval",
        "weighted_null",
    ):
        assert bool(getattr(got, name).isnan().all()), name


def test_a_concept_that_no_unit_stands_for_is_detected_nowhere():
    """Both classes are there and no unit fires: F1 0 in the table and in the mean, p 1, no curve."""
    world = world_of({"cal": [0.0] * 4, "test": [0.0] * 4}, {split: [True, True, False, False] for split in EVALUATED})
    got = choose(world, thresholds=dataclasses.replace(at(1.0), values=torch.full((2, 1, 1), torch.nan).double(),
                                                       n_positive=torch.zeros(2, 1, dtype=torch.int64)))  # fmt: skip
    assert got.unit_ids.tolist() == [-1] and got.rate("f1").tolist() == [[0], [0]]
    assert got.weighted(got.rate("f1")[1]) == 0 and got.p[1].tolist() == [1] and bool(got.scores[:, 0].isnan().all())
    assert bool(got.auroc_interval.isnan().all())


def test_figures_beside_f1_are_scikit_learns():
    """AUROC, AP, MCC and balanced accuracy of the chosen unit on test; Brier's score of what cal calibrates."""
    world = random_world(11, n_examples=120, n_concepts=2)
    got = choose(world, (0.2, 0.5, 0.8))
    truth = world.labels[world.examples_in("test")]
    for concept, unit in enumerate(got.unit_ids.tolist()):
        score = dense_scores(world, "test")[:, unit // 2]
        found = score >= float(got.thresholds[concept])
        label = truth[:, concept]
        expected = [roc_auc_score(label, score), average_precision_score(label, score), matthews_corrcoef(label, found),
                    balanced_accuracy_score(label, found)]  # fmt: skip
        np.testing.assert_allclose(got.scores[concept, :4], expected, rtol=1e-9)
        alone = auroc_interval(torch.from_numpy(score), torch.from_numpy(label.copy()))
        np.testing.assert_allclose([expected[0], *got.auroc_interval[concept]], alone, rtol=1e-12)
        cal = world.labels[world.examples_in("cal"), concept]
        model = IsotonicRegression(out_of_bounds="clip").fit(dense_scores(world, "cal")[:, unit // 2], cal)
        np.testing.assert_allclose(got.scores[concept, 4], brier_score_loss(label, model.predict(score)), rtol=1e-9)
        lengths = world.lengths[world.examples_in("test")]
        np.testing.assert_allclose(got.length_auroc[concept], roc_auc_score(label, lengths), rtol=1e-9)


# Chance ---------------------------------------------------------------------------------------------------------


def test_chance_and_intervals_are_reproducible():
    """The same seed gives the same bits; another gives other draws but the same choice."""
    world = random_world(0)
    one = choose(world, n_permutations=20)
    assert choose(world, n_permutations=20) == one
    other = choose(world, n_permutations=20, seed=1)
    assert torch.equal(other.counts, one.counts) and torch.equal(other.unit_ids, one.unit_ids)
    assert not torch.equal(other.null_f1, one.null_f1)
    assert torch.equal(other.weighted_interval, one.weighted_interval)  # nothing is drawn for it


def test_a_perfect_detector_is_far_above_chance():
    """It reaches F1 1 on both splits, where the same selection on shuffled labels does not come near."""
    rng = np.random.default_rng(0)
    labels = {split: (rng.random(100) < 0.2).tolist() for split in EVALUATED}
    scores = {split: [2.0 if label else 1.0 for label in labels[split]] for split in EVALUATED}
    got = choose(world_of(scores, labels), thresholds=at(2.0), n_permutations=100)
    assert got.rate("f1").tolist() == [[1.0], [1.0]]
    assert float(got.null_f1[1].max()) < 0.5 and float(got.p[1]) == 1 / 101
    for low, high in (got.test_interval[0].tolist(), got.weighted_interval.tolist()):
        assert 0.8 < low < high == 1.0  # that nothing was missed does not show that nothing would be


def noise_world(seed: int, n_examples: int = 160) -> World:
    """Activations of 12 units and labels of one concept that have nothing to do with them."""
    world = random_world(seed, n_examples=n_examples, rows=2, n_concepts=1)
    labels = np.random.default_rng(10_000 + seed).random((n_examples, 1)) < 0.4
    return World(world.activations, world.lengths, world.splits, labels[world.example_of_row], labels)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_noise_exceeds_the_95_percent_point_in_5_percent_of_trials():
    """On labels at random, test F1 is above the null's 95 % point about one time in twenty: 99.9 % binomial bounds."""
    trials, above, means = 300 if THOROUGH else 120, 0, []
    for seed in range(trials):
        got = choose(noise_world(seed), (0.2, 0.5, 0.8), n_permutations=60)
        above += bool(got.rate("f1")[1, 0] > got.null_f1[1, 0, 1])
        means.append(float(got.rate("f1")[1, 0] - got.null_f1[1, 0, 0]))
    low, high = binom(trials, 0.05).ppf([0.0005, 0.9995])
    assert low <= above <= high, above
    assert abs(np.mean(means)) < 4 * np.std(means) / trials**0.5


def test_labels_are_shuffled_and_examples_resampled_for_all_concepts_at_once():
    """Concepts with the same labels and thresholds have the same chance level and the same interval.

    Their mean is known no better for being of more of them: one alone has F1's own interval, which is narrower.
    """
    world = random_world(0, n_concepts=1)

    def repeated(n: int) -> World:
        truth, labels = np.repeat(world.truth, n, 1), np.repeat(world.labels, n, 1)
        return World(world.activations, world.lengths, world.splits, truth, labels)

    got = choose(repeated(2), n_permutations=20)
    assert torch.equal(got.null_f1[1, 0], got.null_f1[1, 1])
    assert torch.equal(got.test_interval[0], got.test_interval[1])
    more, once = (choose(repeated(n), n_permutations=20).weighted_interval for n in (5, 1))
    np.testing.assert_allclose(got.weighted_interval, more, rtol=1e-12)
    assert got.weighted_interval[0] < once[0] and got.weighted_interval[1] <= once[1]


# Intervals ------------------------------------------------------------------------------------------------------


def test_the_interval_of_the_mean_is_the_percentile_bootstrap_over_examples():
    """It contains the figure and agrees with an independent resampling of (label, detected) pairs; F1's own is near."""
    rng = np.random.default_rng(1)
    labels = {split: (rng.random(200) < 0.4).tolist() for split in EVALUATED}
    hit = {split: (rng.random(200) < 0.8).tolist() for split in EVALUATED}
    scores = {
        split: [2.0 if label == right else 1.0 for label, right in zip(labels[split], hit[split], strict=True)]
        for split in EVALUATED
    }
    got = choose(world_of(scores, labels), thresholds=at(2.0))
    low, high = got.weighted_interval.tolist()
    assert low < float(got.rate("f1")[1, 0]) < high
    np.testing.assert_allclose(got.test_interval[0], [low, high], atol=0.02)
    truth, found = np.array(labels["test"]), np.array(scores["test"]) >= 2
    draws = rng.integers(200, size=(2000, 200))
    tp, fp, fn = ((mask[draws]).sum(1) for mask in (truth & found, ~truth & found, truth & ~found))
    expected = np.quantile(reference_detection.f1(tp, fp, fn), [0.025, 0.975])
    np.testing.assert_allclose([low, high], expected, atol=0.02)


@pytest.mark.long
@pytest.mark.slow
def test_the_interval_covers_the_true_figure_about_as_often_as_it_says():
    """Of a detector with known error rates, over 400 test splits of 120 examples: nominal 95 %, 99.9 % bounds below."""
    share, recall, false_rate, trials = 0.3, 0.8, 0.1, 400
    precision = share * recall / (share * recall + (1 - share) * false_rate)
    true_f1 = 2 * precision * recall / (precision + recall)
    rng = np.random.default_rng(7)
    truth = rng.random((trials, 120)) < share
    found = rng.random((trials, 120)) < np.where(truth, recall, false_rate)
    pair = (torch.from_numpy(np.stack([each] * 2, 1)) for each in (found, truth))
    _, low, high = weighted_f1_interval(counts_of(*pair)).unbind(-1)
    covered = int(((low <= true_f1) & (true_f1 <= high)).sum())
    assert binom(trials, 0.95).ppf(0.0005) <= covered
    assert covered < trials  # an interval that always covers says nothing


# Folds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(max_examples=10), fractions=tail_fractions, n_folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_are_counted_with_the_pair_chosen_without_them(device, world, fractions, n_folds, seed):
    """Counts of all held-out folds added up, fold by fold and pair by pair; the other figures stay as they are."""
    got, _ = choice(world, fractions, device=device, n_folds=n_folds, seed=seed)
    labels = world.labels[world.examples_in("cal")]
    fold = np.zeros(len(labels), int)
    fold[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).numpy()] = (
        np.arange(len(labels)) % n_folds
    )
    cutoffs = calibrate(world, fractions).values[:-1].numpy()
    expected = np.array(reference.held_out_f1(dense_scores(world, "cal"), labels, cutoffs, fold))
    expected[labels.all(0)] = np.nan  # a concept without a negative has no figure of examples
    np.testing.assert_array_equal(got.fold_f1, expected)
    without, _ = choice(world, fractions, device=device, seed=seed)
    assert without.fold_f1 is None and dataclasses.replace(got, n_folds=0, fold_f1=None) == without


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_folds_see_through_the_choice_on_noise():
    """On labels at random cal F1 is raised by the choice, and the folds' figure is not: it agrees with test."""
    figures = []
    for seed in range(40):
        world = noise_world(seed, 240)
        chosen, scores = choice(world, (0.2, 0.5, 0.8), n_folds=5)
        got = figure_pairs(chosen, scores, lengths_of(world), rows_of(world, chosen), n_permutations=0)
        figures.append([*got.rate("f1")[:, 0].tolist(), float(chosen.fold_f1[0])])
    cal, test, folds = np.mean(figures, 0)
    error = np.std(np.array(figures)[:, 2] - np.array(figures)[:, 1]) / 40**0.5
    assert cal - folds > 0.05 and abs(folds - test) < 4 * error


@pytest.mark.parametrize("n_folds", [1, -1])
def test_one_fold_is_no_fold(n_folds):
    """Nothing could be chosen without it."""
    with pytest.raises(ArtifactError, match=f"n_folds is {n_folds}, expected 0"):
        choice(random_world(0), n_folds=n_folds)


@PROPERTY
@given(worlds(max_examples=8))
def test_intervals_and_chance_lie_within_0_and_1_or_are_null(world):
    """Ordered, bounded, and null exactly where the split lacks a class; on cal the grid has no null."""
    got = choose(world, n_permutations=6)
    for pair in (got.test_interval, got.auroc_interval, got.weighted_interval[None], got.null_f1[1]):
        known = ~pair.isnan().any(-1)
        assert torch.equal(pair.isnan().any(-1), pair.isnan().all(-1))
        assert bool((pair[known] >= 0).all()) and bool((pair[known] <= 1).all())
    for ordered in (got.test_interval, got.weighted_interval[None]):
        assert not bool((ordered[:, 0] > ordered[:, 1]).any())
    low, area, high = got.auroc_interval[:, 0], got.scores[:, 0], got.auroc_interval[:, 1]
    assert torch.equal(area.isnan(), low.isnan()) and torch.equal(area.isnan(), high.isnan())
    assert bool(((low <= area) & (area <= high) & (low < high))[~area.isnan()].all())
    assert torch.equal(got.null_f1[1, :, 0].isnan(), ~got.two_classes[1]) and bool(got.null_f1[0].isnan().all())
    assert torch.equal(got.test_interval[:, 0].isnan(), ~got.two_classes[1])


def test_without_draws_there_are_no_figures():
    """No permutations give nulls, and leave the choice and all intervals alone."""
    world = random_world(0)
    none, some = choose(world, n_permutations=0), choose(world)
    assert bool(none.null_f1.isnan().all()) and torch.equal(none.test_interval, some.test_interval)
    assert bool(none.weighted_null.isnan().all())
    assert torch.equal(none.weighted_interval, some.weighted_interval) and not bool(
        some.weighted_interval.isnan().any()
    )
    assert torch.equal(none.counts, some.counts) and torch.equal(none.unit_ids, some.unit_ids)


def test_without_test_examples_the_choice_stands():
    """An empty test split has no figures, and does not change the choice."""
    world = random_world(0)
    no_test = World(
        world.activations,
        world.lengths,
        tuple("train" if split == "test" else split for split in world.splits),
        world.truth,
        world.labels,
    )
    one, two = choose(world), choose(no_test)
    assert torch.equal(one.unit_ids, two.unit_ids) and torch.equal(one.counts[0], two.counts[0])
    assert two.counts[1].sum() == 0 and bool(two.test_interval.isnan().all())
    assert bool(two.rate("f1")[1].isnan().all()) and bool(two.null_f1[1].isnan().all())
