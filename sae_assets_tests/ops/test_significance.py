"""The permutation null against brute force, adjusted p against their definitions, and rejections of noise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binom, false_discovery_control

from sae_assets.errors import ArtifactError
from sae_assets.ops.adjusted_p import benjamini_hochberg, holm, max_t, sequential_p
from sae_assets.ops.significance import search_null
from sae_assets_tests.ops.test_exact_search import sparse
from sae_assets_tests.reference import significance as reference
from sae_assets_tests.strategies import PROPERTY

SPLITS = ("cal", "test")


def world(seed: int, n=(24, 30), n_units=6, n_concepts=3, share=0.5, levels=4, prevalence=0.3):
    """Dense scores and labels of cal and test that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    dense = [rng.integers(1, levels + 1, (size, n_units)) * (rng.random((size, n_units)) < share) for size in n]
    labels = [rng.random((size, n_concepts)) < prevalence for size in n]
    return [each.astype(np.float32) for each in dense], labels


def chance(dense, labels, **options):
    return search_null({split: sparse(*pair) for split, *pair in zip(SPLITS, dense, labels, strict=True)}, **options)


def drawn(labels, n_shuffles, seed):
    """The draws of joint shuffles: numbers that break ties, and per shuffle the order of both splits."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, labels[0].shape[1])
    breaks = [torch.rand(shape, dtype=torch.float64, generator=generator).numpy()]
    orders = []
    for _ in range(n_shuffles):
        orders.append([torch.randperm(len(each), generator=generator).numpy() for each in labels])
        breaks.append(torch.rand(shape, dtype=torch.float64, generator=generator).numpy())
    return breaks, orders


@pytest.mark.parametrize(("seed", "min_support"), [(0, 1), (1, 2), (2, 2)])
def test_p_is_by_brute_force(seed, min_support):
    """Each shuffle searched unit by unit and threshold by threshold; every figure of the result from these tables."""
    dense, labels = world(seed)
    labels[0][:, 2] = False
    labels[0][:5, 2] = True
    m = 40
    got = chance(dense, labels, n_shuffles=m, min_support=min_support, seed=seed)
    breaks, orders = drawn(labels, m, seed)
    f1, area = np.empty((2, m + 1, 2, 3))
    for draw, order in enumerate([[np.arange(len(each)) for each in labels], *orders]):
        for concept in range(3):
            truths = [each[shuffle, concept] for each, shuffle in zip(labels, order, strict=True)]
            f1[draw, :, concept], area[draw, :, concept] = reference.figures(dense, truths, min_support)
    statistic = f1 + 1e-9 * np.where(np.isnan(area), 0.5, area) + 1e-12 * np.array(breaks)
    statistic = np.where(f1[:, :1] == 0, 0, statistic)  # no pair was chosen on cal
    assert got.family == "max-t" and got.n_shuffles.tolist() == [m] * 3
    np.testing.assert_allclose(got.f1, f1[0], rtol=1e-14)
    np.testing.assert_allclose(got.auroc, area[0], rtol=1e-14)
    np.testing.assert_allclose(got.null_f1[..., 0], f1[1:].mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.null_f1[..., 1], np.quantile(f1[1:], 0.95, axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.p, ((statistic[1:] >= statistic[0]).sum(0) + 1) / (m + 1), rtol=1e-14)
    np.testing.assert_allclose(got.p_ties_against, ((f1[1:] >= f1[0]).sum(0) + 1) / (m + 1), rtol=1e-14)
    for split in range(2):
        every = statistic[:, split].T
        every = (every - every.mean(1, keepdims=True)) / every.std(1, keepdims=True)
        np.testing.assert_allclose(got.family_p[split], reference.step_down_max_t(every[:, 0], every[:, 1:]))
        np.testing.assert_allclose(got.q[split], false_discovery_control(got.p[split]), rtol=1e-12)
    weight = labels[1].sum(0)
    weighted = (statistic[:, 1] * weight).sum(1) / weight.sum()
    assert got.weighted_f1 == pytest.approx(float((f1[0, 1] * weight).sum() / weight.sum()), rel=1e-12)
    assert got.weighted_p == pytest.approx((int((weighted[1:] >= weighted[0]).sum()) + 1) / (m + 1))


@pytest.mark.slow
def test_shared_shuffles_reach_what_joint_ones_reach():
    """The same marginal null, whichever way it is drawn; equal numbers of positives share it."""
    dense, labels = world(4, n=(60, 60), n_units=12)
    labels[0][:, 1], labels[1][:, 1] = labels[0][::-1, 0], labels[1][::-1, 0]
    joint = chance(dense, labels, n_shuffles=1500)
    shared = chance(dense, labels, n_shuffles=1500, family="holm", stop_after=1501)
    assert shared.family == "holm" and shared.n_counted.unique().tolist() == [1500]
    assert torch.equal(shared.null_f1[:, 0], shared.null_f1[:, 1])
    np.testing.assert_allclose(shared.null_f1[..., 0], joint.null_f1[..., 0], atol=0.012)
    np.testing.assert_allclose(shared.p, joint.p, atol=0.06)
    np.testing.assert_allclose(shared.family_p, np.minimum(1, [holm(each) for each in shared.p]))
    early = chance(dense, labels, n_shuffles=1500, family="holm", stop_after=20)
    assert bool((early.n_counted < 1500).any())
    np.testing.assert_allclose(early.p, shared.p, atol=0.25)


def test_the_same_seed_gives_the_same_bits_and_a_detector_is_significant():
    """A unit that knows the labels of one concept; the others' are noise."""
    dense, labels = world(5, n=(50, 50))
    for scores, truth in zip(dense, labels, strict=True):
        scores[:, 0] = np.where(truth[:, 0], 5, 0)
    one, again = (chance(dense, labels, n_shuffles=99) for _ in range(2))
    for name in ("units", "f1", "null_f1", "p", "family_p", "q", "weighted_null"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert one.units[0] == 0 and one.f1[:, 0].tolist() == [1, 1]
    assert one.p[:, 0].tolist() == [0.01, 0.01] and float(one.family_p[1, 0]) == 0.01
    assert float(one.family_p[1, 1:].min()) > 0.05


def test_a_budget_of_seconds_lowers_the_number_of_shuffles_and_says_so():
    """What was drawn is what p is counted on."""
    dense, labels = world(6, n=(200, 200), n_units=40, n_concepts=5)
    got = chance(dense, labels, n_shuffles=10**6, null_seconds=0.05, family="max-t")
    m = got.n_shuffles.unique().tolist()
    assert len(m) == 1 and 1 <= m[0] < 10**5 and float(got.p.min()) >= 1 / (m[0] + 1)
    assert chance(dense, labels, n_shuffles=4000, null_seconds=0.01, family="auto").family in ("max-t", "holm")


def test_what_cannot_be_shuffled_has_no_p():
    """Labels that are all alike on a split, and a concept no unit stands for."""
    dense, labels = world(7)
    labels[0][:, 0], labels[1][:, 1] = False, True
    got = chance(dense, labels, n_shuffles=20, min_support=2)
    assert got.units[0] == -1 and bool(got.p[:, 0].isnan().all()) and bool(got.family_p[:, 0].isnan().all())
    assert not bool(got.p[0, 1].isnan()) and bool(got.p[1, 1].isnan())
    assert not bool(got.p[:, 2].isnan().any())
    silent = chance([0 * each for each in dense], labels, n_shuffles=5)
    assert silent.units.tolist() == [-1] * 3 and bool(silent.f1.isnan().all())
    assert bool(silent.p[:, 0].isnan().all()) and silent.p[:, 2].tolist() == [1, 1] == silent.family_p[:, 2].tolist()


def test_what_is_refused():
    """No shuffles, and splits that do not belong together."""
    dense, labels = world(0)
    with pytest.raises(ArtifactError, match="n_shuffles is 0"):
        chance(dense, labels, n_shuffles=0)
    with pytest.raises(ArtifactError, match="expected the same of both"):
        chance([dense[0], dense[1][:, :4]], labels)


# Adjusted p ---------------------------------------------------------------------------------------------------------


@PROPERTY
@given(hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)))
def test_adjusted_p_of_many(p):
    """Benjamini & Hochberg's as scipy's, Holm's one after another; NaN are left out."""
    spread = torch.from_numpy(np.append(p, np.nan))
    np.testing.assert_allclose(benjamini_hochberg(spread)[:-1], false_discovery_control(p), rtol=1e-12)
    expected, least = np.empty(len(p)), 0.0
    for rank, test in enumerate(np.argsort(p, kind="stable")):
        least = expected[test] = max(least, min(1.0, p[test] * (len(p) - rank)))
    np.testing.assert_allclose(holm(spread)[:-1], expected, rtol=1e-12)
    assert bool(holm(spread)[-1].isnan()) and bool(benjamini_hochberg(spread)[-1].isnan())


def test_p_that_stops_early_by_hand():
    """Two as good among the first four: 2/4. Never two among five: (1 + 1) / 6."""
    null = torch.tensor([[0.0, 1, 0, 1, 1], [0, 0, 0, 0, 2.0]], dtype=torch.float64)
    p, counted = sequential_p(torch.ones(2, dtype=torch.float64), null, 2)
    assert p.tolist() == [0.5, 2 / 6] and counted.tolist() == [4, 5]


def test_max_t_of_dependent_tests_is_that_of_one():
    """Ten copies of a statistic are one test: nothing is paid for them."""
    generator = torch.Generator().manual_seed(0)
    observed, null = torch.tensor([2.0]).double(), torch.randn(1, 199, generator=generator).double()
    alone = max_t(observed, null)
    assert torch.equal(max_t(observed.expand(10), null.expand(10, 199)), alone.expand(10))


def test_max_t_is_wrong_about_any_of_its_tests_at_its_level():
    """Eight dependent tests of noise on scales of their own: some p ≤ .1 in a tenth of trials, 99.9 % bounds."""
    generator = torch.Generator().manual_seed(1)
    wrong = 0
    for _ in range(400):
        common, own = torch.randn(1, 40, generator=generator), torch.randn(8, 40, generator=generator)
        every = (torch.arange(1, 9)[:, None] * (common + own)).double()
        wrong += bool((max_t(every[:, 0], every[:, 1:]) <= 0.1).any())
    low, high = binom(400, 0.1).ppf([0.0005, 0.9995])
    assert low <= wrong <= high


# Noise --------------------------------------------------------------------------------------------------------------

NOISE = {
    "rare concepts": {"prevalence": 0.08, "n_units": 8},
    "ties": {"levels": 1, "n_units": 3},
    "one unit": {"n_units": 1, "levels": 1000},
    "short lists": {"share": 0.06, "n_units": 20},
    "units that hardly fire": {"share": 0.06, "n_units": 2, "prevalence": 0.2},
}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", NOISE)
def test_noise_is_rejected_at_its_level(name):
    """p ≤ .1 for a tenth of concepts on either split, 99.9 % binomial bounds; with ties against, not more often."""
    p, against = [], []
    for seed in range(2):
        dense, labels = world(seed, n=(40, 40), n_concepts=100, **NOISE[name])
        got = chance(dense, labels, n_shuffles=79, seed=seed)
        p.append(got.p), against.append(got.p_ties_against)
    for each, safe in zip(torch.cat(p, 1), torch.cat(against, 1), strict=True):
        n, rejected = int((~each.isnan()).sum()), int((each <= 0.1).sum())
        low, high = binom(n, 0.1).ppf([0.0005, 0.9995])
        assert low <= rejected <= high and int((safe <= 0.1).sum()) <= rejected
