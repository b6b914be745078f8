"""Train the packaged SAE of the text demo: JumpReLU units for token rows, then a few more for means of texts.

What lives here: the SAE alone, from rows that are given; no label is seen. Where the rows come from and what is written
is ``tools.demo_models.train_text``'s business.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

SAE_RATE = 1e-3
BANDWIDTH = 0.03  # of the straight-through estimator for tokens, where they have a mean square norm of 1
WARM, COOL = 100, 0.2  # steps in which the rate rises, and share of steps in which it falls


@dataclass(frozen=True)
class Stage:
    """The SAE is learned in stages; rows per step and weights are of (tokens, means of texts)."""

    n_units: int  # new ones
    steps: int
    rows: tuple[int, int]
    error: tuple[float, float]  # weights of the squared error
    sparsity: tuple[float, float]  # weights of L0; how they were chosen is in TEXT.md


STAGES = (
    Stage(1024, 1500, (2048, 0), (1.0, 0.0), (6e-3, 0.0)),
    Stage(256, 800, (512, 512), (1.0, 40.0), (2e-3, 6e-3)),
)


class JumpReLU(torch.autograd.Function):
    """``pre · H(pre − threshold)`` and each row's L0; the threshold's gradients by the paper's rectangular kernel.

    The kernel's width is given per row, [n_rows, 1].
    """

    @staticmethod
    def forward(ctx, pre: Tensor, threshold: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(pre, threshold, width)
        active = pre > threshold
        return pre * active, active.sum(1).float()

    @staticmethod
    def backward(ctx, of_code: Tensor, of_l0: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold, width = ctx.saved_tensors
        kernel = ((pre - threshold).abs() < width / 2) / width
        return of_code * (pre > threshold), -threshold * (kernel * of_code).sum(0) - of_l0 @ kernel, None


def spread(rows: Tensor) -> Tensor:
    """Mean squared distance from the mean row."""
    return (rows - rows.mean(0)).square().sum(1).mean()


def active(pre: Tensor, threshold: Tensor) -> Tensor:
    """Codes of pre-activations: what is not above its threshold and above 0 becomes 0."""
    return pre * ((pre > threshold) & (pre > 0))


def add_units(weights: dict[str, Tensor], rows: tuple[Tensor, Tensor], stage: Stage, seed: int) -> dict[str, Tensor]:
    """Learn new units; the encoder of those that are there stays, the decoder of all of them is learned.

    Squared error and L0 of the new units, no labels (Rajamanoharan et al. 2024, arXiv:2407.14435).
    """
    generator = torch.Generator().manual_seed(seed)
    spreads = [spread(kind) for kind in rows]

    def of_each(tokens: float, means: float) -> Tensor:
        return torch.tensor([tokens] * stage.rows[0] + [means] * stage.rows[1])

    width = of_each(BANDWIDTH, BANDWIDTH * float(spreads[1] / spreads[0]) ** 0.5)[:, None]
    weight, sparsity = of_each(*stage.error), of_each(*stage.sparsity)
    b_dec = weights["b_dec"].clone().requires_grad_()
    new = normalize(torch.randn(stage.n_units, len(b_dec), generator=generator), dim=1)
    w_dec = torch.cat([weights["W_dec"], new]).requires_grad_()
    w_enc = new.T.clone().requires_grad_()
    b_enc = (-(b_dec.detach() @ new.T)).requires_grad_()
    log_threshold = torch.full((stage.n_units,), BANDWIDTH).log().requires_grad_()
    optimiser = torch.optim.Adam([w_enc, w_dec, b_enc, b_dec, log_threshold], lr=SAE_RATE, betas=(0.0, 0.999))
    for step in range(stage.steps):
        draws = [torch.randint(len(kind), (n,), generator=generator) for kind, n in zip(rows, stage.rows, strict=True)]
        x = torch.cat([kind[chosen] for kind, chosen in zip(rows, draws, strict=True)])
        activations = active(x @ weights["W_enc"] + weights["b_enc"], weights["threshold"])
        code, l0 = JumpReLU.apply(relu(x @ w_enc + b_enc), log_threshold.exp(), width)
        error = (x - (torch.cat([activations, code], 1) @ w_dec + b_dec)).square().sum(1)
        optimiser.zero_grad()
        (weight * error + min(1.0, 3 * (step + 1) / stage.steps) * sparsity * l0).mean().backward()
        assert w_dec.grad is not None
        w_dec.grad -= (w_dec.grad * w_dec.detach()).sum(1, keepdim=True) * w_dec.detach()  # rows stay on the sphere
        rate = min(1.0, (step + 1) / WARM, (stage.steps - step) / (COOL * stage.steps))
        optimiser.param_groups[0]["lr"] = SAE_RATE * rate
        optimiser.step()
        with torch.no_grad():
            w_dec.copy_(normalize(w_dec, dim=1))
        if step % 100 == 0 or step == stage.steps - 1:
            parts = [values.detach().split(stage.rows) for values in (error, l0)]
            for kind, total, missed, number in zip(("tokens", "means"), spreads, *parts, strict=True):
                if len(missed):
                    shown = f"unexplained {missed.mean() / total:.3f} new L0 {number.mean():.1f}"
                    print(f"sae step {step}/{stage.steps} {kind} {shown}", flush=True)
    return {
        "W_enc": torch.cat([weights["W_enc"], w_enc.detach()], 1),
        "W_dec": w_dec.detach(),
        "b_enc": torch.cat([weights["b_enc"], b_enc.detach()]),
        "b_dec": b_dec.detach(),
        "threshold": torch.cat([weights["threshold"], log_threshold.detach().exp()]),
    }


def train_sae(rows: Tensor, means: Tensor, seed: int) -> dict[str, Tensor]:
    """A JumpReLU SAE of rows and means [n, d]: units for tokens first, then a few more for what means are made of.

    Means lie close together, and nearly all of them below thresholds that suit tokens. Trained on rows scaled to a mean
    square norm of 1; the scale is folded into the weights that are returned.
    """
    scale = rows.square().sum(1).mean().sqrt()
    scaled = rows / scale, means / scale
    d = rows.shape[1]
    weights = {
        "W_enc": torch.zeros(d, 0),
        "W_dec": torch.zeros(0, d),
        "b_enc": torch.zeros(0),
        "b_dec": scaled[0][:100_000].mean(0),
        "threshold": torch.zeros(0),
    }
    for stage in STAGES:
        weights = add_units(weights, scaled, stage, seed)
    return weights | {name: weights[name] * scale for name in ("b_enc", "b_dec", "threshold")}


@torch.inference_mode()
def average_l0(weights: dict[str, Tensor], rows: Tensor) -> float:
    """Mean number of active units of a row."""
    codes = (active(part @ weights["W_enc"] + weights["b_enc"], weights["threshold"]) for part in rows.split(10_000))
    return sum(int((code > 0).sum()) for code in codes) / len(rows)
