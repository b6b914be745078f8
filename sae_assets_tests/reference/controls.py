"""Controls, fitted by scikit-learn on dense float64 arrays (numerics 12)."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # beside a mean loss
SPARSITIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def best_threshold(scores: np.ndarray, labels: np.ndarray, min_support: int = 3) -> float | None:
    """Of all distinct scores the one with the best F1; ties: higher recall, then the higher threshold."""
    ranked = []
    for threshold in np.unique(scores):
        detected = scores >= threshold
        true = int((detected & labels).sum())
        if true >= min_support:
            ranked.append((2 * true / (detected.sum() + labels.sum()), true, float(threshold)))
    return max(ranked)[2] if ranked else None


def fit(x: np.ndarray, y: np.ndarray, penalty: float) -> LogisticRegression:
    strength = 1 / (penalty * len(y))
    return LogisticRegression(C=strength, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(x, y)


def stratified_folds(y: np.ndarray, order: np.ndarray, n_folds: int = 5) -> np.ndarray:
    """Examples of each class dealt in this order (ranks)."""
    folds = np.empty(len(y), int)
    for side in (True, False):
        members = np.flatnonzero(y == side)
        folds[members[np.argsort(order[members])]] = np.arange(len(members)) % n_folds
    return folds


def choose_penalty(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> int:
    """Number of the penalty with the least log-loss of held-out examples; the first one that is no better ends it."""
    losses: list[float] = []
    for penalty in PENALTIES:
        loss = 0.0
        for fold in range(5):
            held = folds == fold
            if held.any() and len(set(y[~held])) == 2:
                scores = fit(x[~held], y[~held], penalty).decision_function(x[held])
                loss += np.logaddexp(0, np.where(y[held], -scores, scores)).sum()  # log_loss is as slow as the fit
        losses.append(loss)
        if np.argmin(losses) < len(losses) - 1:
            break
    return int(np.argmin(losses))


def diffmean(x: np.ndarray, y: np.ndarray, fits: np.ndarray) -> np.ndarray:
    return x @ (x[fits & y].mean(0) - x[fits & ~y].mean(0))


def diffmean_of_rows(rows: np.ndarray, example: np.ndarray, y: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """AxBench: mean of rows of positive examples minus that of all others; the largest score of each example."""
    scores = diffmean(rows, y[example], fits[example])
    largest = np.full(len(y), -np.inf)
    np.maximum.at(largest, example, scores)
    return largest


def one_size(x: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """Centred, divided by the root of the mean squared norm."""
    x = x - x[fits].mean(0)
    return x / np.sqrt((x[fits] ** 2).sum(1).mean())


def standardised(x: np.ndarray, fits: np.ndarray) -> np.ndarray:
    deviation = x[fits].std(0)
    return one_size(x / np.where(deviation > 0, deviation, 1), fits)


def logistic(x: np.ndarray, y: np.ndarray, fits: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, int]:
    """Scores of all items, and the number of the penalty; folds of what is fitted on."""
    chosen = choose_penalty(x[fits], y[fits], folds)
    return fit(x[fits], y[fits], PENALTIES[chosen]).decision_function(x), chosen


def effects(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|difference of means| over the pooled deviation (Cohen's d)."""
    one, two = x[y], x[~y]
    difference = one.mean(0) - two.mean(0)
    pooled = ((len(one) - 1) * one.var(0, ddof=1) + (len(two) - 1) * two.var(0, ddof=1)) / (len(x) - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0, np.abs(difference) / np.sqrt(pooled))


def k_sparse(
    units: np.ndarray, y: np.ndarray, fits: np.ndarray, chooses: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, int]:
    """Scores of the regression on the k units of the largest effects, and k: the best F1 on what chooses."""
    of_units = effects(units[fits], y[fits])
    ranked, best = np.argsort(-of_units, kind="stable"), (-1.0, 0, units[:, 0])
    for k in (k for k in SPARSITIES if k <= (of_units > 0).sum()):
        scores, _ = logistic(standardised(units[:, ranked[:k]], fits), y, fits, folds)
        rounded = scores.astype(np.float32)[chooses]
        f1 = f1_score(y[chooses], rounded >= best_threshold(rounded, y[chooses]))
        if f1 > best[0] + 1e-12:
            best = (f1, k, scores)
    return best[2], best[1]
