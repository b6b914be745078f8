"""Matrix products that say which units can matter: fast, in low precision, with a bound of their error.

On the CPU operands are float32. On a GPU whose matrix units take bfloat16 they are rounded to it, and products are
summed in float32: float32 itself would run on the vector units, some 14 times slower. bfloat16 has float32's range, and
asking for it touches no switch of the process, as TF32 would. What rounding the operands did is measured, not assumed;
only the order and the rounding of sums are bounded for the worst case.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_assets.ops.process_state import ieee_products

UNIT_ROUNDOFF = 2.0**-24  # of float32
SMALLEST_NORMAL = 2.0**-126
# Sums in matrix units: terms are cut, not rounded, when they are aligned with the largest, once per term and once more
# per block of at least four (Fasi, Higham, Mikaitis and Pranesh 2021, "Numerical behavior of NVIDIA tensor cores").
CUT_SUMS = 2.5


def upper_float32(bound: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """float32 that is at least the float64 ``bound`` ≥ 0, and a normal number so that nothing flushes it to 0."""
    return (bound * (1 + 2.0**-20)).clamp(min=SMALLEST_NORMAL).float()


def exact_float32_product(x: Float[Tensor, "rows d"], weight: Float[Tensor, "d units"]) -> Float[Tensor, "rows units"]:
    """``x @ weight`` in IEEE float32, also where the process allows tf32 or bf16: error bounds count on it."""
    with ieee_products():
        return x @ weight


def takes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in matrix units and gives float32 sums, as torch 2.8 and later can ask."""
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        return False
    probe = torch.ones((16, 16), dtype=torch.bfloat16, device=device)
    try:
        return torch.mm(probe, probe, out_dtype=torch.float32).dtype == torch.float32
    except (TypeError, RuntimeError):
        return False


class Screen:
    """``x @ columns.T`` in low precision, and what is known of its error.

    With x̃ and w̃ the rounded operands, ``|x·w - screened| <= |x - x̃| |w| + |x̃| |w - w̃| + γ |x̃| |w̃|`` (Cauchy–Schwarz;
    Higham 2002, eq. 3.5, for any order of summation): at most ``stray * |w| + |x| * slope``.

    Args:
        columns: float32 [n_units, d_model], finite.
        n_places: of the result's columns, at least ``n_units``; products in places without a unit are 0.

    Attributes:
        slope: float64 [n_units].
    """

    def __init__(self, columns: Float[Tensor, "units d"], n_places: int):
        n_units, d = columns.shape
        self.dtype = torch.bfloat16 if takes_bfloat16(columns.device) else torch.float32
        rounded = columns.to(self.dtype)
        if not bool(torch.isfinite(rounded).all()):  # the largest floats round to infinity
            self.dtype, rounded = torch.float32, columns
        if n_places > n_units:
            rounded = torch.nn.functional.pad(rounded, (0, 0, 0, n_places - n_units))
        self.operand = rounded.T
        norms = torch.linalg.vector_norm(rounded[:n_units], dim=1, dtype=torch.float64)
        roundoff = d * UNIT_ROUNDOFF if self.dtype == torch.float32 else d * CUT_SUMS * 2 * UNIT_ROUNDOFF
        gamma = roundoff / (1 - roundoff)
        drift = torch.zeros_like(norms) if self.dtype == torch.float32 else _distance(columns, rounded[:n_units])
        self.slope = (1 + self.stray_limit) * (gamma * norms + drift)

    @property
    def stray_limit(self) -> float:
        """The most that rounding makes a row longer or takes from it, as a share of its norm."""
        return 2.0**-8 if self.dtype == torch.bfloat16 else 2.0**-23

    def product(
        self, centred: Float[Tensor, "rows d"], norm: Float[Tensor, "rows 1"]
    ) -> tuple[Float[Tensor, "rows places"], Float[Tensor, "rows 1"]]:
        """The screened products, float32, and how far rounding moved each row, float64.

        Args:
            centred: float64, rows; norm: their norms.
        """
        rounded = centred.to(self.dtype)
        if self.dtype == torch.float32:
            return exact_float32_product(rounded, self.operand), norm * (2 * UNIT_ROUNDOFF)
        return torch.mm(rounded, self.operand, out_dtype=torch.float32), _distance(centred, rounded)[:, None]


def _distance(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Norm of the difference of each row, float64, in blocks of rows."""
    return torch.cat(
        [
            torch.linalg.vector_norm(a.double() - b.double(), dim=1)
            for a, b in zip(x.split(4096), y.split(4096), strict=True)
        ]
    )
