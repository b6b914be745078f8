"""What tests of compiled loops need: Numba, which is an extra."""

import os

import pytest

from sae_assets.ops import jit


def expect_compiled() -> None:
    """Skip where no loop is compiled, or fail if ``SAE_ASSETS_REQUIRE_NUMBA=1`` says so."""
    if jit.COMPILED:
        return
    reason = "Numba is not installed, or NUMBA_DISABLE_JIT is set: no loop is compiled"
    if os.environ.get("SAE_ASSETS_REQUIRE_NUMBA") == "1":
        pytest.fail(f"{reason} (SAE_ASSETS_REQUIRE_NUMBA=1 asks for it)")
    pytest.skip(reason)
