"""Dense and sparse design matrices against matrices of numpy, and regressions on either."""

from typing import Any

import numpy as np
import pytest
import torch

from sae_assets.ops import designs
from sae_assets.ops.designs import DenseDesign, SparseDesign, of_scores
from sae_assets.ops.items import UnitScores
from sae_assets.ops.logistic import choose_penalty, fit_logistic, stratified_folds

KINDS = {"dense": 0.0, "sparse": 2.0}  # share of scores from which on a matrix is dense


def scored(seed: int = 0, n: int = 60, n_units: int = 12) -> np.ndarray:
    """Scores [n, n_units], a fifth of them not 0; one unit that never fires, one that fires always and alike."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((n, n_units)) < 0.2, rng.lognormal(size=(n, n_units)), 0).astype(np.float32)
    x[:, 3], x[:, 7] = 0, 0.1
    return x


def design(x: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch, divided: bool = True) -> Any:
    monkeypatch.setattr(designs, "DENSE_SHARE", KINDS[kind])
    units, items = (torch.from_numpy(each) for each in np.nonzero(x.T))
    scores = UnitScores.of(units, items, torch.from_numpy(x.T[np.nonzero(x.T)]), x.shape[1])
    return of_scores(scores, len(x), divided)


def expected(x: np.ndarray, divided: bool = True) -> np.ndarray:
    """Centred, divided by deviations where there are any."""
    x = x.astype(np.float64)
    x = np.where(np.ptp(x, 0) > 0, x - x.mean(0), 0)
    return x / np.where(x.any(0), x.std(0), 1) if divided else x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("divided", [False, True])
def test_products_are_those_of_a_matrix(kind: str, divided: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 and in float32, of all items and of some in another order."""
    x, rng = scored(), np.random.default_rng(1)
    got, mean, scale = design(x, kind, monkeypatch, divided)
    assert isinstance(got, DenseDesign if kind == "dense" else SparseDesign)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0))
    deviation = x.astype(np.float64).std(0)
    np.testing.assert_allclose(scale, np.where((deviation > 1e-12) & divided, deviation, 1))
    some = rng.permutation(len(x))[:25]
    for each, rows in ((got, slice(None)), (got.of_items(torch.from_numpy(some)), some)):
        matrix = np.pad(expected(x, divided)[rows], ((0, 0), (0, 1)), constant_values=1)
        weights, values = rng.normal(size=(3, matrix.shape[1])), rng.random((3, len(matrix)))
        assert (each.n_items, each.n_features) == (len(matrix), x.shape[1])
        for of, dtype, near in ((each, torch.float64, 1e-12), (each.rounded, torch.float32, 1e-4)):
            w, v = of.laid(torch.from_numpy(weights).to(dtype)), of.laid(torch.from_numpy(values).to(dtype))
            np.testing.assert_allclose(of.per_item(w), weights @ matrix.T, atol=near)
            np.testing.assert_allclose(of.per_feature(v), values @ matrix, atol=near)
            np.testing.assert_allclose(of.squares(v), values @ matrix**2, atol=near)
            assert of.per_item(w).dtype == of.per_feature(v).dtype == dtype
        for at_once in (1, 10, 256):
            monkeypatch.setattr(designs, "ITEMS_AT_ONCE", at_once)
            np.testing.assert_allclose(each.kernel(), matrix[:, :-1] @ matrix[:, :-1].T, atol=1e-12)


def test_much_is_dense_only_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of which many are not 0 stay sparse where a dense matrix would be too large."""
    monkeypatch.setattr(designs, "MOST_DENSE", 60 * 12 - 1)
    assert isinstance(design(scored(), "dense", monkeypatch)[0], SparseDesign)


def test_a_unit_that_is_always_silent_but_of_none_is_no_feature() -> None:
    """Nothing fires at all: products are those of the intercept."""
    nothing = torch.zeros(0, dtype=torch.int64)
    got, *_ = of_scores(UnitScores(torch.zeros(3, dtype=torch.int64), nothing, torch.zeros(0)), 4, True)
    assert isinstance(got, SparseDesign)
    w = torch.tensor([[5.0, 5.0, 2.0]], dtype=torch.float64)
    assert got.per_item(w).tolist() == [[2.0] * 4]
    assert got.per_feature(torch.ones(1, 4, dtype=torch.float64)).tolist() == [[0.0, 0.0, 4.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_problems_of_few_features_are_those_without_the_others(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All widths together, against a matrix that holds no more: weights, and the penalty that is chosen."""
    x, rng = scored(2, n=90), np.random.default_rng(3)
    got, *_ = design(x, kind, monkeypatch)
    y = torch.from_numpy(expected(x)[:, :5].sum(1) + 2 * rng.logistic(size=len(x)) > 0.5)[:, None]
    widths = torch.tensor([1, 2, 4, 8, 12])
    every = y.expand(-1, len(widths))
    folds = stratified_folds(y, torch.from_numpy(rng.permutation(len(x))))
    norms = torch.from_numpy((expected(x) ** 2).sum(1).mean() * np.arange(1, 6))
    chosen = choose_penalty(got, every, folds.expand(-1, len(widths)), norms, widths)
    strengths = torch.logspace(-1, 1, len(widths), dtype=torch.float64)
    weights = fit_logistic(got, every, torch.ones_like(every), strengths, widths=widths)
    for place, width in enumerate(widths.tolist()):
        alone = DenseDesign(torch.from_numpy(expected(x)[:, :width]))
        assert int(choose_penalty(alone, y, folds, norms[[place]])) == int(chosen[place])
        one = fit_logistic(alone, y, torch.ones_like(y), strengths[[place]])[:, 0]
        np.testing.assert_allclose(weights[:width, place], one[:-1], atol=1e-6)
        assert float(weights[-1, place]) == pytest.approx(float(one[-1]), abs=1e-6)
        assert not bool(weights[width:-1, place].any())
