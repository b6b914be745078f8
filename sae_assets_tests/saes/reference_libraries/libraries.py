"""Where the reference libraries are, and what marks the tests that ask them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import sae_assets

HERE = Path(__file__).parent
PYTHON = Path(sae_assets.__file__).parent.parent / ".venv-reference/bin/python"
Ask = Callable[..., None]
MARKS = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.xdist_group("reference-libraries"),
    pytest.mark.skipif(
        not PYTHON.exists() and not os.environ.get("SAE_ASSETS_REQUIRE_REFERENCE"),
        reason="the reference libraries are not installed; `make test-reference` installs them and runs this",
    ),
]
