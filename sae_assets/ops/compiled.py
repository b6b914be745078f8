"""Compiled loops take the place of torch's operations where work is large: the results are the same bits.

On the CPU, where Numba is installed (``pip install sae-assets[fast]``), for work that is worth loading it: that takes
about half a second, once per process.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

FIRST = 2**23  # steps from which on loading Numba pays
FURTHER = 2**16  # once it is loaded
GRAIN = 2**20  # terms of products for which one more thread pays


@dataclass(frozen=True)
class Loops:
    """Modules of loops, each of which gives what the torch code beside its call gives."""

    encoding: Any
    values: Any
    detection: Any
    search: Any
    sieve: Any


def loops_for(steps: int, device: torch.device | str = "cpu") -> Loops | None:
    """Return the compiled loops, or None where torch's operations are to be used.

    Args:
        steps: values, thresholds or whatever else is gone through one by one.
    """
    if torch.device(device).type != "cpu" or steps < (FURTHER if _load.cache_info().currsize else FIRST):
        return None
    return _load()


@functools.cache
def _load() -> Loops | None:
    try:  # with Numba, which most processes never need
        from sae_assets.ops import (  # noqa: PLC0415
            detection_kernels,
            encoding_kernels,
            jit,
            search_kernels,
            sieve_kernels,
            value_kernels,
        )
    except RuntimeError:  # Numba finds no folder to keep compiled code in, and would make it anew in every process
        return None
    modules = encoding_kernels, value_kernels, detection_kernels, search_kernels, sieve_kernels
    return Loops(*modules) if jit.COMPILED else None


def in_threads(work: "Callable[..., None]", terms: int, *columns: torch.Tensor) -> None:
    """Call ``work`` with a share of the columns' rows each in as many threads as torch would take for so many terms."""
    n_threads = max(1, min(torch.get_num_threads(), terms // GRAIN))
    if n_threads == 1:
        work(*columns)
        return
    shares = zip(*(column.tensor_split(n_threads) for column in columns), strict=True)
    with ThreadPoolExecutor(n_threads, "loops") as threads:
        for done in [threads.submit(work, *share) for share in shares]:
            done.result()
