"""Values that are stored in 16 bits: rounded to the significant bits of float16, over the whole range of float32.

A column of them stays float32, which everybody reads; the bits that are always 0 take no room once it is compressed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_assets.artifacts.rows import FLOAT16, FLOAT16_CUT
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import pack_descending
from sae_assets.ops.sparse_code import SparseCode

# Bit patterns of the positive numbers that are left, at both ends.
LEAST, MOST = 1 << FLOAT16_CUT, 0x7F7FFFFF >> FLOAT16_CUT << FLOAT16_CUT


def to_significant(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return float32 rounded to 11 significant bits, ties to even; beyond the largest float32 it is infinity."""
    bits = values.view(torch.int32)
    half = (1 << (FLOAT16_CUT - 1)) - 1
    even = (bits >> FLOAT16_CUT) & 1
    return ((bits + half + even) >> FLOAT16_CUT << FLOAT16_CUT).view(torch.float32)


@plain_arithmetic()
def rounded(code: SparseCode, stored_values: str) -> SparseCode:
    """Return a code with its values as they are to be stored, and rows in order again, as equal values go by unit.

    What is active stays so: no value becomes 0 or infinite. L0 and masses are those before rounding.

    Args:
        stored_values: ``float32``, which changes nothing, or ``float16``.
    """
    if stored_values != FLOAT16:
        return code
    values = to_significant(code.values).view(torch.int32).clamp(LEAST, MOST).view(torch.float32)
    lengths = code.row_offsets.diff()
    row = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
    by_unit = code.unit_ids.sort(stable=True).indices
    order = by_unit[pack_descending(row[by_unit], values[by_unit]).sort(stable=True).indices]
    return SparseCode(
        row_offsets=code.row_offsets,
        unit_ids=code.unit_ids[order],
        values=values[order],
        l0=code.l0,
        row_mass=code.row_mass,
        row_dropped=code.row_dropped,
    )
