"""Matrix products that say which units can matter: fast, in low precision, with a bound of their error.

On a CPU float32 is multiplied by whichever of torch's two libraries is faster there, which a short try finds out.
Operands are of 16 bits where the device multiplies those much faster: float16 on a GPU, where float32 would run on the
vector units, some 14 times slower, and bfloat16 on CPUs with instructions for it, which a short try finds out. Products
are summed in float32, and a GPU gives them so; a CPU rounds each sum to bfloat16 once more. float16 errs an eighth as
much as bfloat16 but has a small range: operands are scaled into it by powers of two. Neither touches a switch of the
process, as TF32 would. What rounding the operands did is measured, not assumed; only the order and the rounding of
sums, and of results, are bounded for the worst case.
"""

import time
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from sae_assets.ops.process_state import ieee_products

UNIT_ROUNDOFF = 2.0**-24  # of float32
SMALLEST_NORMAL = 2.0**-126
# Sums in matrix units: terms are cut, not rounded, when they are aligned with the largest, once per term and once more
# per block of at least four (Fasi, Higham, Mikaitis and Pranesh 2021, "Numerical behavior of NVIDIA tensor cores").
CUT_SUMS = 2.5
NARROW_ROUNDOFF = 2.0**-8  # of bfloat16
# Operands in float16 are at most 2^15 and a little more; smaller ones than 2^-45 are not lifted so far that the product
# of both scales would leave float32.
LARGEST_EXPONENT, LEAST_SCALE = 15, -60
EXPONENT, EXPONENT_OF_ONE = 52, 1023  # in float64: its place, and what 1 has there
# bfloat16 leaves more candidates to be computed again: on a CPU it is worth that from this many times as fast as
# float32, and from this many units.
WORTH = 1.4
TRIES = 15  # of a product whose time is taken
MANY_UNITS = 2**15
MATRIX_UNITS = 7, 0  # the first capability of a GPU with units for products of float16


def upper_float32(bound: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return float32 that is at least the float64 ``bound`` ≥ 0, and a normal number so that nothing flushes it to
    0."""
    return (bound * (1 + 2.0**-20)).clamp(min=SMALLEST_NORMAL).float()


def exact_float32_product(x: Float[Tensor, "rows d"], weight: Float[Tensor, "d units"]) -> Float[Tensor, "rows units"]:
    """``x @ weight`` in IEEE float32, also where the process allows tf32 or bf16: error bounds count on it."""
    with ieee_products():
        return x @ weight


def screening_product(x: Float[Tensor, "rows d"], columns: Float[Tensor, "units d"]) -> Float[Tensor, "rows units"]:
    """``x @ columns.T`` in IEEE float32, by oneDNN where that is faster; bounds are of sums in any order."""
    if x.device.type == "cpu" and is_onednn_faster() and errs_as_float32(x.shape[1], onednn_product):
        with ieee_products():
            return onednn_product(x, columns)
    return exact_float32_product(x, columns.T)


def onednn_product(x: Float[Tensor, "rows d"], columns: Float[Tensor, "units d"]) -> Float[Tensor, "rows units"]:
    """``x @ columns.T`` by oneDNN, which torch itself asks for lower precisions alone.

    Raises:
        AttributeError, RuntimeError: a torch without it.
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, columns, None, "none", [], "")
    return product


def operands(device: torch.device, n_units: int, d: int) -> torch.dtype:
    """Return what the device is to multiply; on a GPU float16, with sums given in float32, as torch 2.8 and later
    can."""
    if device.type == "cpu":
        narrow = n_units >= MANY_UNITS and _is_faster_on_the_cpu() and sums_in_float32(d)
        return torch.bfloat16 if narrow else torch.float32
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < MATRIX_UNITS:
        return torch.float32
    probe = torch.ones((16, 16), dtype=torch.float16, device=device)
    try:
        wide = torch.mm(probe, probe, out_dtype=torch.float32).dtype == torch.float32
    except (TypeError, RuntimeError):
        wide = False
    return torch.float16 if wide else torch.float32


def trial_operands() -> tuple[Tensor, Tensor]:
    """Return rows and columns of a product that is over before something else gets the processor."""
    rows, columns = (torch.ones((256, 1024), dtype=torch.float32, device="cpu") for _ in range(2))
    return rows, columns


def seconds_of(*products: Callable[[], Tensor]) -> list[float]:
    """Return each product's least time of some tries; they take turns, so that what runs beside disturbs them alike."""
    taken: list[list[float]] = [[] for _ in products]
    for _ in range(TRIES):
        for product, seconds in zip(products, taken, strict=True):
            start = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - start)
    return [min(seconds) for seconds in taken]


@cache
def _is_faster_on_the_cpu() -> bool:
    """Return whether bfloat16 is, with what torch has chosen for this processor; milliseconds, once."""
    rows, columns = trial_operands()
    narrow = rows.bfloat16(), columns.bfloat16()
    wide, half = seconds_of(lambda: screening_product(rows, columns), lambda: narrow[0] @ narrow[1].T)
    return wide > WORTH * half


@cache
def is_onednn_faster() -> bool:
    """Return whether oneDNN is, in float32, as on processors that MKL's authors do not make; milliseconds, once."""
    rows, columns = trial_operands()
    try:
        onednn, other = seconds_of(
            lambda: onednn_product(rows, columns), lambda: exact_float32_product(rows, columns.T)
        )
    except (AttributeError, RuntimeError):
        return False
    return onednn < other


@cache
def errs_as_float32(d: int, product: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Return whether a product of rows and columns computes in float32: an environment can let libraries take less.

    Parts of a sum of terms of size 1 are √d large: float32 moves them by some 2⁻²⁴ √d each, 10 bits by 2⁻¹¹.
    """
    generator = torch.Generator("cpu").manual_seed(d)
    rows, columns = (torch.randn((n, d), generator=generator, dtype=torch.float32, device="cpu") for n in (32, 256))
    exact = rows.double() @ columns.double().T
    with ieee_products():
        errors = [(product(rows[:n], columns).double() - exact[:n]).abs().max() for n in (1, 8, 32)]
    return bool(torch.stack(errors).max() <= 2.0**-14 * d**0.5)


@cache
def sums_in_float32(d: int, product: Callable[[Tensor, Tensor], Tensor] = torch.mm) -> bool:
    """Return whether a product of bfloat16 rounds no sum on the way: sums of some hundred come near 0, where that would
    show.

    Of terms of size 1 parts of a sum are √d large: bfloat16 moves them by some 2⁻⁹ of it, float32 by 2⁻²⁴ √d. Libraries
    may sum few rows in another way than many.
    """
    generator = torch.Generator("cpu").manual_seed(d)
    rows, columns = (
        torch.randn((n, d), generator=generator, dtype=torch.float32, device="cpu").bfloat16() for n in (32, 256)
    )
    exact = rows.double() @ columns.double().T
    for n in (1, 8, 32):
        computed = product(rows[:n], columns.T).double()
        allowed = 2.0**-14 * d**0.5 + _gamma(NARROW_ROUNDOFF) * computed.abs()
        if not bool(((computed - exact[:n]).abs() <= allowed).all()):
            return False
    return True


def _gamma(roundoff: float) -> float:
    return roundoff / (1 - roundoff)


class Screen:
    """``x @ columns.T`` in low precision, and what is known of its error.

    With x̃ and w̃ the rounded operands, ``|x·w - sum| <= |x - x̃| |w| + |x̃| |w - w̃| + γ |x̃| |w̃|`` (Cauchy–Schwarz; Higham
    2002, eq. 3.5, for any order of summation): at most ``stray * |w| + (|x| + stray) * slope`` for a row that rounding
    moved by ``stray``. The sum lies within ``share * |screened|`` of what is screened.

    Args:
        columns: float32 [n_units, d_model], finite.
        n_places: of the result's columns, at least ``n_units``; products in places without a unit are 0.

    Attributes:
        slope: float64 [n_units].
        share: of a screened value, by which it may lie beside the sum that it was rounded from; 0 for float32.
        bytes: held at once of each product.
        held_bytes: of directions beside the columns themselves.
    """

    def __init__(self, columns: Float[Tensor, "units d"], n_places: int):
        n_units, d = columns.shape
        self.dtype = operands(columns.device, n_units, d)
        rounded, self.scale = self._rounded(columns)
        if not bool(torch.isfinite(rounded).all()):  # the largest floats round to infinity
            self.dtype, rounded = torch.float32, columns
        if n_places > n_units:
            rounded = torch.nn.functional.pad(rounded, (0, 0, 0, n_places - n_units))
        self.operand = rounded.T
        self.held_bytes = 0 if rounded.data_ptr() == columns.data_ptr() else rounded.nbytes
        norms = torch.linalg.vector_norm(rounded[:n_units], dim=1, dtype=torch.float64) * self.scale
        gamma = _gamma(d * UNIT_ROUNDOFF * (1 if self.dtype == torch.float32 else CUT_SUMS * 2))
        self.share = _gamma(NARROW_ROUNDOFF) if self.rounds_results(columns.device) else 0.0
        self.bytes = 6 if self.share else 4
        self.slope = gamma * norms
        if self.dtype != torch.float32:
            self.slope += _distance(columns, rounded[:n_units], self.scale)

    def rounds_results(self, device: torch.device) -> bool:
        """Return whether products come as bfloat16: torch asks for float32 on a GPU alone."""
        return self.dtype == torch.bfloat16 and device.type == "cpu"

    def product(
        self, centred: Float[Tensor, "rows d"], norm: Float[Tensor, "rows 1"]
    ) -> tuple[Float[Tensor, "rows places"], Float[Tensor, "rows 1"], Float[Tensor, ""]]:
        """Return the screened products, float32; how far rounding moved each row, float64; what the products are times.

        Products that are not yet multiplied by that, a power of two as float32, save a pass over all of them.

        Args:
            centred: float64, rows; norm: their norms.
        """
        rounded, scale = self._rounded(centred)
        if self.dtype == torch.float32:
            return screening_product(rounded, self.operand.T), norm * (2 * UNIT_ROUNDOFF), scale.float()
        stray = _distance(centred, rounded, scale)[:, None]
        scale = (scale * self.scale).float()
        if self.share:
            return (rounded @ self.operand).float(), stray, scale
        return torch.mm(rounded, self.operand, out_dtype=torch.float32), stray, scale

    def _rounded(self, operand: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, ""]]:
        """Return an operand in the screen's precision, and the power of two, float64, that it is to be multiplied
        by."""
        if self.dtype != torch.float16 or not operand.numel():
            return operand.to(self.dtype), torch.ones((), dtype=torch.float64, device=operand.device)
        low, high = operand.aminmax()
        exponent = torch.maximum(high, -low).double().frexp().exponent.long() - LARGEST_EXPONENT
        scale = (exponent.clamp(min=LEAST_SCALE) + EXPONENT_OF_ONE << EXPONENT).view(torch.float64)
        rounded = torch.empty_like(operand, dtype=self.dtype, memory_format=torch.contiguous_format)
        return torch.mul(operand, 1 / scale, out=rounded), scale


def _distance(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], scale: Float[Tensor, ""]) -> Float[Tensor, " n"]:
    """Return norm of each row of x less ``scale`` times that of y, float64, in blocks of rows."""
    return torch.cat(
        [
            torch.linalg.vector_norm(a.double() - b.double() * scale, dim=1)
            for a, b in zip(x.split(4096), y.split(4096), strict=True)
        ]
    )
