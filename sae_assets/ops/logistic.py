"""L2-regularised logistic regression of many problems at once, on dense features: Newton's method in float64.

Which examples and which features it is given, and what becomes of the scores, is decided in ``ops.controls``. It is our
own because ``ops`` needs nothing but torch; a test holds its coefficients equal to scikit-learn's.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic

STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)  # 1 / penalty, scikit-learn's C
N_FOLDS = 5
PATIENCE = 2  # strengths that may be tried in vain
TOLERANCE = 1e-9  # of a gradient, relative to that without weights: with weak penalties much of it is left for long
MOST_STEPS, MOST_INNER = 100, 300
VALUES_AT_ONCE = 2**22  # (example, problem) values in hand, about 80 bytes each


@plain_arithmetic()
def fit_logistic(
    x: Float[Tensor, "examples features"],
    truth: Bool[Tensor, "examples problems"],
    used: Bool[Tensor, "examples problems"],
    strengths: Float[Tensor, " problems"],
    start: Float[Tensor, "features_plus_1 problems"] | None = None,
) -> Float[Tensor, "features_plus_1 problems"]:
    """Weights of the features and, last, the intercept, which is not penalised; float64.

    Each problem minimises ``½ |w|² + C Σ log(1 + exp(−y (x·w + b)))`` over the examples it uses, as scikit-learn does:
    by Newton's method, steps by conjugate gradients preconditioned with the Hessian's diagonal, halved until the
    objective falls.

    Args:
        x: float64.
        used: which examples count in each problem; both classes must be among them.
        strengths: C of each problem.
        start: weights near the answer, if some are known.
    """
    x = torch.nn.functional.pad(x, (0, 1), value=1.0)
    squares = x.square()
    n_problems = truth.shape[1]
    penalty = torch.ones(x.shape[1], 1, dtype=torch.float64, device=x.device)
    penalty[-1] = 0.0
    share = (truth & used).sum(0) / used.sum(0).double()
    at_start = (x.T @ (used * strengths * (share - truth.double()))).norm(dim=0).clamp(min=1e-300)
    if start is None:
        start = torch.zeros(x.shape[1], n_problems, dtype=torch.float64, device=x.device)
        start[-1] = (share / (1 - share)).log()
    weights, left = start.clone(), torch.arange(n_problems, device=x.device)
    for _ in range(MOST_STEPS):
        y, mass = truth[:, left].double(), used[:, left].double() * strengths[left]
        w = weights[:, left]
        f = x @ w
        p = f.sigmoid()
        gradient = x.T @ (mass * (p - y)) + penalty * w
        size = gradient.norm(dim=0)
        going = size > TOLERANCE * at_start
        if not bool(going.any()):
            break
        if not bool(going.all()):  # those that are done leave
            left, at_start = left[going], at_start[going]
            y, mass, w, f, p = (each[:, going] for each in (y, mass, w, f, p))
            gradient, size = gradient[:, going], size[going]
        step = _newton_step(x, squares, mass * p * (1 - p), penalty, gradient, (size / at_start).sqrt().clamp(max=0.1))
        length = _lengths(f, x @ step, y, mass, w, step, penalty, gradient)
        weights[:, left] = w + length * step
    return weights


def _newton_step(
    x: Tensor, squares: Tensor, curvature: Tensor, penalty: Tensor, gradient: Tensor, rest: Tensor
) -> Float[Tensor, "features_plus_1 problems"]:
    """``−H⁻¹ g`` of each problem, until the residual is this share of the gradient."""
    inverse = 1 / (squares.T @ curvature + penalty).clamp(min=1e-12)
    step, residual = torch.zeros_like(gradient), -gradient
    target = (rest * gradient.norm(dim=0)).square()
    z = inverse * residual
    direction, product = z, (residual * z).sum(0)
    for _ in range(MOST_INNER):
        going = residual.square().sum(0) > target
        if not bool(going.any()):
            break
        bent = x.T @ (curvature * (x @ direction)) + penalty * direction
        scale = torch.where(going, product / (direction * bent).sum(0).clamp(min=1e-300), 0.0)
        step, residual = step + scale * direction, residual - scale * bent
        z = inverse * residual
        after = (residual * z).sum(0)
        direction, product = z + after / product.clamp(min=1e-300) * direction, after
    return step


def _lengths(
    f: Tensor, along: Tensor, y: Tensor, mass: Tensor, w: Tensor, step: Tensor, penalty: Tensor, gradient: Tensor
) -> Float[Tensor, " problems"]:
    """How far each problem goes along its step: halved until the objective falls as much as its slope promises."""

    def objective(length: Tensor) -> Tensor:
        to = f + length * along
        loss = torch.nn.functional.softplus(to) - y * to
        return (mass * loss).sum(0) + (penalty * (w + length * step).square()).sum(0) / 2

    length = torch.ones(f.shape[1], dtype=torch.float64, device=f.device)
    before, slope = objective(length * 0), (gradient * step).sum(0)
    for _ in range(40):
        short = objective(length) > before + 1e-4 * length * slope + 1e-12 * before
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
    return length


@plain_arithmetic()
def choose_strength(
    x: Float[Tensor, "examples features"],
    truth: Bool[Tensor, "examples problems"],
    folds: Int[Tensor, "examples problems"],
    strengths: tuple[float, ...] = STRENGTHS,
) -> Int[Tensor, " problems"]:
    """Number of the strength with the least log-loss on held-out folds, all folds together; ties: the smaller C.

    Strengths ascend, and a problem ends once ``PATIENCE`` of them in a row were no better than the best before.

    Args:
        folds: 0 … N_FOLDS − 1 of each example in each problem. A fold is left out for a problem of which a class is
            missing without it.
    """
    chosen = []
    for problems in torch.arange(truth.shape[1], device=x.device).split(max(1, VALUES_AT_ONCE // (len(x) * N_FOLDS))):
        y = truth[:, problems, None].expand(-1, -1, N_FOLDS)
        held = folds[:, problems, None] == torch.arange(N_FOLDS, device=x.device)
        problem, fold = ((y & ~held).any(0) & (~y & ~held).any(0)).nonzero(as_tuple=True)
        y, held, weights = y[:, problem, fold], held[:, problem, fold], None
        best = torch.full((len(problems),), torch.inf, dtype=torch.float64, device=x.device)
        at = torch.zeros_like(problems)
        for number, strength in enumerate(strengths):
            weights = fit_logistic(x, y, ~held, torch.full_like(best, strength)[problem], weights)
            f = x @ weights[:-1] + weights[-1]
            each = (held * (torch.nn.functional.softplus(f) - y.double() * f)).sum(0)
            loss = torch.full_like(best, torch.inf)
            loss[problem] = 0.0
            loss.index_add_(0, problem, each)
            at = torch.where(loss < best, number, at)
            best = torch.minimum(loss, best)
            going = (number - at < PATIENCE)[problem]
            if not bool(going.any()):
                break
            problem, y, held, weights = problem[going], y[:, going], held[:, going], weights[:, going]
        chosen.append(at)
    return torch.cat(chosen)


@plain_arithmetic()
def stratified_folds(truth: Bool[Tensor, "examples problems"], order: Int[Tensor, " examples"]) -> Tensor:
    """int64 [n_examples, n_problems]: examples of each class dealt to folds in turn, in this order (a permutation)."""
    truth = truth[order]
    place = torch.where(truth, truth.long().cumsum(0), (~truth).long().cumsum(0)) - 1
    folds = torch.empty_like(place)
    folds[order] = place % N_FOLDS
    return folds
