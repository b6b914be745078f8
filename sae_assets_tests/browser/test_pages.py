"""Pages on a telephone: nothing is wider than the screen, however long the names of concepts are."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sae_assets.pages.rendering import TEMPLATES
from sae_assets_tests.browser.screenshots import window

pytestmark = pytest.mark.long
NAME = "a_concept_whose_name_has_no_place_to_break_at_and_60_letters"
PARTS = """<h1>{0}</h1><p class="lead">{0}</p><p>The best unit of {0} was removed.</p><h2>{0}</h2><h3>{0}</h3>
<details open><summary><b>{0}</b> unit 17</summary><p>{0}</p></details><figure><figcaption>{0}</figcaption></figure>
<div class="scroll"><table><tr><td>{0}</td><td>{0}</td></tr></table></div><ul><li>{0}</li></ul><pre>{0}</pre>
<table class="concepts cards"><tbody><tr><td>{0}</td><td data-label="unit">17</td></tr></tbody></table>"""


@pytest.mark.parametrize("width", [320, 390])
def test_long_names_are_broken(browser: Browser, tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    style = (Path(TEMPLATES) / "style.css").read_text(encoding="utf-8")
    page.write_text(f"<!doctype html><style>{style}</style><main>{PARTS.format(NAME)}</main>", encoding="utf-8")
    with window(browser, page.as_uri()) as shown:
        shown.page.set_viewport_size({"width": width, "height": 800})
        shown.open("")
        assert shown.page.evaluate("document.documentElement.scrollWidth") == width


def test_a_mark_stands_beside_its_figure(browser: Browser, tmp_path: Path) -> None:
    """On a card, whose cells have their label at one end and what they say at the other."""
    page = tmp_path / "page.html"
    style = (Path(TEMPLATES) / "style.css").read_text(encoding="utf-8")
    cell = '<td data-label="95 %"><span id="one">0.456 – 0.935</span><span id="two" title="few">?</span></td>'
    table = f'<table class="cards"><tbody><tr><td>joy</td>{cell}</tr></tbody></table>'
    page.write_text(f"<!doctype html><style>{style}</style><main>{table}</main>", encoding="utf-8")
    with window(browser, page.as_uri()) as shown:
        shown.page.set_viewport_size({"width": 390, "height": 800})
        shown.open("")
        ends = "one.getBoundingClientRect().right, two.getBoundingClientRect().left, two.getBoundingClientRect().right"
        figure, mark, end = shown.page.evaluate(f"[{ends}]")
        cell_end = shown.page.evaluate("one.parentElement.getBoundingClientRect().right")
        assert 0 <= mark - figure < 8
        assert abs(cell_end - end) < 1
