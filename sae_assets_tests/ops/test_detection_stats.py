"""Detection counts against the dense reference, for any chunking."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts import DetectionStats, SparseRows, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops import detection_stats, scratch
from sae_assets.ops import example_scores as gathering
from sae_assets.ops import sorted_scores as scores_module
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import SCORE_BYTES, LabelledChunk, gather_scores, score_examples
from sae_assets.ops.sorted_scores import EVALUATED, example_scores
from sae_assets_tests.helpers.ops_of_worlds import calibrate, dense_scores, hand, score
from sae_assets_tests.reference import detection_stats as reference
from sae_assets_tests.reference import thresholds as reference_thresholds
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, chunkings, random_world, tail_fractions, worlds


def assert_matches(stats: DetectionStats, world: World, cutoffs: np.ndarray) -> None:
    for place, split in enumerate(EVALUATED):
        labels = world.labels[world.examples_in(split)]
        tp, fp, fn, tn = reference.confusion(dense_scores(world, split), labels, cutoffs)
        np.testing.assert_array_equal(stats.true_positives[place], tp)
        np.testing.assert_array_equal(stats.false_positives[place], fp)
        np.testing.assert_array_equal(stats.false_negatives[place], fn)
        np.testing.assert_array_equal(stats.true_negatives[place], tn)
        exists = ~np.isnan(cutoffs) & labels.any(0)[:, None, None]
        np.testing.assert_array_equal(stats.f1[place], np.where(exists, reference.f1(tp, fp, fn), np.nan))
        np.testing.assert_array_equal(stats.n_positive[place], labels.sum(0))
        np.testing.assert_array_equal(stats.n_negative[place], (~labels).sum(0))


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(), fractions=tail_fractions)
def test_counts_are_those_of_the_dense_scores(device, world, fractions):
    """TP, FP, FN, TN and F1 of every triple on both splits, given the same thresholds."""
    thresholds = calibrate(world, fractions)
    stats = count_detections(score(world, device=device), thresholds)
    assert_matches(stats, world, thresholds.values[:-1].numpy())
    np.testing.assert_array_equal(stats.valid, ~thresholds.values[:-1, :, 0].isnan().numpy())


@pytest.mark.parametrize("seed", range(3))
def test_counts_from_rows_to_confusion(seed):
    """The dense references from activations to counts, thresholds included, give the same counts."""
    world = random_world(seed, n_examples=150, n_concepts=4)
    fractions = (0.02, 0.1, 0.5, 0.95)
    stats = count_detections(score(world), calibrate(world, fractions))
    cutoffs = reference_thresholds.thresholds(world.activations, world.truth, world.rows_in("cal"), fractions)
    assert_matches(stats, world, cutoffs)


@pytest.mark.slow
@PROPERTY
@given(worlds(), st.data())
def test_chunking_and_order_change_nothing(world, data):
    """Cutting the examples into chunks in any order gives the same counts."""
    thresholds = calibrate(world, (0.1, 0.5))
    parts = data.draw(chunkings(len(world.lengths)))
    assert count_detections(score(world, parts), thresholds) == count_detections(score(world), thresholds)


@PROPERTY
@given(worlds(), st.data())
def test_cutting_in_order_keeps_even_the_places_of_examples(world, data):
    """Scores of a data set cut into chunks in order are those of the whole, bit for bit."""
    whole, cut = score(world), score(world, data.draw(chunkings(len(world.lengths), shuffled=False)))
    for split in EVALUATED:
        for name in ("keys", "starts", "example", "labels"):
            assert torch.equal(getattr(whole[split], name), getattr(cut[split], name)), name


@PROPERTY
@given(worlds())
def test_detected_examples_are_those_that_are_counted(world):
    """The mask of one unit at one threshold is the dense comparison."""
    thresholds = calibrate(world, (0.1, 0.5, 0.9))
    for split, scores in score(world).items():
        dense = dense_scores(world, split)
        for unit in range(world.n_units):
            for cutoff in thresholds.values[:-1, unit].flatten().tolist():
                assert scores.detected(unit, cutoff).tolist() == (dense[:, unit] >= cutoff).tolist()


@PROPERTY
@given(worlds(), st.data())
def test_many_truths_at_once_are_each_alone(world, data):
    """Positives of a batch of truths are the positives of each truth."""
    thresholds = calibrate(world, (0.1, 0.5))
    scores = score(world)["cal"]
    places = scores.places(thresholds.values[0])
    n = len(scores.labels)
    truth = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=3)))
    alone = torch.stack([scores.positives(places, one) for one in truth])
    assert torch.equal(scores.positives(places, truth), alone)


@PROPERTY
@given(worlds(), st.data())
def test_places_are_counts_of_scores_in_any_order_of_thresholds(world, data):
    """Searched for unit by unit, or merged where they do not rise along one and searched for among all elsewhere."""
    scores = score(world)["cal"]
    stored = world.activations.flatten().tolist()
    value = st.floats(0.0, 9.0) | st.just(float("nan")) | st.sampled_from([*stored, 1e300])
    order = data.draw(st.sampled_from([None, lambda row: sorted(row, reverse=True), sorted]))
    rows = [data.draw(st.lists(value, min_size=3, max_size=3)) for _ in range(world.n_units)]
    rows = [row if order is None else order([0.5 if t != t else t for t in row]) for row in rows]
    dense = dense_scores(world, "cal")
    with patch.object(scores_module, "CELLS_SIDE_BY_SIDE", data.draw(st.sampled_from([0, 2**21]))):
        got = scores.places(torch.tensor(rows, dtype=torch.float64)) - scores.starts[:-1, None]
    expected = [
        [int(((dense[:, unit] >= t) & (dense[:, unit] > 0)).sum()) for t in row] for unit, row in enumerate(rows)
    ]
    assert got.tolist() == expected


@pytest.mark.parametrize("at_once", [1, 7])
def test_counts_are_the_same_however_many_scores_are_taken_together(monkeypatch, at_once):
    """Units one at a time, a few, and all of them."""
    chosen = torch.Generator().manual_seed(at_once)
    values = torch.rand(9, 6, generator=chosen) * (torch.rand(9, 6, generator=chosen) < 0.6)
    example, unit = values.nonzero(as_tuple=True)
    labels = torch.rand(9, 2, generator=chosen) < 0.4
    one = example_scores(unit, example, values[example, unit], labels, n_units=6)
    cutoffs = values.double().quantile(torch.tensor([0.9, 0.5], dtype=torch.float64), dim=0).T.clamp(min=0.01)
    thresholds = Thresholds(
        ("a", "b"), torch.arange(6), (0.1, 0.5), torch.ones(3, 6, dtype=torch.int64), cutoffs.expand(3, 6, 2).clone()
    )
    whole = count_detections({"cal": one, "test": one}, thresholds)
    monkeypatch.setattr(detection_stats, "SCORES_AT_ONCE", at_once)
    assert count_detections({"cal": one, "test": one}, thresholds) == whole


def test_a_score_at_the_threshold_is_detected():
    """The comparison is ≥."""
    stats = hand([[1.0], [2.0], [3.0], [0.0]], [True, True, False, False], 2.0)
    assert stats.true_positives[0].item() == 1 and stats.false_positives[0].item() == 1


@pytest.mark.parametrize("toward", [0.0, 9.0])
def test_thresholds_between_two_float32_values_are_not_rounded(toward):
    """A cut-off a float64 step below a score detects it, one above does not."""
    stats = hand([[2.0]], [True], float(np.nextafter(2.0, toward)))
    assert stats.true_positives[0].item() == (1 if toward < 2 else 0)


def test_an_invalid_pair_never_detects():
    """A null threshold detects nothing, whatever the scores; so 'no threshold' is not 'threshold 0'."""
    stats = hand([[5.0], [1e30]], [True, False], float("nan"))
    assert stats.true_positives.sum() == stats.false_positives.sum() == 0
    assert stats.false_negatives[0].item() == 1 and not bool(stats.valid.any()) and bool(stats.f1.isnan().all())


def test_a_concept_without_positives_in_a_split_has_counts_and_no_figure():
    """On that split alone; a pair that finds nothing where there is something to find has F1 0."""
    stats = hand([[5.0], [1.0]], [False, False], 2.0)
    assert stats.false_positives[0].item() == 1 and bool(stats.f1.isnan().all())
    stats = hand([[5.0], [1.0]], [False, True], 2.0)
    assert stats.f1[0].item() == 0 and bool(stats.f1[1].isnan().all())  # test holds no example at all


@PROPERTY
@given(worlds(), tail_fractions, st.data())
def test_sums_of_many_weights_are_counts_of_each(world, fractions, data):
    """Weighted sums of detected examples, and hits of a unit under a truth, are those of the dense comparison."""
    cutoffs = calibrate(world, fractions).values[0]
    for split, scores in score(world).items():
        n, places = len(scores.labels), scores.places(cutoffs)
        dense = dense_scores(world, split)
        columns = data.draw(st.integers(0, 3))
        rows = st.lists(st.lists(st.integers(0, 4), min_size=columns, max_size=columns), min_size=n, max_size=n)
        weights = torch.tensor(data.draw(rows), dtype=torch.float32).view(n, columns)
        detected = dense[:, :, None] >= cutoffs.numpy()
        expected = np.einsum("eup,ec->upc", detected, weights.numpy())
        np.testing.assert_array_equal(scores.sums(places, weights), expected)
        units = torch.tensor([data.draw(st.integers(0, world.n_units - 1)) for _ in range(columns)], dtype=torch.int64)
        truth = weights > 1
        hits = scores.hits(units, places[units, -1], truth).tolist()
        assert hits == [int((detected[:, u, -1] & truth[:, c].numpy()).sum()) for c, u in enumerate(units.tolist())]


def test_an_example_without_an_entry_is_never_detected():
    """Even at the smallest possible threshold."""
    stats = hand([[0.0], [0.0]], [True, False], float(np.finfo(np.float32).smallest_subnormal))
    assert stats.true_positives.sum() == stats.false_positives.sum() == 0


def test_rows_that_fire_together_are_one_detection():
    """An example counts once, by its largest row."""
    dense = np.array([[1], [3], [2]], np.float32)
    world = World(dense, np.array([3]), ("cal",), np.ones((3, 1), bool), np.ones((1, 1), bool))
    scores = score(world)["cal"]
    assert scores.detected(0, 3.0).tolist() == [True] and scores.detected(0, 3.1).tolist() == [False]
    assert len(scores.keys) == 1


@pytest.mark.slow
@PROPERTY
@given(world=worlds(), most=st.integers(1, 20), data=st.data())
def test_memory_changes_nothing(world, most, data):
    """Scores that go through a file, some at a time, are those that fit, in the same order where values are equal."""
    rows = world.filtered()
    rows = of_one_value(rows, 2.0) if data.draw(st.booleans()) else rows
    chunk = LabelledChunk(rows, world.splits, torch.from_numpy(world.labels))
    whole = score_examples([chunk, chunk], n_units=world.n_units)
    parts = gather_scores([chunk, chunk], n_units=world.n_units, memory_budget=most * SCORE_BYTES)
    thresholds = calibrate(world, (0.1, 0.5))
    with patch.object(scratch, "IN_MEMORY", data.draw(st.sampled_from([3, scratch.IN_MEMORY]))):
        in_files = parts.whole()
    for split, scores in in_files.items():
        for name in ("keys", "starts", "example", "labels"):
            assert torch.equal(getattr(scores, name), getattr(whole[split], name)), name
    parts = gather_scores([chunk, chunk], n_units=world.n_units, memory_budget=most * SCORE_BYTES)
    assert count_detections(parts, thresholds) == count_detections(whole, thresholds)


def test_a_large_budget_is_not_used_up(monkeypatch):
    """More than some scores are put in order in parts, whatever there is room for; what comes out is the same."""
    world = random_world(5)
    chunk = LabelledChunk(world.filtered(), world.splits, torch.from_numpy(world.labels))
    whole = score_examples([chunk], n_units=world.n_units)
    monkeypatch.setattr(gathering, "SCORES_ENOUGH", 2)
    gathered = gather_scores([chunk], n_units=world.n_units, memory_budget=2**30)
    assert len([*gathered.blocks()]) > 1
    parts = gather_scores([chunk], n_units=world.n_units, memory_budget=2**30).whole()
    for split, scores in parts.items():
        assert torch.equal(scores.keys, whole[split].keys) and torch.equal(scores.example, whole[split].example)


def test_chunks_of_other_concepts_are_refused():
    world = random_world(5)
    labels = torch.from_numpy(world.labels)
    chunks = [LabelledChunk(world.filtered(), world.splits, each) for each in (labels, labels[:, :0])]
    with pytest.raises(ArtifactError, match=f"labelled with 0 concepts, others with {labels.shape[1]}"):
        gather_scores(chunks, n_units=world.n_units)


def of_one_value(rows: SparseRows, value: float) -> SparseRows:
    """The same rows with this value everywhere, so that units ascend in each."""
    order = torch.from_numpy(np.lexsort([rows.unit_ids.numpy(), rows.row_of_entry().numpy()]))
    return replace(rows, unit_ids=rows.unit_ids[order], values=torch.full_like(rows.values, value))


def test_train_examples_are_not_evaluated():
    """Only cal and test have counts, and together they leave out train."""
    world = random_world(0)
    scores = score(world)
    assert set(scores) == {"cal", "test"}
    assert [len(scores[split].labels) for split in EVALUATED] == [20, 20]


def test_without_chunks_there_is_an_error():
    """Nothing to detect in is no empty result."""
    with pytest.raises(ArtifactError, match="no chunks to detect in"):
        score_examples([], n_units=3)


def test_a_chunk_of_another_width_is_refused():
    """Widths and numbers of examples are named, found and expected."""
    world = random_world(0)
    labels = torch.from_numpy(world.labels)
    with pytest.raises(ArtifactError, match="12 units and 60 examples, expected 7 units and 60 examples"):
        score_examples([LabelledChunk(world.filtered(), world.splits, labels)], n_units=7)
    with pytest.raises(ArtifactError, match="12 units and 60 examples, expected 12 units and 2 examples"):
        score_examples([LabelledChunk(world.filtered(), ("cal", "test"), labels)], n_units=12)


def test_labels_of_other_concepts_are_refused():
    """Both numbers of concepts are named."""
    world = random_world(0, n_concepts=2)
    other = random_world(0, n_concepts=3)
    with pytest.raises(ArtifactError, match="Labels cover 2 concepts, thresholds 3"):
        count_detections(score(world), calibrate(other))
