"""Detectors of concepts that are fitted: differences of means, logistic regressions, k-sparse probes.

What is classified are examples, or rows; a detector is fitted on train, gets its threshold (and whatever else has to be
chosen) on cal, and is then let loose on test. Units, which are not fitted, are in ``ops.unit_detectors``; which
detectors are controls, and how they compare, is in ``ops.controls``.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.concept_pairs import MIN_SUPPORT
from sae_assets.ops.designs import DenseDesign, Design, of_embeddings, of_scores
from sae_assets.ops.items import DetectorScores, Items, LargestScores
from sae_assets.ops.logistic import EXACT, PENALTIES, choose_penalty, fit_logistic, some_problems, stratified_folds
from sae_assets.ops.process_state import plain_arithmetic

SPARSITIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # of k-sparse probes
MOST_ON_UNITS = 4096  # items that a regression on all units is fitted on
VALUES_FITTED = 2**23  # items × dimensions, or × units, that a regression on embeddings or k units is fitted on
MOST_FOLDED = 2048  # items that a penalty is chosen on
MOST_OF_KERNEL = 4  # products of two items, for each value of a feature, with which they take less time than features
FEWEST = 2  # of each class among what a logistic regression is fitted on
EIGEN = 1e-12  # of the largest eigenvalue: directions with less do not exist


@plain_arithmetic()
def mean_difference(items: Items, min_support: int = MIN_SUPPORT) -> DetectorScores:
    """Return DiffMean: scores ``x · (mean of positives − mean of the others)``, means over what it is fitted on."""
    x, fits = items.embeddings, items.fits[:, None]
    sides = torch.cat([items.labels & fits, ~items.labels & fits], 1).double()
    sums = torch.stack([each.double().T @ side for each, side in _blocks(x, sides)]).sum(0) / sides.sum(0)
    true, others = sums.chunk(2, 1)
    scores = projected(x, true - others)  # NaN where there is none of a class
    return _at_best_threshold(items, scores.T, torch.zeros_like(scores[0]).long(), 4 * x.numel(), min_support)


@plain_arithmetic()
def row_mean_difference(items: Items, n_rows: Int[Tensor, " items"]) -> Float[Tensor, "d concepts"]:
    """Return mean of the rows of positive examples minus that of all other rows, of what is fitted on; float64, NaN if
    none.

    Each example's mean embedding stands for as many rows as it is the mean of.
    """
    fits = items.fits[:, None]
    weights = torch.cat([items.labels & fits, ~items.labels & fits], 1).double() * n_rows[:, None]
    x = items.embeddings
    sums = torch.stack([each.double().T @ weight for each, weight in _blocks(x, weights)]).sum(0)
    true, others = (sums / weights.sum(0)).chunk(2, 1)
    return true - others


@plain_arithmetic()
def largest_scores(rows: Float[Tensor, "n d"], directions: Float[Tensor, "d concepts"]) -> Float[Tensor, " concepts"]:
    """Return the largest product of a row of an example with each direction, float64; −∞ without rows."""
    if not len(rows):
        return torch.full(directions.shape[1:], -torch.inf, dtype=torch.float64, device=directions.device)
    return projected(rows, directions).amax(0)


@plain_arithmetic()
def largest_mean_difference(items: Items, largest: LargestScores, min_support: int = MIN_SUPPORT) -> DetectorScores:
    """Return DiffMean as AxBench has it: the largest score over the rows of each example, by
    ``row_mean_difference``."""
    scores = largest.scores
    return _at_best_threshold(items, scores.T, torch.zeros_like(scores[0]).long(), largest.n_bytes, min_support)


@plain_arithmetic()
def directed(items: Items, directions: Float[Tensor, "d concepts"], min_support: int = MIN_SUPPORT) -> DetectorScores:
    """Return scores ``x · v`` of the items' own embeddings in directions that were found elsewhere."""
    scores = projected(items.embeddings, directions)
    none = torch.zeros_like(scores[0]).long()
    return _at_best_threshold(items, scores.T, none, 4 * items.embeddings.numel(), min_support)


@plain_arithmetic()
def logistic_on_embeddings(items: Items, min_support: int = MIN_SUPPORT) -> DetectorScores:
    """Return L2 logistic regression on embeddings, each dimension divided by its deviation; penalty by folds of
    train."""
    fits = items.first_fitted(max(1, VALUES_FITTED // max(1, items.embeddings.shape[1])))
    if not len(fits):
        return DetectorScores.nothing(items)
    x, mean, scale = of_embeddings(items.embeddings[fits])
    weights, penalties = _fitted(items, x, fits, items.labels[fits])
    direction = weights[:-1] / scale[:, None]
    scores = projected(items.embeddings, direction) + (weights[-1] - mean @ direction)
    return _at_best_threshold(items, scores.T, penalties, 4 * items.embeddings.numel(), min_support)


@plain_arithmetic()
def logistic_on_units(items: Items, min_support: int = MIN_SUPPORT, most: int = MOST_ON_UNITS) -> DetectorScores:
    """Return L2 logistic regression on the scores of all units, not scaled one by one: a unit that fires once stays
    small.

    Of more than ``most`` items the first in their order are fitted on.
    """
    fits = items.first_fitted(most)
    if not len(fits):
        return DetectorScores.nothing(items)
    n = len(items.labels)
    scores = items.units.of_items(fits, n)
    firing = scores.starts.diff().nonzero().flatten()
    x, mean, _ = of_scores(scores.of_units(firing), len(fits), divided=False)
    weights, penalties = _fitted(items, x, fits, items.labels[fits])
    direction = torch.zeros(items.units.n_units, weights.shape[1], dtype=torch.float64, device=fits.device)
    direction[firing] = weights[:-1]
    of_items = items.units.per_item(direction, n) + (weights[-1] - mean @ weights[:-1])
    return _at_best_threshold(items, of_items.T, penalties, items.units.n_bytes, min_support)


@plain_arithmetic()
def k_sparse(items: Items, min_support: int = MIN_SUPPORT, sparsities: tuple[int, ...] = SPARSITIES) -> DetectorScores:
    """Return L2 logistic regression on k units, each divided by its deviation; k by F1 on cal, ties to the smaller one.

    Units are ranked by ``|difference of class means| / pooled deviation`` on what it is fitted on (sae-probes,
    arXiv:2502.16681); ties: the lower unit. The regression takes at most 16,384 items. All k of a concept are solved
    together, each concept by itself.
    """
    (n, n_concepts), effect = items.labels.shape, effect_sizes(items)
    fits, truth = items.first_fitted(max(1, VALUES_FITTED // max(sparsities))), items.labels[items.chooses].T
    scores = torch.full((n_concepts, n), torch.nan, dtype=torch.float64, device=effect.device)
    chosen = torch.full((n_concepts,), -1, dtype=torch.int64, device=effect.device)
    for concept in range(n_concepts):
        ranked = effect[:, concept].sort(dim=0, descending=True, stable=True)
        units = ranked.indices[: int((ranked.values > 0).sum())][: max(sparsities)]
        if not len(units):
            continue
        ranked_units = items.units.of_units(units)
        x, mean, scale = of_scores(ranked_units.of_items(fits, n), len(fits), divided=True)
        fitting = [k for k in sparsities if k <= len(units)]
        sizes = torch.tensor(fitting, dtype=torch.int64, device=fits.device)
        y = items.labels[fits, concept, None].expand(-1, len(sizes))
        weights, penalties = _fitted(items, x, fits, y, sizes)
        directions = weights[:-1] / scale[:, None]
        each = (ranked_units.per_item(directions, n) + (weights[-1] - mean @ directions)).T
        best = -1.0
        for k, penalty, line in zip(fitting, penalties.tolist(), each, strict=True):
            mine = line.float()[None, items.chooses]
            f1 = float(_f1(mine >= best_thresholds(mine, truth[[concept]], min_support)[:, None], truth[[concept]]))
            if penalty >= 0 and f1 > best:
                best, scores[concept] = f1, line
                chosen[concept] = k
    return _at_best_threshold(items, scores, chosen, items.units.n_bytes, min_support)


@plain_arithmetic()
def effect_sizes(items: Items) -> Float[Tensor, "units concepts"]:
    """``|difference of class means| / pooled deviation`` of each unit's scores, over what detectors are fitted on.

    The deviation is that of both classes together, ``√(((n₁ − 1) s₁² + (n₀ − 1) s₀²) / (n₁ + n₀ − 2))``; infinite where
    it is 0 and the means differ, 0 where they do not or a class is missing.
    """
    fits = items.fits.nonzero().flatten()
    scores, truth = items.units.of_items(fits, len(items.labels)), items.labels[fits].double()
    n_true, n = truth.sum(0), len(truth)
    both = torch.cat([truth, torch.ones_like(truth[:, :1])], 1)
    every = scores.per_unit(both)
    sums, total, square_total = every[:, :-1], every[:, -1], scores.per_unit(both[:, -1:], power=2)[:, 0]
    rest, n_rest = total[:, None] - sums, n - n_true
    difference = sums / n_true - rest / n_rest
    within = square_total[:, None] - sums.square() / n_true - rest.square() / n_rest
    within = torch.where(within > 1e-12 * square_total[:, None], within, 0.0)
    effect = difference.abs() / (within / (n - 2)).sqrt()
    return torch.where((difference == 0) | (n_true < 1) | (n_rest < 1), 0.0, effect).nan_to_num(0.0, torch.inf)


@plain_arithmetic()
def best_thresholds(
    scores: Float[Tensor, "concepts items"], truth: Bool[Tensor, "concepts items"], min_support: int = MIN_SUPPORT
) -> Float[Tensor, " concepts"]:
    """Return the score with the best F1 of each row, as the exact search has it for units: float64, NaN where there is
    none.

    Every distinct score is a threshold, of which ``min_support`` positives must lie at or above; ties: higher recall.
    """
    ranked = scores.double().sort(dim=-1, descending=True, stable=True)
    hits = truth.gather(-1, ranked.indices).long().cumsum(-1)
    n = scores.shape[-1]
    if n == 0:
        return torch.full(scores.shape[:-1], torch.nan, dtype=torch.float64, device=scores.device)
    predicted = torch.arange(1, n + 1, device=scores.device)
    last = torch.nn.functional.pad(ranked.values[..., 1:] < ranked.values[..., :-1], (0, 1), value=True)
    f1 = 2 * hits.double() / (predicted + truth.sum(-1, keepdim=True))
    f1 = torch.where(last & (hits >= min_support), f1, -1.0)
    best = f1.amax(-1, keepdim=True)
    at = torch.where(f1 == best, hits, -1).argmax(-1, keepdim=True)
    threshold = ranked.values.gather(-1, at)[..., 0]
    return torch.where((best[..., 0] > 0) & ~scores.isnan().any(-1), threshold, torch.nan)


def _at_best_threshold(items: Items, scores: Tensor, choices: Tensor, n_bytes: int, min_support: int) -> DetectorScores:
    """Return the detector of these scores [n_concepts, n_items], rounded once: last bits of float64 sums decide
    nothing."""
    scores = scores.float()
    thresholds = best_thresholds(scores[:, items.chooses], items.labels[items.chooses].T, min_support)
    exists = ~thresholds.isnan() & (choices >= 0)
    of_test = torch.where(exists[:, None], scores[:, items.tests], torch.nan)
    detected = of_test.double() >= thresholds[:, None]
    return DetectorScores(of_test, detected, torch.where(exists, choices, -1), n_bytes)


def _fitted(
    items: Items,
    x: Design,
    fits: Int[Tensor, " n"],
    truth: Bool[Tensor, "n problems"],
    widths: Int[Tensor, " problems"] | None = None,
) -> tuple[Float[Tensor, "features_plus_1 problems"], Int[Tensor, " problems"]]:
    """Return weights on the centred features of these items, and the number of the penalty that was chosen by folds.

    NaN and −1 where one of the classes is (nearly) missing. Folds of examples are dealt class by class. Penalties are
    those of features that are divided by one number, the root of the mean squared norm.

    Args:
        widths: how many features, from the first, each problem has; all of them if None.
    """
    weights = torch.full((x.n_features + 1, truth.shape[1]), torch.nan, dtype=torch.float64, device=fits.device)
    penalties = torch.full((truth.shape[1],), -1, dtype=torch.int64, device=fits.device)
    able = ((truth.sum(0) >= FEWEST) & ((~truth).sum(0) >= FEWEST)).nonzero().flatten()
    if not len(able):
        return weights, penalties
    truth, order = truth[:, able], items.order[fits]
    widths = None if widths is None else widths[able]
    squares = x.squares(torch.ones(1, len(fits), dtype=torch.float64, device=fits.device))[0, :-1]
    norms = torch.nn.functional.pad(squares.cumsum(0) / len(fits), (1, 0))
    norms = norms[x.n_features if widths is None else widths].expand(len(able)).clamp(min=1e-300)
    turned, back = _turned(x) if widths is None else (x, None)
    if items.folds is None:
        folds = stratified_folds(truth, order.argsort())
    else:
        folds = items.folds[fits, None].expand(-1, len(able))
    some = order.argsort()[:MOST_FOLDED]
    penalties[able] = choose_penalty(turned.of_items(some), truth[some], folds[some], norms, widths)
    strengths = 1 / (len(fits) * torch.tensor(PENALTIES, dtype=torch.float64, device=fits.device)[penalties[able]])
    for part in some_problems(turned, truth):
        y = truth[:, part]
        has = None if widths is None else widths[part]
        fitted = fit_logistic(turned, y, torch.ones_like(y), (strengths / norms)[part], None, EXACT, has)
        weights[:-1, able[part]] = fitted[:-1] if back is None else back(fitted[:-1])
        weights[-1, able[part]] = fitted[-1]
    return weights, penalties


def _turned(x: Design) -> tuple[Design, Callable[[Tensor], Tensor] | None]:
    """Return the features in axes of their scatter, which leaves the penalty as it is, and what turns weights back.

    Few items have as many dimensions as they are: with ``K = X Xᵀ = Q Λ Qᵀ`` the features are ``K Q Λ^−½``, and their
    weights those of ``Xᵀ Q Λ^−½``. Sparse features of many items are left as they are.
    """
    if x.n_items < x.n_features and x.n_items**2 <= MOST_OF_KERNEL * x.n_values:
        kernel = x.kernel()
        roots = _roots(kernel)
        return DenseDesign(kernel @ roots), lambda w: x.per_feature((roots @ w).T)[:, :-1].T
    if isinstance(x, DenseDesign):
        axes = torch.linalg.eigh(x.x.T @ x.x).eigenvectors
        return DenseDesign(x.x @ axes), lambda w: axes @ w
    return x, None


def _roots(kernel: Float[Tensor, "n n"]) -> Float[Tensor, "n r"]:
    """Return q Λ^−½ of a symmetric matrix, without eigenvalues that are 0."""
    values, vectors = torch.linalg.eigh(kernel)
    some = values > EIGEN * values[-1:].clamp(min=1e-300)
    return vectors[:, some] / values[some].sqrt()


def _blocks(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Items a few at a time, since embeddings are made float64."""
    return zip(*(tensor.split(2**14) for tensor in tensors), strict=True)


def projected(x: Float[Tensor, "items d"], direction: Float[Tensor, "d concepts"]) -> Float[Tensor, "items concepts"]:
    """Return products in float64, a few items at a time."""
    return torch.cat([part.double() @ direction for (part,) in _blocks(x)])


def _f1(detected: Bool[Tensor, "*n items"], truth: Bool[Tensor, "*n items"]) -> Float[Tensor, "*n"]:
    true = (detected & truth).sum(-1).double()
    return 2 * true / (detected.sum(-1) + truth.sum(-1)).clamp(min=1)
