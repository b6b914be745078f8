"""Numba compiles loops where it is installed (``ops.compiled`` says when they are used).

Compiled code is kept beside the file of the loop or in the user's cache, and made anew when that file changes or one of
``SHARED``: a loop takes numbers and functions from no other. Whole numbers are unsigned where they are positions: Numba
would test each for being negative, and count from the end.
"""

import hashlib
from pathlib import Path
from typing import Any

SHARED = "jit", "segments", "byte_products", "byte_loops", "streams"  # modules beside this one that loops are made with

try:
    import numba
except ImportError:  # not installed, or not of this NumPy: interpreted they are right, and of no use but to tests
    COMPILED = False
else:
    COMPILED = not numba.config.DISABLE_JIT


def loop(function: Any, **options: Any) -> Any:
    """Return the function as Numba compiles it, with options of ``numba.njit``; as it is without Numba."""
    if not COMPILED:
        return function
    compiled = numba.njit(nogil=True, **options)(function)
    try:
        compiled._cache = _kept(function)
    except AttributeError:  # another version of Numba: what is kept then is as old as the loop's own file
        compiled.enable_caching()
    return compiled


def any_order(function: Any) -> Any:
    """Return :func:`loop`, of one whose additions may be made in any order."""
    return loop(function, fastmath={"reassoc", "contract"})


def has(feature: str) -> bool:
    """Return whether compiled loops may use such instructions, as LLVM calls them (``avx2``)."""
    if not COMPILED:
        return False
    features: str | None = numba.config.CPU_FEATURES  # what the environment holds it to
    if features is None:
        features = numba.core.codegen.get_host_cpu_features()
    return f"+{feature}" in features.split(",")


def _kept(function: Any) -> Any:
    """Return where compiled code is kept: Numba itself asks only whether the function's own file is the same."""
    code = numba.core.caching.FunctionCache(function)
    file = code._cache_file
    file._source_stamp = file._source_stamp, _stamp()
    return code


def _stamp() -> str:
    """Return what tells the modules of ``SHARED`` as they are from others."""
    files = ((Path(__file__).parent / f"{name}.py").read_bytes() for name in SHARED)
    return hashlib.sha256(b"".join(files)).hexdigest()
