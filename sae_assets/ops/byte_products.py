"""Products of bytes by oneDNN, added up exactly: some four times as fast as float32's where a processor has
instructions for them (VNNI), and up to twice elsewhere, with weights of seven bits.

Whether this processor adds them up exactly is tried, and by the clock whether that is faster, once per process.
"""

import time
from functools import cache

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from sae_assets.ops.screens import UNIT_ROUNDOFF, screening_product, seconds_of, trial_operands

ZERO = 128  # what 0 of a row is as a byte, which oneDNN takes without a sign
WEIGHTS = 127, 63  # the largest codes of weights; without VNNI sums of two products have 16 bits
# Times as fast as float32, from which on a screen of bytes can pay: of 1.6 times, encoding gained a ninth
# (`benchmarks/bench_encoding.py`, 3,584 to 16,384, held to AVX2).
WORTH = 1.25
SLOW = 0.02  # seconds of a small product that only a library without a kernel for it takes
ROWS = 256  # that products are laid out for
AT_ONCE = 64  # bytes that compiled loops take at once: theirs are some times as many
# |sum of bytes, scaled and lifted, - what it should be| <= SUMMED √d |w̃| scale of a row: four roundings in float32, of
# which each is of at most (255 + ZERO) √d |w̃|, twice that to spare.
SUMMED = 2.0**-21 * (255 + ZERO)


def packed_weights(codes: Int8[Tensor, "units d"]) -> Tensor:
    """Return int8 weights in the order that :func:`byte_product` takes them in."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(codes, [ROWS, codes.shape[1]])
    return packed


def byte_product(
    codes: UInt8[Tensor, "rows d"], packed: Tensor, scales: Float[Tensor, " units"], lift: Float[Tensor, " units"]
) -> Float[Tensor, "rows units"]:
    """``codes @ weights.T * scales + lift``, float32.

    Args:
        codes: uint8; packed: of int8 weights [units, d], :func:`packed_weights`.
        scales, lift: float32.

    Raises:
        AttributeError, RuntimeError: a torch without it.
    """
    zeros = torch.zeros(len(scales), dtype=torch.int32, device="cpu")
    product: Tensor = torch.ops.onednn.qlinear_pointwise(
        codes, 1.0, 0, packed, scales, zeros, lift, 1.0, 0, torch.float32, "none", [], ""
    )
    return product


@cache
def largest_code(d: int) -> int | None:
    """Return the largest code of weights whose products this processor adds up exactly; None: of none, or not fast."""
    if d * 255 * max(WEIGHTS) >= 2**31:
        return None
    try:
        if not _is_faster():
            return None
        return next((most for most in WEIGHTS if adds_up(d, most)), None)
    except (AttributeError, RuntimeError):
        return None


def adds_up(d: int, most: int) -> bool:
    """Return whether products of bytes with weights up to ``most`` are added up exactly, the largest sums included."""
    generator = torch.Generator("cpu").manual_seed(d)
    signs = torch.randint(2, (256, d), generator=generator, device="cpu") * 2 - 1
    signs[:2] = torch.tensor([[1], [-1]], dtype=torch.int64, device="cpu")
    weights = (signs * most).to(torch.int8)
    codes = torch.randint(256, (ROWS, d), generator=generator, device="cpu").to(torch.uint8)
    codes[::8] = 255
    exact = codes.double() @ weights.double().T
    one, nothing = (torch.full((256,), value, dtype=torch.float32, device="cpu") for value in (1.0, 0.0))
    packed = packed_weights(weights)
    errors = ((byte_product(codes[:n], packed, one, nothing).double() - exact[:n]).abs() for n in (1, 8, 64, ROWS))
    return all(bool((error <= 2 * UNIT_ROUNDOFF * exact[: len(error)].abs()).all()) for error in errors)


@cache
def _is_faster() -> bool:
    """Return whether bytes are, with what torch has chosen for this processor; milliseconds, once."""
    rows, columns = trial_operands()
    codes, packed, scales = rows.to(torch.uint8), packed_weights(columns.to(torch.int8)), columns[:, 0].contiguous()
    taken = []
    for _ in range(3):  # the first makes the kernel, and something else can have the processor
        start = time.perf_counter()
        byte_product(codes[:1], packed, scales, scales)
        taken.append(time.perf_counter() - start)
    if min(taken) > SLOW:
        return False
    narrow, wide = seconds_of(
        lambda: byte_product(codes, packed, scales, scales), lambda: screening_product(rows, columns)
    )
    return wide > WORTH * narrow
