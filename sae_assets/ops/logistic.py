"""L2-regularised logistic regression of many problems at once, by Newton's method.

Gradients and objectives are float64, steps are found in float32. Features are taken through the products of
``ops.designs``; which examples and features these are, and what becomes of the scores, is decided in ``ops.detectors``.
It is our own because ``ops`` needs nothing but torch; a test holds its coefficients equal to scikit-learn's.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.designs import Design
from sae_assets.ops.process_state import plain_arithmetic

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # λ beside a mean loss; scikit-learn's C is 1 / (λ n)
USUAL = 3  # of these, where no fold can be held out
N_FOLDS = 5
EXACT, ROUGH = 1e-12, 1e-6  # share of the objective that a step may still win: to report, and to compare penalties
MOST_STEPS, MOST_INNER = 100, 300
VALUES_AT_ONCE = 2**22  # (example, problem) or (feature, problem) values in hand, about 80 bytes each


@plain_arithmetic()
def fit_logistic(
    x: Design,
    truth: Bool[Tensor, "examples problems"],
    used: Bool[Tensor, "examples problems"],
    strengths: Float[Tensor, " problems"],
    start: Float[Tensor, "features_plus_1 problems"] | None = None,
    tolerance: float = EXACT,
    widths: Int[Tensor, " problems"] | None = None,
) -> Float[Tensor, "features_plus_1 problems"]:
    """Return weights of the features and, last, the intercept, which is not penalised; float64.

    Each problem minimises ``½ |w|² + C Σ log(1 + exp(−y (x·w + b)))`` over the examples it uses, as scikit-learn does:
    by Newton's method, steps by conjugate gradients preconditioned with the Hessian's diagonal, halved until the
    objective falls.

    Args:
        x: in float64.
        used: which examples count in each problem; both classes must be among them.
        strengths: C of each problem.
        start: weights near the answer, if some are known.
        tolerance: a problem ends once a step promises to win no more than this share of its objective.
        widths: how many features each problem has, which are the first; the others' weights are 0. None: all.
    """
    n_problems, device = truth.shape[1], truth.device
    penalty = torch.ones(x.n_features + 1, dtype=torch.float64, device=device)
    penalty[-1] = 0.0
    if start is None:
        share = (truth & used).sum(0) / used.sum(0).double()
        start = torch.zeros(x.n_features + 1, n_problems, dtype=torch.float64, device=device)
        start[-1] = (share / (1 - share)).log()
    weights, left = torch.empty_like(start.T), torch.arange(n_problems, device=device)
    y, mass = x.laid(truth.T.double()), x.laid((used.double() * strengths).T)
    has = None if widths is None else x.laid(_has(x.n_features, widths))
    w = x.laid(start.T)
    f = x.per_item(w)
    objective = _objectives(f, y, mass, w, penalty)
    sizes = torch.full_like(strengths, torch.nan)  # of the first gradient
    for _ in range(MOST_STEPS):
        p = f.sigmoid()
        gradient = x.per_feature(mass * (p - y)) + penalty * w
        if has is not None:
            gradient = gradient * has
        size = gradient.norm(dim=1)
        sizes = torch.where(sizes.isnan(), size, sizes)
        rest = (size / sizes.clamp(min=1e-300)).sqrt().clamp(max=0.1)
        step = _newton_step(x.rounded, mass * p * (1 - p), penalty, gradient, rest, has)
        going = -(gradient * step).sum(1) / 2 > tolerance * objective
        w, f, objective = _stepped(f, x.per_item(step), y, mass, w, step, penalty, gradient, objective)
        if bool(going.all()):
            continue
        weights[left] = w
        if not bool(going.any()):
            break
        left, sizes, objective = left[going], sizes[going], objective[going]  # those that are done leave
        w, f, y, mass = (x.laid(each[going]) for each in (w, f, y, mass))
        has = None if has is None else x.laid(has[going])
    else:
        weights[left] = w
    return weights.T


def _has(n_features: int, widths: Int[Tensor, " problems"]) -> Float[Tensor, "problems features_plus_1"]:
    """Return 1 of the features that a problem has and of the intercept, 0 of the others; float32."""
    inside = torch.arange(n_features, device=widths.device) < widths[:, None]
    return torch.nn.functional.pad(inside.float(), (0, 1), value=1.0)


def _newton_step(
    x: Design, curvature: Tensor, penalty: Tensor, gradient: Tensor, rest: Tensor, has: Tensor | None
) -> Float[Tensor, "problems features_plus_1"]:
    """``−H⁻¹ g`` of each problem, until the residual is about this share of the gradient; float64.

    Found in float32, in half the time: a step need only be a good one, for the gradient that it starts from and the
    objective that it has to win are float64.
    """
    size = gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
    scale = curvature.amax(1, keepdim=True).clamp(min=1e-300)  # float32 ends at 1e-38
    curvature, penalty = (curvature / scale).float(), (penalty / scale).float()
    inverse = 1 / (x.squares(curvature) + penalty).clamp(min=1e-12)
    residual = -(gradient / size).float()
    step, target = torch.zeros_like(residual), rest.float().square()
    z = inverse * residual
    direction, product = z, (residual * z).sum(1)
    for _ in range(MOST_INNER):
        going = residual.square().sum(1) > target
        if not bool(going.any()):
            break
        bent = x.per_feature(curvature * x.per_item(direction)) + penalty * direction
        if has is not None:
            bent = bent * has
        length = torch.where(going, product / (direction * bent).sum(1).clamp(min=1e-30), 0.0)[:, None]
        step, residual = step + length * direction, residual - length * bent
        z = inverse * residual
        after = (residual * z).sum(1)
        direction, product = z + (after / product.clamp(min=1e-30))[:, None] * direction, after
    return step.double() * (size / scale)


def _stepped(
    f: Tensor,
    along: Tensor,
    y: Tensor,
    mass: Tensor,
    w: Tensor,
    step: Tensor,
    penalty: Tensor,
    gradient: Tensor,
    before: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, scores and objective after each problem's step, halved until the objective falls as its slope
    promises.

    Float64 leaves the objective of a step unsure by about 1e-12 of it.
    """
    length = torch.ones(len(f), 1, dtype=torch.float64, device=f.device)
    slope = (gradient * step).sum(1)
    for _ in range(40):
        new_w, new_f = w + length * step, f + length * along
        objective = _objectives(new_f, y, mass, new_w, penalty)
        short = objective > before + 1e-4 * length[:, 0] * slope + 1e-12 * before
        if not bool(short.any()):
            break
        length = torch.where(short[:, None], length / 2, length)
    return new_w, new_f, objective


def _objectives(f: Tensor, y: Tensor, mass: Tensor, w: Tensor, penalty: Tensor) -> Float[Tensor, " problems"]:
    """Return what each problem minimises, at weights ``w`` that give the scores ``f``."""
    loss = torch.nn.functional.softplus(f) - y * f
    return (mass * loss).sum(1) + (penalty * w.square()).sum(1) / 2


@plain_arithmetic()
def choose_penalty(
    x: Design,
    truth: Bool[Tensor, "examples problems"],
    folds: Int[Tensor, "examples problems"],
    norms: Float[Tensor, " problems"],
    widths: Int[Tensor, " problems"] | None = None,
) -> Int[Tensor, " problems"]:
    """Number of the penalty with the least log-loss on held-out folds, all folds together; ties: the larger penalty.

    Penalties fall, and a problem ends with the first that is no better than the one before.

    Args:
        folds: 0 … N_FOLDS − 1 of each example in each problem. A fold is left out for a problem of which a class is
            missing without it.
        norms: mean squared norm of the features of each problem, by the root of which they are to be divided.
        widths: as in :func:`fit_logistic`.
    """
    chosen = []
    for problems in some_problems(x, truth, N_FOLDS):
        y = truth[:, problems, None].expand(-1, -1, N_FOLDS)
        held_out = folds[:, problems, None] == torch.arange(N_FOLDS, device=truth.device)
        fits = (y & ~held_out).any(0) & (~y & ~held_out).any(0) & held_out.any(0)
        problem, fold = fits.nonzero(as_tuple=True)
        y, held_out, weights = y[:, problem, fold], held_out[:, problem, fold], None
        best = torch.full((len(problems),), torch.inf, dtype=torch.float64, device=truth.device)
        at = torch.where(fits.any(1), 0, USUAL)
        for number, penalty in enumerate(PENALTIES if len(problem) else ()):
            strengths = 1 / (penalty * (~held_out).sum(0).double()) / norms[problems][problem]
            has = None if widths is None else widths[problems][problem]
            weights = fit_logistic(x, y, ~held_out, strengths, weights, ROUGH, has)
            f = x.per_item(x.laid(weights.T)).T
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


def some_problems(
    x: Design, truth: Bool[Tensor, "examples problems"], n_fits: int = 1
) -> tuple[Int[Tensor, " some"], ...]:
    """Return numbers of the problems, as many at a time as are solved together, each of so many fits."""
    at_once = max(1, VALUES_AT_ONCE // (max(x.n_items, x.n_features) * n_fits))
    return torch.arange(truth.shape[1], device=truth.device).split(at_once)


@plain_arithmetic()
def stratified_folds(truth: Bool[Tensor, "examples problems"], order: Int[Tensor, " examples"]) -> Tensor:
    """Return int64 [n_examples, n_problems]: examples of each class dealt to folds in turn, in this order (a
    permutation)."""
    truth = truth[order]
    index = torch.where(truth, truth.long().cumsum(0), (~truth).long().cumsum(0)) - 1
    folds = torch.empty_like(index)
    folds[order] = index % N_FOLDS
    return folds
