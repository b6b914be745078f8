"""The exact threshold search against an exhaustive one in exact fractions, rule by rule, and block by block."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score

from sae_assets.errors import ArtifactError
from sae_assets.ops import segments
from sae_assets.ops.choice import best_units
from sae_assets.ops.detection_stats import EVALUATED, ExampleScores, sort_scores
from sae_assets.ops.exact_search import search_thresholds
from sae_assets_tests.helpers.ops_of_worlds import dense_scores, score
from sae_assets_tests.reference import exact_search as reference
from sae_assets_tests.strategies import DEVICES, HOSTILE, PROPERTY, random_world, worlds


def stored(dense: np.ndarray, labels: np.ndarray, *, seed: int = 0, device: str = "cpu") -> ExampleScores:
    """Scores [examples, units] as they are stored, from entries in a random order."""
    example, unit = (torch.from_numpy(index) for index in dense.nonzero())
    order = torch.randperm(len(unit), generator=torch.Generator().manual_seed(seed))
    values = torch.from_numpy(dense[dense > 0].astype(np.float32))
    columns = (column[order].to(device) for column in (unit, values, example))
    return sort_scores(*columns, torch.from_numpy(labels).to(device), dense.shape[1])


def one_unit(cal: list[float], labels: list[int], min_support: int = 1):
    """The search of one unit and one concept, test the same as cal."""
    scores = stored(np.array(cal, np.float32)[:, None], np.array(labels, bool)[:, None])
    return search_thresholds({"cal": scores, "test": scores}, min_support=min_support)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_every_pair_is_the_exhaustive_one(device, data, n_examples, n_units, n_concepts, min_support, seed):
    """Threshold, counts on both splits and tail fraction of every pair, and the best unit, in exact arithmetic."""
    dense, labels = {}, {}
    for split in EVALUATED:
        shape = (n_examples, n_units)
        dense[split] = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(HOSTILE), fill=st.nothing()))
        labels[split] = data.draw(hnp.arrays(np.bool_, (n_examples, n_concepts), fill=st.nothing()))
    scores = {split: stored(dense[split], labels[split], seed=seed, device=device) for split in EVALUATED}
    got = search_thresholds(scores, min_support=min_support)
    for concept in range(n_concepts):
        truth = {split: labels[split][:, concept] for split in EVALUATED}
        assert got.best_units[concept] == reference.best_unit(dense["cal"], truth["cal"], min_support)
        for unit in range(n_units):
            threshold = reference.best_threshold(dense["cal"][:, unit], truth["cal"], min_support)
            found = float(got.thresholds[unit, concept])
            assert np.isnan(found) if threshold is None else found == threshold
            for row, split in enumerate(EVALUATED):
                counts = reference.counts_at(dense[split][:, unit], truth[split], threshold)
                assert tuple(got.counts[row, unit, concept].tolist()) == counts
                exists = threshold is not None and truth[split].any()
                np.testing.assert_equal(
                    float(got.f1[row, unit, concept]), float(reference.f1(counts)) if exists else np.nan
                )
            if threshold is not None:
                positive = dense["cal"][truth["cal"], unit]
                share = (positive >= threshold).sum() / (positive > 0).sum()
                assert float(got.tail_fractions[unit, concept]) == share


@PROPERTY
@given(worlds(), st.sampled_from([1, 5, 2**20]))
def test_scores_of_chunks_are_searched_alike_in_any_blocks(world, entries_at_once):
    """From rows on: blocks of one unit and of all units agree with each other and with scikit-learn's F1."""
    scores = score(world)
    whole = search_thresholds(scores, min_support=1)
    cut = search_thresholds(scores, min_support=1, entries_at_once=entries_at_once)
    for field in dataclasses.fields(whole):
        one, two = getattr(whole, field.name), getattr(cut, field.name)
        assert torch.equal(one.nan_to_num(-1), two.nan_to_num(-1)) if isinstance(one, torch.Tensor) else one == two
    for row, split in enumerate(EVALUATED):
        dense, labels = dense_scores(world, split), world.labels[world.examples_in(split)]
        for unit, concept in (~whole.f1[row].isnan()).nonzero().tolist():
            detected = dense[:, unit] >= float(whole.thresholds[unit, concept])
            expected = f1_score(labels[:, concept], detected, zero_division=0.0)
            np.testing.assert_allclose(float(whole.f1[row, unit, concept]), expected, rtol=1e-12)


def test_units_that_do_not_fit_one_sort_are_cut_on(monkeypatch):
    """Unit, value and example share 63 bits: fewer bits for units give smaller blocks and the same answer."""
    scores = score(random_world(3))
    whole = search_thresholds(scores)
    monkeypatch.setattr("sae_assets.ops.exact_search.units_at_once", lambda _: 5)
    assert torch.equal(search_thresholds(scores).thresholds.nan_to_num(-1), whole.thresholds.nan_to_num(-1))


@pytest.mark.parametrize(
    ("scores", "labels", "threshold", "counts"),
    [
        ([5, 4, 2, 0], [1, 1, 0, 0], 4, [2, 0, 0, 2]),  # F1 1 at the last positive
        ([5, 4, 4, 3, 2, 1], [1, 0, 0, 1, 1, 0], 2, [3, 2, 0, 1]),  # 3/4 beats 1/2 at 5
        ([6, 5, 4, 3, 0, 0], [1, 1, 0, 0, 0, 1], 5, [2, 0, 1, 3]),  # the positive at 0 is never found
        ([3, 2, 2, 2, 2, 1], [1, 1, 0, 0, 1, 1], 1, [4, 2, 0, 0]),  # ties are detected together
        ([9, 8, 7, 6, 5], [1, 0, 0, 1, 0], 6, [2, 2, 0, 1]),  # 2/3 at both 9 and 6: higher recall
    ],
)
def test_by_hand(scores, labels, threshold, counts):
    """Thresholds and counts that a person can check."""
    got = one_unit(scores, labels)
    assert float(got.thresholds[0, 0]) == threshold and got.counts[0, 0, 0].tolist() == counts


def test_a_threshold_needs_its_support():
    """One strong positive is not enough where three are asked for; with fewer than three there is no threshold."""
    scores, labels = [9, 3, 2, 2, 2, 1], [1, 1, 0, 0, 1, 0]
    assert float(one_unit(scores, labels, 1).thresholds[0, 0]) == 3
    assert float(one_unit(scores, labels, 3).thresholds[0, 0]) == 2
    none = one_unit(scores, [1, 1, 0, 0, 0, 0], 3)
    assert bool(none.thresholds.isnan().all()) and none.best_units.tolist() == [-1]
    assert none.counts[0, 0, 0].tolist() == [0, 0, 2, 4] and bool(none.f1.isnan().all())


def test_ties_between_units_follow_their_rules():
    """F1, then recall, then the higher threshold, then the lower unit."""
    f1 = torch.tensor([[0.5], [0.8], [0.8], [0.8], [0.8]], dtype=torch.float64)
    true = torch.tensor([[9], [4], [5], [5], [5]])
    thresholds = torch.tensor([[9.0], [9.0], [2.0], [3.0], [3.0]], dtype=torch.float64)
    assert best_units(f1, true, thresholds).tolist() == [3]
    assert best_units(f1, true, thresholds, torch.tensor([True, True, True, False, False])).tolist() == [2]
    assert best_units(f1, true, thresholds, torch.zeros(5, dtype=torch.bool)).tolist() == [-1]
    assert best_units(f1[:0], true[:0], thresholds[:0]).tolist() == [-1]


def test_fractions_are_compared_exactly():
    """24,997/83,323 is more than 25,000/83,333 by 1.4e-10: float32 would call it a tie, and recall would decide."""
    n_positive = 50_000
    label = (np.arange(60_000) < n_positive)[:, None]
    dense = np.zeros((60_000, 2), np.float32)
    for unit, (true, false) in enumerate([(25_000, 8_333), (24_997, 8_326)]):
        dense[:true, unit] = dense[n_positive : n_positive + false, unit] = 1
    scores = stored(dense, label)
    got = search_thresholds({"cal": scores, "test": scores})
    assert got.best_units.tolist() == [1] == [reference.best_unit(dense, label[:, 0], 3)]


def test_splits_must_agree():
    """Other units or concepts on test, or a support of 0, are refused."""
    scores = score(random_world(0))
    fewer = score(random_world(0, n_units=5))
    with pytest.raises(ArtifactError, match="cal has 12 units and 2 concepts, test 5 and 2"):
        search_thresholds({"cal": scores["cal"], "test": fewer["test"]})
    with pytest.raises(ArtifactError, match="min_support is 0"):
        search_thresholds(scores, min_support=0)


def test_descending_keys_come_apart_again():
    """Group and value, at both ends of what float32 holds."""
    groups, values = torch.tensor([0, 3, 2**20]), torch.tensor([1e-45, 1.5, 3.4e38])
    got = segments.unpack_descending(segments.pack_descending(groups, values))
    assert torch.equal(got[0], groups) and torch.equal(got[1], values)
