"""The confidence interval of an AUROC."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.proportions import wilson_interval

# Chosen by simulation (`benchmarks/bench_interval_choices.py`), as what stays within .93 and .98 most often.
MISPLACED = 0.4  # variance of a placement over A(1 − A), of the examples that nobody saw: one, and SEED of one
SEED = 0.3


@plain_arithmetic()
def auroc_interval(
    scores: Float[Tensor, "*n examples"], truth: Bool[Tensor, "*n examples"], level: float = 0.95
) -> Float[Tensor, "*n 3"]:
    """AUROC, ties counted half, with its interval: estimate, low, high.

    Limits are Wilson's of a proportion A of ``N = A (1 − A) / V`` examples, V a variance in the manner of DeLong,
    DeLong & Clarke-Pearson (1988): that of the placements of each class (shares of the others that lie on the right
    side) over the class's size. What nobody saw can be far worse than what is seen and hardly better, so each limit has
    a V. Away from ½ it is DeLong's own. Towards ½ the variance of each class, over A (1 − A), is blended with
    ``MISPLACED``, which counts as one example; what is seen counts as ``(Σ e)² / Σ e²`` examples, e what each placement
    lacks of 1 (Kish 1965), for few examples far out decide. So there is a width at AUROC 1, where DeLong's variance is
    0. Where that says nothing, being 0 or of a class of one example, both limits have the blended one.

    NaN without two classes.
    """
    x = scores.double().contiguous()
    parts = []
    for mine, others in ((truth, ~truth), (~truth, truth)):
        rest = torch.where(others, x, torch.inf).sort(-1).values
        below = torch.searchsorted(rest, x) + torch.searchsorted(rest, x, right=True)
        n, m = mine.sum(-1, keepdim=True), others.sum(-1, keepdim=True)
        placed = torch.where(mine, below.double() / (2 * m.clamp(min=1)), 0.0)  # share of the others that lie below
        mean = placed.sum(-1, keepdim=True) / n.clamp(min=1)
        squares = torch.where(mine, (placed - mean).square(), 0.0).sum(-1)
        parts.append((n[..., 0].double(), mean[..., 0], squares))
    (n_positive, area, _), (n_negative, _, _) = parts
    lacking = torch.minimum(area, 1 - area)
    far, near = torch.zeros_like(area), torch.zeros_like(area)
    for n, _, squares in parts:
        seen = n * lacking.square() / (squares / n.clamp(min=1) + lacking.square()).clamp(min=1e-300)
        pulled = (n * lacking + SEED) / (n + 2 * SEED)
        variance = squares / (n - 1).clamp(min=1)
        blended = seen * (variance + MISPLACED * SEED / n.clamp(min=1)) / (pulled * (1 - pulled)) + MISPLACED
        far = far + blended / (seen + 1) / n.clamp(min=1)
        near = near + variance / (area * (1 - area)).clamp(min=1e-300) / n.clamp(min=1)
    fewer = torch.minimum(n_positive, n_negative)
    near = torch.where((near > 0) & (fewer > 1), near, far)
    sides = torch.where(area < 0.5, near, far), torch.where(area > 0.5, near, far)
    ends = [wilson_interval(area / ratio, 1 / ratio, level)[..., end] for end, ratio in enumerate(sides)]
    return torch.where((fewer > 0)[..., None], torch.stack([area, *ends], -1), torch.nan)
