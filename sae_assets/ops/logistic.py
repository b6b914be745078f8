"""L2-regularised logistic regression of many problems at once, on dense features, by Newton's method.

Gradients and objectives are float64, steps are found in float32. Which examples and which features it is given, and
what becomes of the scores, is decided in ``ops.controls``. It is our own because ``ops`` needs nothing but torch; a
test holds its coefficients equal to scikit-learn's.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # λ beside a mean loss; scikit-learn's C is 1 / (λ n)
USUAL = 3  # of these, where no fold can be held out
N_FOLDS = 5
EXACT, ROUGH = 1e-12, 1e-6  # share of the objective that a step may still win: to report, and to compare penalties
MOST_STEPS, MOST_INNER = 100, 300
VALUES_AT_ONCE = 2**22  # (example, problem) values in hand, about 80 bytes each


@plain_arithmetic()
def fit_logistic(
    x: Float[Tensor, "examples features"],
    truth: Bool[Tensor, "examples problems"],
    used: Bool[Tensor, "examples problems"],
    strengths: Float[Tensor, " problems"],
    start: Float[Tensor, "features_plus_1 problems"] | None = None,
    tolerance: float = EXACT,
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
        tolerance: a problem ends once a step promises to win no more than this share of its objective.
    """
    x = torch.nn.functional.pad(x, (0, 1), value=1.0)
    rounded = x.float()
    squares = rounded.square()
    n_problems = truth.shape[1]
    penalty = torch.ones(x.shape[1], dtype=torch.float64, device=x.device)
    penalty[-1] = 0.0
    if start is None:
        share = (truth & used).sum(0) / used.sum(0).double()
        start = torch.zeros(x.shape[1], n_problems, dtype=torch.float64, device=x.device)
        start[-1] = (share / (1 - share)).log()
    # Problems lie in rows here: products of few of them with all features take a fifth of the time of columns.
    weights, left = start.T.contiguous(), torch.arange(n_problems, device=x.device)
    y, mass = truth.T.double().contiguous(), (used.double() * strengths).T.contiguous()
    sizes = torch.full_like(strengths, torch.nan)  # of the first gradient
    for _ in range(MOST_STEPS):
        w = weights[left]
        f = w @ x.T
        p = f.sigmoid()
        gradient = (mass * (p - y)) @ x + penalty * w
        size = gradient.norm(dim=1)
        sizes = torch.where(sizes.isnan(), size, sizes)
        rest = (size / sizes.clamp(min=1e-300)).sqrt().clamp(max=0.1)
        step = _newton_step(rounded, squares, mass * p * (1 - p), penalty, gradient, rest)
        length, objective = _lengths(f, step @ x.T, y, mass, w, step, penalty, gradient)
        weights[left] = w + length[:, None] * step
        going = -(gradient * step).sum(1) / 2 > tolerance * objective
        if not bool(going.any()):
            break
        if not bool(going.all()):  # those that are done leave
            left, sizes, y, mass = left[going], sizes[going], y[going], mass[going]
    return weights.T


def _newton_step(
    x: Tensor, squares: Tensor, curvature: Tensor, penalty: Tensor, gradient: Tensor, rest: Tensor
) -> Float[Tensor, "problems features_plus_1"]:
    """``−H⁻¹ g`` of each problem, until the residual is about this share of the gradient; float64.

    Found in float32, in half the time: a step need only be a good one, for the gradient that it starts from and the
    objective that it has to win are float64.
    """
    size = gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
    scale = curvature.amax(1, keepdim=True).clamp(min=1e-300)  # float32 ends at 1e-38
    curvature, penalty = (curvature / scale).float(), (penalty / scale).float()
    inverse = 1 / (curvature @ squares + penalty).clamp(min=1e-12)
    residual = -(gradient / size).float()
    step, target = torch.zeros_like(residual), rest.float().square()
    z = inverse * residual
    direction, product = z, (residual * z).sum(1)
    for _ in range(MOST_INNER):
        going = residual.square().sum(1) > target
        if not bool(going.any()):
            break
        bent = (curvature * (direction @ x.T)) @ x + penalty * direction
        length = torch.where(going, product / (direction * bent).sum(1).clamp(min=1e-30), 0.0)[:, None]
        step, residual = step + length * direction, residual - length * bent
        z = inverse * residual
        after = (residual * z).sum(1)
        direction, product = z + (after / product.clamp(min=1e-30))[:, None] * direction, after
    return step.double() * (size / scale)


def _lengths(
    f: Tensor, along: Tensor, y: Tensor, mass: Tensor, w: Tensor, step: Tensor, penalty: Tensor, gradient: Tensor
) -> tuple[Float[Tensor, " problems"], Float[Tensor, " problems"]]:
    """How far each problem goes along its step: halved until the objective falls as its slope promises; and that.

    Float64 leaves the objective of a step unsure by about 1e-12 of it.
    """
    length = torch.ones(len(f), dtype=torch.float64, device=f.device)
    before, slope = _objectives(f, y, mass, w, penalty), (gradient * step).sum(1)
    for _ in range(40):
        objective = _objectives(f + length[:, None] * along, y, mass, w + length[:, None] * step, penalty)
        short = objective > before + 1e-4 * length * slope + 1e-12 * before
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
    return length, before


def _objectives(f: Tensor, y: Tensor, mass: Tensor, w: Tensor, penalty: Tensor) -> Float[Tensor, " problems"]:
    """What each problem minimises, at weights ``w`` that give the scores ``f``."""
    loss = torch.nn.functional.softplus(f) - y * f
    return (mass * loss).sum(1) + (penalty * w.square()).sum(1) / 2


@plain_arithmetic()
def choose_penalty(
    x: Float[Tensor, "examples features"],
    truth: Bool[Tensor, "examples problems"],
    folds: Int[Tensor, "examples problems"],
) -> Int[Tensor, " problems"]:
    """Number of the penalty with the least log-loss on held-out folds, all folds together; ties: the larger penalty.

    Penalties fall, and a problem ends with the first that is no better than the one before.

    Args:
        folds: 0 … N_FOLDS − 1 of each example in each problem. A fold is left out for a problem of which a class is
            missing without it.
    """
    chosen = []
    for problems in torch.arange(truth.shape[1], device=x.device).split(max(1, VALUES_AT_ONCE // (len(x) * N_FOLDS))):
        y = truth[:, problems, None].expand(-1, -1, N_FOLDS)
        held_out = folds[:, problems, None] == torch.arange(N_FOLDS, device=x.device)
        fits = (y & ~held_out).any(0) & (~y & ~held_out).any(0) & held_out.any(0)
        problem, fold = fits.nonzero(as_tuple=True)
        y, held_out, weights = y[:, problem, fold], held_out[:, problem, fold], None
        best = torch.full((len(problems),), torch.inf, dtype=torch.float64, device=x.device)
        at = torch.where(fits.any(1), 0, USUAL)
        for number, penalty in enumerate(PENALTIES if len(problem) else ()):
            weights = fit_logistic(x, y, ~held_out, 1 / (penalty * (~held_out).sum(0).float()), weights, ROUGH)
            f = x @ weights[:-1] + weights[-1]
            each = (held_out * (torch.nn.functional.softplus(f) - y.double() * f)).sum(0)
            loss = torch.full_like(best, torch.inf)
            loss[problem] = 0.0
            loss.index_add_(0, problem, each)
            at = torch.where(loss < best, number, at)
            best = torch.minimum(loss, best)
            going = (at == number)[problem]
            if not bool(going.any()):
                break
            problem, y, held_out, weights = problem[going], y[:, going], held_out[:, going], weights[:, going]
        chosen.append(at)
    return torch.cat(chosen)


@plain_arithmetic()
def stratified_folds(truth: Bool[Tensor, "examples problems"], order: Int[Tensor, " examples"]) -> Tensor:
    """int64 [n_examples, n_problems]: examples of each class dealt to folds in turn, in this order (a permutation)."""
    truth = truth[order]
    index = torch.where(truth, truth.long().cumsum(0), (~truth).long().cumsum(0)) - 1
    folds = torch.empty_like(index)
    folds[order] = index % N_FOLDS
    return folds
