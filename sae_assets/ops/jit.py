"""How loops are compiled: by Numba, where it is installed (``ops.compiled`` says when they are used).

Compiled code is kept beside the file of the loop or in the user's cache, and made anew when that file changes: so a
loop calls none of another file. Whole numbers are unsigned where they are positions: Numba would test each for
being negative, and count from the end.
"""

from typing import Any

try:
    import numba
except ImportError:  # not installed, or not of this NumPy: interpreted they are right, and of no use but to tests
    COMPILED = False

    def loop(function: Any) -> Any:
        return function

    any_order = loop

    def has(feature: str) -> bool:
        return False

else:
    COMPILED = not numba.config.DISABLE_JIT
    loop = numba.njit(cache=True, nogil=True)
    any_order = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})  # of additions

    def has(feature: str) -> bool:
        """Whether compiled loops may use such instructions, as LLVM calls them (``avx2``)."""
        features: str | None = numba.config.CPU_FEATURES  # what the environment holds it to
        if features is None:
            features = numba.core.codegen.get_host_cpu_features()
        return COMPILED and f"+{feature}" in features.split(",")
