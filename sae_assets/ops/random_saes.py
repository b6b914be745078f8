"""Random SAEs as controls: the same encoder with random directions, at the same sparsity (numerics 12).

Frozen SAEs of random directions nearly match trained ones on common measures (arXiv:2602.14111): what a unit reaches is
to be held against what the best of as many random directions reaches. What becomes of their codes is in
``control_inputs``.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.jumprelu import JumpReluEncoder
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.screens import exact_float32_product
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder

UNITS_AT_ONCE = 512  # fixed, so that thresholds depend on the rows alone
MARGIN = 1e-4  # of the values, beyond the largest and the smallest, for units that never or always fire


@plain_arithmetic()
def random_encoder(encoder: Encoder, seed: int) -> Encoder:
    """Return the encoder with each unit's direction replaced by a Gaussian one of the same norm.

    Shift, bias and, of a TopK encoder, k stay. Of others the thresholds are to be matched (:func:`match_density`): the
    trained ones mean nothing for other directions.

    Args:
        seed: of the CPU's generator, which draws float32 numbers, so that every device has the same directions.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    shape = (encoder.n_units, encoder.d_model)
    directions = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    norms = torch.linalg.vector_norm(encoder.columns, dim=1, dtype=torch.float64).cpu()
    lengths = torch.linalg.vector_norm(directions, dim=1, dtype=torch.float64)
    directions *= (norms / lengths).float()[:, None]
    shared = {
        "shift": encoder.shift.float(), "bias": encoder.bias.float(), "device": encoder.columns.device,
        "memory_budget": encoder.memory_budget,
    }  # fmt: skip
    if isinstance(encoder, TopKEncoder):
        return TopKEncoder(directions.T, encoder.k, **shared)
    assert isinstance(encoder, JumpReluEncoder)  # ReLU is one, too
    return JumpReluEncoder(directions.T, encoder.jump_threshold, **shared)


@plain_arithmetic()
def match_density(random: Encoder, rows_of_unit: Int[Tensor, " units"], x: Float[Tensor, "rows d"]) -> JumpReluEncoder:
    """Return the random encoder with thresholds by which each unit lies above its own on as many rows as the trained
    unit.

    A threshold lies midway between the last value above it and the first below, where rounding decides nothing. What is
    not above 0 is never active: a unit whose threshold would be negative has its bias raised, so that it is 0. No more
    than a block of units is held for all rows.

    Args:
        rows_of_unit: of the trained SAE, rows of ``x`` on which each unit is active, int64 [n_units].
        x: float32 [n_rows, d_model], at least one row.
    """
    assert isinstance(random, JumpReluEncoder)
    device = random.columns.device
    centred = (x.to(device, torch.float64) - random.shift).float()
    counts = rows_of_unit.to(device)
    thresholds = []
    for start in range(0, random.n_units, UNITS_AT_ONCE):
        units = slice(start, start + UNITS_AT_ONCE)
        values = exact_float32_product(random.columns[units], centred.T)
        values += random.bias[units].float()[:, None]
        above = counts[units][:, None]
        largest = values.topk(min(len(x), int(above.max()) + 1), dim=1).values
        smallest = values.amin(1, keepdim=True)
        beyond = MARGIN * (largest[:, :1].abs() + smallest.abs())
        bounds = torch.cat([largest[:, :1] + beyond, largest, smallest - beyond], dim=1)
        thresholds.append((bounds.gather(1, above) / 2 + bounds.gather(1, above + 1) / 2)[:, 0])
    threshold = torch.cat(thresholds)
    bias = random.bias.float() + (-threshold).clamp(min=0)
    return JumpReluEncoder(
        random.columns.T, threshold.clamp(min=0), shift=random.shift.float(), bias=bias, device=device,
        memory_budget=random.memory_budget,
    )  # fmt: skip
