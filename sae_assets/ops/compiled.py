"""When loops that are compiled (``ops.kernels``) take the place of operations of torch: the results are the same bits.

On the CPU, where Numba is installed (``pip install sae-assets[fast]``), for work that is worth loading it: that takes
about half a second, once per process.
"""

import functools
from types import ModuleType

import torch

FIRST = 2**23  # steps from which on loading Numba pays
FURTHER = 2**16  # once it is loaded


def loops_for(steps: int, device: torch.device | str = "cpu") -> ModuleType | None:
    """The module of compiled loops, or None where torch's operations are to be used.

    Args:
        steps: values, thresholds or whatever else is gone through one by one.
    """
    if torch.device(device).type != "cpu" or steps < (FURTHER if _load.cache_info().currsize else FIRST):
        return None
    return _load()


@functools.cache
def _load() -> ModuleType | None:
    try:
        from sae_assets.ops import kernels as module  # noqa: PLC0415 - with Numba, which most processes never need
    except RuntimeError:  # Numba finds no folder to keep compiled code in, and would make it anew in every process
        return None
    return module if module.COMPILED else None
