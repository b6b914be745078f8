"""Found pairs against an exhaustive search in exact fractions, rule by rule, observed labels and shuffled ones."""

import dataclasses
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score

from sae_assets.errors import ArtifactError
from sae_assets.ops import concept_pairs, segments
from sae_assets.ops.choice import best_units
from sae_assets.ops.concept_pairs import ConceptPairs, find_pairs, supported
from sae_assets.ops.exact_search import ExactSearch
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores, sort_scores
from sae_assets_tests.helpers.ops_of_worlds import dense_scores, score
from sae_assets_tests.reference import concept_pairs as reference
from sae_assets_tests.strategies import DEVICES, HOSTILE, PROPERTY, random_world, worlds


def stored(dense: np.ndarray, labels: np.ndarray, *, seed: int = 0, device: str = "cpu") -> ExampleScores:
    """Scores [examples, units] as they are stored, from entries in a random order."""
    example, unit = (torch.from_numpy(index) for index in dense.nonzero())
    order = torch.randperm(len(unit), generator=torch.Generator().manual_seed(seed))
    values = torch.from_numpy(dense[dense > 0].astype(np.float32))
    columns = (column[order].to(device) for column in (unit, values, example))
    return sort_scores(*columns, torch.from_numpy(labels).to(device), dense.shape[1])


def one_unit(cal: list[float], labels: list[int], min_support: int = 1) -> ConceptPairs:
    """The pair of one unit and one concept, test the same as cal."""
    scores = stored(np.array(cal, np.float32)[:, None], np.array(labels, bool)[:, None])
    return find_pairs({"cal": scores, "test": scores}, min_support=min_support)


def same(one: ConceptPairs, two: ConceptPairs) -> None:
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) if isinstance(a, torch.Tensor) else a == b, field.name


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_every_pair_is_the_exhaustive_one(device, data, n_examples, n_units, n_concepts, min_support, seed):
    """The best unit of all, of some and of one, with threshold, counts and tail fraction, in exact arithmetic."""
    dense, labels = {}, {}
    for split in EVALUATED:
        shape = (n_examples, n_units)
        dense[split] = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(HOSTILE), fill=st.nothing()))
        labels[split] = data.draw(hnp.arrays(np.bool_, (n_examples, n_concepts), fill=st.nothing()))
    scores = {split: stored(dense[split], labels[split], seed=seed, device=device) for split in EVALUATED}
    allowed = data.draw(hnp.arrays(np.bool_, n_units, fill=st.nothing()))
    units = torch.tensor(data.draw(st.lists(st.integers(-1, n_units - 1), min_size=n_concepts, max_size=n_concepts)))
    only = [np.arange(n_units) == unit for unit in units.tolist()]
    with patch.object(
        concept_pairs, "SCORES_SEARCHED", data.draw(st.sampled_from([1, 5, concept_pairs.SCORES_SEARCHED]))
    ):
        able = supported(scores["cal"], min_support)
        made = (
            (find_pairs(scores, min_support=min_support), [np.ones(n_units, bool)] * n_concepts),
            (find_pairs(scores, min_support=min_support, allowed=torch.from_numpy(allowed)), [allowed] * n_concepts),
            (find_pairs(scores, min_support=min_support, units=units), only),
        )
    for got, among in made:
        for concept, mask in enumerate(among):
            truth = {split: labels[split][:, concept] for split in EVALUATED}
            unit = reference.best_unit(np.where(mask, dense["cal"], 0), truth["cal"], min_support)
            assert int(got.units[concept]) == unit
            column = {split: dense[split][:, unit] if unit >= 0 else np.zeros(n_examples) for split in EVALUATED}
            threshold = reference.best_threshold(column["cal"], truth["cal"], min_support)
            np.testing.assert_equal(float(got.thresholds[concept]), np.nan if unit < 0 else threshold)
            for row, split in enumerate(EVALUATED):
                counts = reference.counts_at(column[split], truth[split], threshold)
                assert tuple(got.counts[row, concept].tolist()) == counts
                expected = float(reference.f1(counts)) if unit >= 0 and len({*truth[split]}) == 2 else np.nan
                np.testing.assert_equal(float(got.f1[row, concept]), expected)
            positive = column["cal"][truth["cal"]]
            share = (positive >= threshold).sum() / (positive > 0).sum() if unit >= 0 else np.nan
            np.testing.assert_equal(float(got.tail_fractions[concept]), share)
            for each in range(n_units):
                there = reference.best_threshold(dense["cal"][:, each], truth["cal"], min_support) is not None
                assert bool(able[each, concept]) == there


@PROPERTY
@given(worlds(), st.integers(1, 3))
def test_shuffled_labels_are_searched_as_labels_are(world, min_support):
    """The identity among many shuffles, and labels alone, give the same bits; F1 is scikit-learn's."""
    scores = score(world)
    labels = scores["cal"].labels
    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(len(labels)), *(torch.randperm(len(labels), generator=generator) for _ in range(9))]
    search = ExactSearch(scores["cal"], min_support=min_support)
    many = search.best(torch.cat([labels[order] for order in orders], 1))
    alone, found = search.best(labels), find_pairs(scores, min_support=min_support)
    for name in ("units", "lengths", "hits"):
        assert torch.equal(getattr(many, name)[: labels.shape[1]], getattr(alone, name))
    assert torch.equal(alone.units, found.units) and torch.equal(alone.hits.clamp(min=0), found.counts[0, :, 0])
    for row, split in enumerate(EVALUATED):
        dense, truth = dense_scores(world, split), world.labels[world.examples_in(split)]
        for concept in (~found.f1[row].isnan()).nonzero().flatten().tolist():
            detected = dense[:, int(found.units[concept])] >= float(found.thresholds[concept])
            expected = f1_score(truth[:, concept], detected, zero_division=0.0)
            np.testing.assert_allclose(float(found.f1[row, concept]), expected, rtol=1e-12)


def test_a_unit_is_searched_alone_as_among_others():
    """`units` and `allowed` give the best pair of a unit whatever the others are."""
    scores = score(random_world(2))
    for unit in range(3):
        alone = find_pairs(scores, allowed=torch.arange(12) == unit)
        same(find_pairs(scores, units=torch.full((2,), unit)), alone)


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
    assert float(got.thresholds[0]) == threshold and got.counts[0, 0].tolist() == counts


def test_a_threshold_needs_its_support():
    """One strong positive is not enough where three are asked for; with fewer than three there is no threshold."""
    scores, labels = [9, 3, 2, 2, 2, 1], [1, 1, 0, 0, 1, 0]
    assert float(one_unit(scores, labels, 1).thresholds[0]) == 3
    assert float(one_unit(scores, labels, 3).thresholds[0]) == 2
    none = one_unit(scores, [1, 1, 0, 0, 0, 0], 3)
    assert bool(none.thresholds.isnan().all()) and none.units.tolist() == [-1]
    assert none.counts[0, 0].tolist() == [0, 0, 2, 4] and bool(none.f1.isnan().all())


def test_ties_between_units_follow_their_rules():
    """F1, then recall, then the higher threshold, then the lower unit."""
    f1 = torch.tensor([[0.5], [0.8], [0.8], [0.8], [0.8]], dtype=torch.float64)
    true = torch.tensor([[9], [4], [5], [5], [5]])
    thresholds = torch.tensor([[9.0], [9.0], [2.0], [3.0], [3.0]], dtype=torch.float64)
    assert best_units(f1, true, thresholds).tolist() == [3]
    assert best_units(f1, true, thresholds * torch.nan).tolist() == [-1]
    assert best_units(f1[:0], true[:0], thresholds[:0]).tolist() == [-1]


@pytest.mark.slow
def test_fractions_are_compared_exactly():
    """24,997/83,323 is more than 25,000/83,333 by 1.4e-10: float32 would call it a tie, and recall would decide."""
    n_positive = 50_000
    label = (np.arange(60_000) < n_positive)[:, None]
    dense = np.zeros((60_000, 2), np.float32)
    for unit, (true, false) in enumerate([(25_000, 8_333), (24_997, 8_326)]):
        dense[:true, unit] = dense[n_positive : n_positive + false, unit] = 1
    scores = stored(dense, label)
    got = find_pairs({"cal": scores, "test": scores})
    assert got.units.tolist() == [1] == [reference.best_unit(dense, label[:, 0], 3)]


def test_splits_must_agree():
    """Other units or concepts on test, or a support of 0, are refused."""
    scores = score(random_world(0))
    fewer = score(random_world(0, n_units=5))
    with pytest.raises(ArtifactError, match="cal has 12 units and 2 concepts, test 5 and 2"):
        find_pairs({"cal": scores["cal"], "test": fewer["test"]})
    with pytest.raises(ArtifactError, match="min_support is 0"):
        find_pairs(scores, min_support=0)


def test_descending_keys_come_apart_again():
    """Group and value, at both ends of what float32 holds."""
    groups, values = torch.tensor([0, 3, 2**20]), torch.tensor([1e-45, 1.5, 3.4e38])
    got = segments.unpack_descending(segments.pack_descending(groups, values))
    assert torch.equal(got[0], groups) and torch.equal(got[1], values)
