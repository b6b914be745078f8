"""Train the packaged SAE: a TopK SAE in the CLIP-Scope format on rows of a transformer's residual stream.

What lives here: the SAE alone, from rows that are given. No label and no mask is seen; all that is known of a row is
which image it comes from. The transformer and the files are made in ``tools.demo_models.train``.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sae_assets.ops.sparse_activations import TopKEncoder

N_UNITS, K = 1024, 16
N_SHARED, N_GENERAL = 6, 64  # units whose codes are averaged over an image's rows, and units of the first stage
SHARED_L1, L1 = 0.10, 0.02
GENERAL_DENSITY, SPECIAL_DENSITY = 0.048, 0.01  # largest share of rows on which a unit of each stage may fire
BATCH, SPECIAL_K, SPECIAL_STEPS = 1024, 8, 300
DEAD_AFTER = 200_000  # rows
SAMPLE_EVERY = 5  # rows that quantiles and least squares see: every fifth, and an image has 257
SEED = 7


class Rows:
    """Rows of equally many tokens per image, scaled to unit total variance, with draws of the salient ones.

    A row is salient by its squared distance from the median row: most of the floor looks alike.
    """

    def __init__(self, rows: Tensor, tokens: int):
        self.scale = rows.var(0).sum().sqrt()
        self.mean = rows.mean(0)
        self.x = (rows - self.mean) / self.scale
        self.median = self.x[:40_000].median(0).values
        self.tokens = tokens
        salience = (self.x - self.median).square().sum(1).double()
        self._upto = torch.cat([torch.zeros(1, dtype=torch.float64), salience.cumsum(0)])

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Places of n rows: half uniform, then a quarter salient, then for each of these a salient one of its image."""
        quarter = n // 4
        anywhere = torch.randint(len(self.x), (n - 2 * quarter,), generator=generator)
        first, second = torch.rand(2, quarter, generator=generator, dtype=torch.float64)
        salient = self._find(first * self._upto[-1])
        image = salient // self.tokens * self.tokens
        start, stop = self._upto[image], self._upto[image + self.tokens]
        return torch.cat([anywhere, salient, self._find(start + second * (stop - start))])

    def _find(self, mass: Tensor) -> Tensor:
        return (torch.searchsorted(self._upto, mass, right=True) - 1).clamp(0, len(self.x) - 1)


def top(pre: Tensor, k: int) -> Tensor:
    """The k largest of each row where positive, 0 elsewhere."""
    largest = pre.topk(min(k, pre.shape[1]), dim=1)
    return torch.zeros_like(pre).scatter(1, largest.indices, largest.values.relu())


def fit_units(
    rows: Rows, rest: Tensor | None = None, *, n_units: int, k: int, n_shared: int, l1: tuple[float, float],
    steps: int, rate: float, seed: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Units that rebuild the rows, or ``rest`` from the rows: encoder [d, n] and bias [n], for scaled rows.

    A TopK SAE (Gao et al. 2024, arXiv:2406.04093) with a bias, an L1 term and the auxiliary loss that revives dead
    units. The error is also taken of the first ``n_shared`` units alone (Matryoshka SAE, Bussmann et al. 2025,
    arXiv:2503.17547). Their codes are averaged over two salient rows of one image before decoding, so they can only
    say what an image's rows have in common.

    Args:
        l1: weight of the L1 term for the shared units, and for all others.
    """
    generator = torch.Generator().manual_seed(seed)
    target = rows.x if rest is None else rest
    origin = rows.median if rest is None else torch.zeros_like(rows.median)
    dec = normalize(torch.randn(n_units, target.shape[1], generator=generator), dim=1)
    enc = dec.T.clone().requires_grad_()
    dec.requires_grad_()
    bias = torch.zeros(n_units, requires_grad=True)
    shift = rows.median.clone().requires_grad_()
    optimiser = torch.optim.Adam([enc, dec, bias, shift], lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min(1, (s + 1) / 50, 3 * (1 - s / steps)))
    silent, quarter = torch.zeros(n_units), BATCH // 4
    ends = (n_shared, n_units) if n_shared else (n_units,)
    for step in range(steps):
        batch = rows.draw(BATCH, generator)
        x, goal = rows.x[batch], target[batch]
        pre = (x - shift) @ enc + bias
        code = top(pre, k)
        pair = code[-2 * quarter :, :n_shared].unflatten(0, (2, quarter)).mean(0)
        shared = torch.cat([torch.cat([code[: -2 * quarter, :n_shared], pair, pair]), code[:, n_shared:]], 1)
        variance = (goal - origin).square().sum(1).mean()
        loss, first = torch.zeros(()), 0
        rebuilt = shift if rest is None else origin
        for last in ends:
            rebuilt = rebuilt + shared[:, first:last] @ dec[first:last]
            error, first = goal - rebuilt, last
            loss = loss + error.square().sum(1).mean() / variance / len(ends)
        silent = torch.where((code > 0).any(0), 0, silent + BATCH)
        dead = silent > DEAD_AFTER
        auxiliary = torch.zeros(())
        if dead.any():
            revived = top(pre.masked_fill(~dead, -torch.inf), min(64, int(dead.sum())))
            auxiliary = (error.detach() - revived @ dec).square().sum(1).mean() / variance
        mass = l1[0] * code[:, :n_shared].sum(1).mean() + l1[1] * code[:, n_shared:].sum(1).mean()
        shrink = min(1, step / (0.3 * steps)) * mass / variance.sqrt()
        optimiser.zero_grad()
        (loss + auxiliary / 32 + shrink).backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            dec.copy_(normalize(dec, dim=1))
        if step % 200 == 0 or step == steps - 1:
            print(f"sae step {step}/{steps} unexplained {loss:.4f} dead {int(dead.sum())}", flush=True)
    enc = enc.detach()
    return enc, bias.detach() - shift.detach() @ enc


def constant_direction(rows: Tensor) -> Tensor:
    """The direction v of the residual stream that is most nearly the same on every row, with mean x·v = 1."""
    mean = rows.mean(0).double()
    inverse = torch.linalg.pinv(torch.cov(rows.T.double()))
    return (inverse @ mean / (mean @ inverse @ mean)).float()


def cap_density(rows: Tensor, constant: Tensor, enc: Tensor, bias: Tensor, density: float) -> Tensor:
    """``bias`` lowered so that no unit of ``rows @ enc + (rows @ constant) bias`` fires on a larger share of the rows.

    A unit fires weakly on rows that it does not describe. Bounding a unit's density over rows is the lifetime sparsity
    of winner-take-all autoencoders (Makhzani and Frey 2015, arXiv:1409.2752).
    """
    sample = rows[::SAMPLE_EVERY]
    per_constant = (sample @ enc) / (sample @ constant)[:, None]
    return torch.minimum(bias, -per_constant.topk(int(density * len(sample)) + 1, dim=0).values[-1])


def refit_decoder(code: Tensor, target: Tensor) -> Tensor:
    """Least squares with a small ridge: the decoder that fits thresholded codes."""
    return torch.linalg.solve(code.T @ code + torch.eye(code.shape[1]) * 1e-3, code.T @ target)


def fold_bias(rows: Tensor, constant: Tensor, enc: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Weights without a bias for the encoder ``rows @ enc + (rows @ constant) bias``, and a decoder for its codes.

    ``constant`` is nearly the same on every row, so adding ``bias_u constant`` to ``enc_u`` is a bias in a format that
    has none. For that, ``pre_b`` must not remove the constant part, and one unit that always fires carries it to the
    decoder.
    """
    mean, sample = rows.mean(0), rows[::SAMPLE_EVERY]
    pre_b = mean - constant / constant.square().sum()
    enc = enc + constant[:, None] * (bias + pre_b @ enc)
    before = (sample - pre_b) @ enc
    enc[:, int(before.amax(0).argmin())] = constant * 2 * before.max()  # in place of the unit that says least
    codes = TopKEncoder(enc, K, shift=pre_b).encode(sample)
    code = torch.zeros(len(sample), len(bias))
    code[torch.repeat_interleave(torch.arange(len(sample)), codes.row_offsets.diff()), codes.unit_ids.long()] = (
        codes.values
    )
    dec = refit_decoder(code, sample - pre_b)
    unexplained = (sample - pre_b - code @ dec).square().sum() / (sample - mean).square().sum()
    print(f"sae: unexplained {unexplained:.4f}, L0 {len(codes.values) / len(sample):.1f}", flush=True)
    return {"pre_b": pre_b, "enc": enc.contiguous(), "dec": dec.contiguous()}


def train_sae(rows: Tensor, tokens: int, *, steps: int, seed: int) -> dict[str, Tensor]:
    """General units first, special ones on what these leave unexplained, then both as one SAE.

    Args:
        rows: float32 [n_images * tokens, d], all rows of an image together.
    """
    data, constant = Rows(rows, tokens), constant_direction(rows)
    enc, bias = fit_units(
        data, n_units=N_GENERAL, k=K, n_shared=N_SHARED, l1=(SHARED_L1, L1), steps=steps, rate=3e-3, seed=seed
    )
    with torch.no_grad():
        # Back to rows as they come: scaled pre-activations times the scale.
        bias = cap_density(rows, constant, enc, data.scale * bias - data.mean @ enc, GENERAL_DENSITY)
        code = (rows @ enc + (rows @ constant)[:, None] * bias).relu() / data.scale
        code = torch.cat([code, torch.ones(len(code), 1)], 1)
        rest = data.x - code @ refit_decoder(code, data.x)
        del code
    further, more_bias = fit_units(
        data, rest, n_units=N_UNITS - N_GENERAL, k=SPECIAL_K, n_shared=0, l1=(0.0, L1), steps=SPECIAL_STEPS, rate=1e-3,
        seed=seed,
    )  # fmt: skip
    with torch.no_grad():
        more_bias = cap_density(rows, constant, further, data.scale * more_bias - data.mean @ further, SPECIAL_DENSITY)
        return fold_bias(rows, constant, torch.cat([enc, further], 1), torch.cat([bias, more_bias]))
