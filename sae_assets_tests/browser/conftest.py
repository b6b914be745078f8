"""One headless browser for the tests of a module, and the folder that their pictures are kept in."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error

from sae_assets_tests.browser import screenshots as ui

PICTURES = Path("out") / "screenshots"  # in the project's folder; git ignores it


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; where there is none, tests skip, or fail if ``SAE_ASSETS_REQUIRE_BROWSER=1`` says so."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(ui.chromium())
            reason = (
                f"no Chromium on this machine: looked for {', '.join(ui.NAMES)} and for Playwright's own; install one "
                "with `apt-get install chromium` or `python -m playwright install chromium`"
            )
        except Error as error:
            found, reason = None, f"Chromium does not start on this machine: {error.message}"
        if found is None:
            if os.environ.get("SAE_ASSETS_REQUIRE_BROWSER") == "1":
                pytest.fail(f"{reason} (SAE_ASSETS_REQUIRE_BROWSER=1 asks for it)")
            pytest.skip(reason)
        yield found


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path:
    """Where this module's pictures are kept: under ``SAE_ASSETS_SCREENSHOTS``, else ``out/screenshots``."""
    base = os.environ.get("SAE_ASSETS_SCREENSHOTS") or request.config.rootpath / PICTURES
    return Path(base) / request.path.stem
