"""Logistic regression of many problems at once against scikit-learn: coefficients, intercepts, chosen penalties."""

import numpy as np
import pytest
import torch

from sae_assets.ops.designs import DenseDesign
from sae_assets.ops.logistic import PENALTIES, USUAL, choose_penalty, fit_logistic, stratified_folds
from sae_assets_tests.reference import controls as reference

ONE = torch.ones(1, dtype=torch.float64)  # the mean squared norm of features of one size


def problems(seed: int, n: int = 90, d: int = 7, n_problems: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.exp(rng.normal(size=d))
    z = x @ rng.normal(size=(d, n_problems)) + rng.logistic(size=(n, n_problems))
    return reference.one_size(x, np.ones(n, bool)), z > np.quantile(
        z, np.linspace(0.5, 0.95, n_problems), axis=0
    ).diagonal()


@pytest.mark.parametrize(("n", "d"), [(90, 7), (20, 40)])
def test_coefficients_are_scikit_learns(n: int, d: int) -> None:
    """Every penalty and problem at once, each on its own part of the examples."""
    x, y = problems(0, n, d)
    rng = np.random.default_rng(1)
    used = rng.random(y.shape) < 0.8
    used[:2] = True
    y[0], y[1] = True, False
    many = [torch.from_numpy(np.repeat(each, len(PENALTIES), 1)) for each in (y, used)]
    penalties = PENALTIES * y.shape[1]
    strengths = 1 / (torch.tensor(penalties, dtype=torch.float64) * many[1].sum(0))
    got = fit_logistic(DenseDesign(torch.from_numpy(x)), *many, strengths).numpy()
    for place, penalty in enumerate(penalties):
        problem = place // len(PENALTIES)
        mine = used[:, problem]
        model = reference.fit(x[mine], y[mine, problem], penalty)
        scale = max(1, np.abs(model.coef_).max())
        np.testing.assert_allclose(got[:-1, place], model.coef_[0], atol=1e-6 * scale)
        assert got[-1, place] == pytest.approx(model.intercept_[0], abs=1e-6 * scale)


@pytest.mark.slow
def test_penalties_are_those_of_the_least_loss_on_held_out_folds() -> None:
    """Against a loop over folds and penalties, each fitted by scikit-learn."""
    x, y = problems(2)
    order = np.random.default_rng(3).permutation(len(y))
    folds = stratified_folds(torch.from_numpy(y), torch.from_numpy(np.argsort(order)))
    for problem in range(y.shape[1]):
        np.testing.assert_array_equal(folds[:, problem], reference.stratified_folds(y[:, problem], order))
    got = choose_penalty(DenseDesign(torch.from_numpy(x)), torch.from_numpy(y), folds, ONE.expand(y.shape[1])).tolist()
    assert got == [reference.choose_penalty(x, y[:, each], folds[:, each].numpy()) for each in range(y.shape[1])]
    assert len(set(got)) > 1


def test_a_fold_without_a_class_is_left_out() -> None:
    """Two positives in one fold: nothing can be fitted without them, and the others decide."""
    x, y = problems(4, n_problems=1)
    y[:] = False
    y[[0, 5]] = True
    folds = torch.arange(len(y))[:, None] % 5
    got = choose_penalty(DenseDesign(torch.from_numpy(x)), torch.from_numpy(y), folds, ONE)
    assert int(got) == reference.choose_penalty(x, y[:, 0], folds[:, 0].numpy())


def test_without_folds_the_usual_penalty_is_taken() -> None:
    """One positive: without its fold there is none, and the others have nothing to say."""
    x, y = problems(4, n_problems=1)
    y[:] = False
    y[0] = True
    folds = torch.zeros(len(y), 1, dtype=torch.int64)
    assert choose_penalty(DenseDesign(torch.from_numpy(x)), torch.from_numpy(y), folds, ONE).tolist() == [USUAL]
