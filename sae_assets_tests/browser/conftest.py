"""One headless browser for all tests that need one."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from sae_assets_tests.browser import screenshots as ui


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; where there is none, tests skip, or fail if ``SAE_ASSETS_REQUIRE_BROWSER=1`` says so."""
    with ui.chromium() as found:
        if found is None:
            reason = f"no Chromium on this machine (looked for {', '.join(ui.NAMES)} and Playwright's own)"
            if os.environ.get("SAE_ASSETS_REQUIRE_BROWSER") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        yield found
