"""The null of pairs that were chosen without the split, against exact laws and its own definition."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, hypergeom
from sklearn.metrics import f1_score, roc_auc_score

from sae_assets.ops.held_out_null import shuffle_held_out
from sae_assets.ops.sorted_scores import sort_scores
from sae_assets_tests.strategies import THOROUGH


def scores_of(dense: np.ndarray, labels: np.ndarray):
    """Scores [examples, units] as they are stored."""
    example, unit = (torch.from_numpy(index) for index in dense.nonzero())
    values = torch.from_numpy(dense[dense > 0].astype(np.float32))
    return sort_scores(unit, values, example, torch.from_numpy(labels), dense.shape[1])


def null_of(dense, labels, units, thresholds, **options):
    counted = torch.ones(labels.shape[1], dtype=torch.bool)
    cutoffs = torch.tensor(thresholds, dtype=torch.float64)
    return shuffle_held_out(scores_of(dense, labels), torch.tensor(units), cutoffs, counted, **options)


def test_it_is_the_hypergeometric_law():
    """Of n examples with K positives, d detected: true positives follow it, and so do mean, 95 % point and p."""
    n, positive, found, true, m = 60, 20, 15, 9, 4000
    dense = np.zeros((n, 1), np.float32)
    labels = np.zeros((n, 1), bool)
    labels[:positive] = True
    dense[:true] = dense[positive : positive + found - true] = 2
    got = null_of(dense, labels, [0], [1.0], n_shuffles=m)
    law, scale = hypergeom(n, positive, found), 2 / (positive + found)
    assert float(got.null_f1[0, 0]) == pytest.approx(scale * law.mean(), abs=4 * scale * law.std() / m**0.5)
    assert float(got.null_f1[0, 1]) == pytest.approx(scale * law.ppf(0.95), abs=1.01 * scale)
    above, with_ties = law.sf(true), law.sf(true - 1)
    error = 4 * (with_ties * (1 - with_ties) / m) ** 0.5
    assert above - error < float(got.p[0]) < with_ties + error


@pytest.mark.slow
def test_p_is_the_share_of_shuffles_at_least_as_good():
    """By scikit-learn's F1, ties broken by its AUROC, over the same shuffles."""
    rng, m = np.random.default_rng(0), 200
    dense = np.where(rng.random((50, 3)) < 0.6, rng.lognormal(size=(50, 3)), 0).astype(np.float32)
    labels = rng.random((50, 2)) < 0.4
    got = null_of(dense, labels, [2, 0], [0.8, 1.2], n_shuffles=m, seed=5)
    generator = torch.Generator().manual_seed(5)
    torch.rand(2, dtype=torch.float64, generator=generator)
    at_once = 512 // 2
    orders = []
    for some in torch.arange(m).split(at_once):
        orders += [torch.randperm(50, generator=generator).numpy() for _ in some]
        torch.rand(len(some) * 2, dtype=torch.float64, generator=generator)

    def statistic(truth, concept):
        unit, threshold = [(2, 0.8), (0, 1.2)][concept]
        f1 = f1_score(truth, dense[:, unit] >= threshold)
        return f1, f1 + 1e-9 * roc_auc_score(truth, dense[:, unit])

    for concept in range(2):
        f1, null = zip(*(statistic(labels[order, concept], concept) for order in orders), strict=True)
        np.testing.assert_allclose(got.null_f1[concept], [np.mean(f1), np.quantile(f1, 0.95)], rtol=1e-9)
        observed = statistic(labels[:, concept], concept)[1]
        assert float(got.p[concept]) == (sum(value > observed - 1e-12 for value in null) + 1) / (m + 1)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_noise_is_rejected_at_its_level():
    """Labels at random, rare and frequent, ties everywhere: p ≤ .05 in one of twenty, within 99.9 % binomial bounds."""
    trials = 1000 if THOROUGH else 300
    rng, rejected = np.random.default_rng(1), np.zeros(3)
    for trial in range(trials):
        dense = np.where(rng.random((80, 3)) < 0.5, rng.integers(1, 4, (80, 3)), 0).astype(np.float32)
        labels = rng.random((80, 3)) < [0.06, 0.3, 0.8]
        labels[0], labels[1] = True, False
        got = null_of(dense, labels, [0, 1, 2], [1.0, 2.0, 3.0], n_shuffles=99, seed=trial)
        rejected += (got.p <= 0.05).numpy()
    low, high = binom(trials, 0.05).ppf([0.0005, 0.9995])
    assert bool(((rejected >= low) & (rejected <= high)).all()), rejected


def test_without_a_pair_or_a_class_or_shuffles():
    """p is 1 without a pair, and nothing is said of a split of one class or without shuffles."""
    dense, labels = np.ones((6, 1), np.float32), np.array([[1, 1], [0, 1], [1, 1], [0, 1], [0, 1], [1, 1]], bool)
    got = null_of(dense, labels, [-1, 0], [np.nan, 0.5], n_shuffles=20)
    assert got.p.tolist()[0] == 1 and bool(got.p[1].isnan()) and bool(got.null_f1[1].isnan().all())
    none = null_of(dense, labels, [0, 0], [0.5, 0.5], n_shuffles=0)
    for name in ("null_f1", "p", "family_p", "q", "weighted"):
        assert bool(getattr(none, name).isnan().all()), name
