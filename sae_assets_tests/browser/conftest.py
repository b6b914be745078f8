"""One headless browser for the tests of a module, and the folder that their pictures are kept in."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from sae_assets_tests.browser import screenshots as ui

PICTURES = Path("out") / "screenshots"  # in the project's folder; git ignores it


def without_browser(reason: str) -> NoReturn:
    """Skip, or fail if ``SAE_ASSETS_REQUIRE_BROWSER=1`` says so."""
    if os.environ.get("SAE_ASSETS_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason} (SAE_ASSETS_REQUIRE_BROWSER=1 asks for it)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium_is_there() -> None:
    """Asked before anything is computed that only a browser looks at."""
    with sync_playwright() as playwright:
        found = ui.find_chromium(playwright)
    if found is None:
        without_browser(
            f"no Chromium on this machine: looked for {', '.join(ui.NAMES)} and for Playwright's own; install one "
            "with `apt-get install chromium` or `python -m playwright install chromium`"
        )


@pytest.fixture(scope="module")
def browser(chromium_is_there: None) -> Iterator[Browser]:
    """Chromium; where none can be had, tests skip or fail."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(ui.chromium())
        except Error as error:
            without_browser(f"Chromium does not start on this machine: {error.message}")
        assert found is not None
        yield found


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path:
    """Where this module's pictures are kept: under ``SAE_ASSETS_SCREENSHOTS``, else ``out/screenshots``."""
    base = os.environ.get("SAE_ASSETS_SCREENSHOTS") or request.config.rootpath / PICTURES
    return Path(base) / request.path.stem
