"""Dagster's UI on a finished home, in headless Chromium: what a person would look at first is there.

``SAE_ASSETS_TEST_HOME`` names a home that is finished already. Pictures are kept in ``out/screenshots/test_ui``, or
under the folder that ``SAE_ASSETS_SCREENSHOTS`` names; with ``SAE_ASSETS_REQUIRE_BROWSER=1`` a machine without Chromium
fails instead of skipping.
"""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sae_assets.pipeline.stages import ORDER, STAGES
from sae_assets_tests.browser import screenshots as ui
from sae_assets_tests.browser.server import webserver

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]
PARTITION = f"{ui.CHUNK}|{ui.MODEL}"


@pytest.fixture(scope="module")
def finished_home(chromium_is_there: None, request: pytest.FixtureRequest) -> Path:
    """A home in which the demo has run: the one that was named, or that of all tests.

    Made before a browser starts: the browser's event loop runs in this process, and a run would start another one.
    """
    if given := os.environ.get("SAE_ASSETS_TEST_HOME"):
        return Path(given).expanduser().absolute()
    home: Path = request.getfixturevalue("demo")["home"]
    return home


def test_a_person_sees_lineage_figures_and_pictures_of_the_demo(
    finished_home: Path, browser: Browser, pictures: Path
) -> None:
    with webserver(finished_home) as server:
        with ui.window(browser, server.url, stored=ui.IN_FULL) as shown:
            ui.open_lineage(shown, ui.GROUP_GRAPH)
            graph = shown.page.locator("svg foreignObject")
            for stage in [name for name in ORDER if STAGES[name].has_token_kind]:
                assert graph.filter(has_text=stage).count() >= 1, f"{stage} is not in the lineage"
            shown.shoot(pictures / "lineage.png")
            shown.assert_whole()

            shown.page.set_viewport_size(ui.USUAL_SIZE)
            table = ui.open_partition(shown, "sparse_activations", PARTITION)
            assert float(ui.metadata_value(table, "compression_ratio").replace(",", "")) > 1
            assert int(ui.metadata_value(table, "rows").replace(",", "")) > 0
            shown.shoot(pictures / "partition.png")

            ui.open_plots(shown, "sparse_activations")
            shown.shoot(pictures / "compression.png")

            ui.open_checks(shown, "sparse_activations", "file_reads_back")
            assert shown.page.get_by_text("Passed", exact=True).count() >= 1
            shown.shoot(pictures / "checks.png")

            for stage in ("best_pairs", "unit_mapping"):
                small = ui.open_glance(shown, stage)
                assert small.evaluate("(image) => image.complete && image.naturalWidth") > 100
                assert shown.page.get_by_text("[Show Markdown]").first.is_visible()  # the large one, below it
                picture = ui.open_picture(shown, stage, ui.MODEL)
                assert (picture.get_attribute("src") or "").startswith("data:image/png;base64,")
                assert picture.evaluate("(image) => image.naturalWidth") > 100
                shown.shoot(pictures / f"{stage}.png")
            shown.assert_whole()
        assert "Traceback" not in server.output()
