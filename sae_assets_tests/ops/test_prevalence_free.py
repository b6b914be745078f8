"""Ranking, agreement and calibration figures against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    matthews_corrcoef,
    roc_auc_score,
)

from sae_assets.ops.prevalence_free import (
    auroc,
    average_precision,
    balanced_accuracy,
    brier,
    calibration_error,
    isotonic_probabilities,
    matthews,
    unit_scores,
)
from sae_assets_tests.ops.test_exact_search import sparse
from sae_assets_tests.strategies import PROPERTY

examples = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=14)


@PROPERTY
@given(examples)
def test_ranking_figures_are_scikit_learns(pairs):
    """Few distinct scores, 0 among them; NaN where they do not exist."""
    dense, truth = np.array([[float(score)] for score, _ in pairs]), np.array([label for _, label in pairs])
    scores = unit_scores(sparse(dense, truth[:, None]), torch.tensor([0, -1]))
    assert scores[0].tolist() == dense[:, 0].tolist() and bool(scores[1].isnan().all())
    both = torch.from_numpy(truth).expand(2, -1)
    area, precision = auroc(scores, both), average_precision(scores, both)
    assert bool(area[1].isnan()) and bool(precision[1].isnan())
    expected = roc_auc_score(truth, dense[:, 0]) if 0 < truth.sum() < len(truth) else np.nan
    np.testing.assert_allclose(area[0], expected, atol=1e-12)
    expected = average_precision_score(truth, dense[:, 0]) if truth.any() else np.nan
    np.testing.assert_allclose(precision[0], expected, atol=1e-12)


@PROPERTY
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=14))
def test_agreement_is_scikit_learns(pairs):
    """Matthews' correlation and balanced accuracy of (truth, detected)."""
    truth, detected = (np.array(column) for column in zip(*pairs, strict=True))
    counts = [
        torch.tensor(int(mask.sum()))
        for mask in (truth & detected, ~truth & detected, truth & ~detected, ~truth & ~detected)
    ]
    expected = matthews_corrcoef(truth, detected) if len({*truth, *detected}) > 1 else 0.0
    np.testing.assert_allclose(matthews(*counts), expected, atol=1e-12)
    if 0 < truth.sum() < len(truth):
        np.testing.assert_allclose(balanced_accuracy(*counts), balanced_accuracy_score(truth, detected), atol=1e-12)
    else:
        assert bool(balanced_accuracy(*counts).isnan())


@PROPERTY
@given(examples, st.lists(st.floats(0, 5, width=32), min_size=1, max_size=5))
def test_probabilities_are_scikit_learns(pairs, new):
    """Isotonic regression, ties of scores pooled, linear between scores and constant beyond them."""
    x, y = np.array([float(score) for score, _ in pairs]), np.array([label for _, label in pairs])
    expected = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(new)
    got = isotonic_probabilities(torch.from_numpy(x), torch.from_numpy(y), torch.tensor(new, dtype=torch.float64))
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_brier_is_scikit_learns_and_the_calibration_error_by_hand():
    """Two bins: .2 and .4 for truths 0 and 1 are .2 off on average, .9 for 1 is .1 off."""
    p, truth = torch.tensor([0.2, 0.4, 0.9], dtype=torch.float64), torch.tensor([False, True, True])
    assert float(brier(p, truth)) == pytest.approx(brier_score_loss(truth, p), abs=1e-12)
    assert float(calibration_error(p, truth, 2)) == pytest.approx(2 / 3 * 0.2 + 1 / 3 * 0.1)
    edges = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert float(calibration_error(edges, torch.tensor([False, True, True]), 2)) == pytest.approx(0.5 / 3)
    nothing = torch.zeros(0, dtype=torch.float64)
    assert bool(brier(nothing, nothing > 0).isnan()) and bool(calibration_error(nothing, nothing > 0).isnan())
