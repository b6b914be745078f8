"""Pictures of the UI and of pages on a finished home: ``python -m sae_assets_tests.browser.screenshots``.

The pages are opened by functions that the test uses as well; each returns when what it shows is loaded.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Playwright, Route, ViewportSize, sync_playwright

import sae_assets
from sae_assets.reading.page import unit_page
from sae_assets_tests.browser.server import webserver

DATASET, MODEL, CHUNK, UNIT = "clevr_mini", "clip-mini", "0001", 6
TEXTS, TEXT_MODEL, TEXT_UNIT = "moods_mini", "gemma-mini", 1178
WIDTH, HEIGHT = 1440, 900
USUAL_SIZE: ViewportSize = {"width": WIDTH, "height": HEIGHT}
LINEAGE_SIZE: ViewportSize = {"width": 3200, "height": 1700}
NAMES_SIZE: ViewportSize = {"width": 2200, "height": 1180}  # so small that the UI shows names alone, and larger
PAGE_SIZE: ViewportSize = {"width": 1130, "height": 1400}
TOKENS_SIZE: ViewportSize = {"width": 1130, "height": 470}
TIMEOUT_MS = 240_000  # of one element; only a hang takes so long, whatever else the machine does
SETTLE_MS = 1_500  # animations and the layout of the graph, which say nothing when they are done
DIALOG_SHARE = 0.8  # of the window's width that the UI gives a dialog, less its padding
DIALOG_PADDING = 40
COLOURS = 256
BROKEN = ("unexpected error", "something went wrong", "graphql error", "page not found")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",  # a process that would outlive the browser
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GROUP_GRAPH = f'group:"{DATASET}__patch"'  # one group alone is shown expanded
STORED = """(given) => {
    const still = new CSSStyleSheet();
    still.replaceSync("*, *::before, *::after { animation: none !important; transition: none !important; }");
    document.adoptedStyleSheets = [still];
    localStorage.setItem("dagster-nav-collapsed", "true");
    for (const [key, value] of Object.entries(given)) localStorage.setItem(key, JSON.stringify(value));
}"""
GO_WITHIN = "(path) => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate', {state: {}})); }"
IN_FULL = {"asset-graph-direction": "vertical", "asset-node-facets": ["status", "checks", "kind-tag"]}


@dataclass
class Window:
    """A page of the browser and what went wrong in it.

    Attributes:
        url: the webserver's address.
        problems: exceptions of the app and errors it wrote to the console.
        strangers: addresses outside the webserver that it asked for.
    """

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go to an address; within the app as its links do, which does not load and start the app once more."""
        if self.page.url.startswith(f"{self.url}/"):
            self.page.evaluate(GO_WITHIN, path)
        else:
            self.page.goto(self.url + path, wait_until="domcontentloaded")

    def settle(self) -> None:
        """Wait until nothing turns any more, and a moment for what moves."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_function("() => !document.querySelector('[class*=pinner]')")
        self.page.wait_for_timeout(SETTLE_MS)

    def assert_whole(self) -> None:
        """Nothing was thrown, nothing logged as an error, nothing asked of the internet, no page says it failed."""
        text = self.page.locator("body").inner_text().lower()
        assert self.problems == []
        assert self.strangers == []
        assert [phrase for phrase in BROKEN if phrase in text] == []

    def shoot(self, path: Path, *, photographs: bool = False) -> Path:
        """Save what the window shows, with a palette: interfaces have few colours, where they show no photographs."""
        self.settle()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, animations="disabled")
        if photographs:
            return path
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        return path


def find_chromium(playwright: Playwright) -> str | None:
    """The system's Chromium, or the one that Playwright was told to download, if there is any."""
    installed = next((found for found in map(shutil.which, NAMES) if found), None)
    own = playwright.chromium.executable_path
    return installed or (own if Path(own).exists() else None)


@contextmanager
def chromium() -> Iterator[Browser | None]:
    """A headless browser with a home folder of its own, or None if this machine has none."""
    with (
        tempfile.TemporaryDirectory(prefix="sae_assets_chromium_", ignore_cleanup_errors=True) as folder,
        sync_playwright() as playwright,
    ):
        executable = find_chromium(playwright)
        if executable is None:
            yield None
            return
        browser = playwright.chromium.launch(
            executable_path=executable, args=list(ARGUMENTS), env={**os.environ, "HOME": folder, "TMPDIR": folder},
            timeout=TIMEOUT_MS,
        )  # fmt: skip
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, url: str, scale: int = 1, stored: Mapping[str, object] | None = None) -> Iterator[Window]:
    """A fresh profile with one page. The invitation to the community stays away; nothing else is changed."""
    context = browser.new_context(viewport=USUAL_SIZE, device_scale_factor=scale, color_scheme="light", locale="en-GB")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    found = Window(page, url)
    page.add_init_script(f"({STORED})({json.dumps(stored or {})})")
    page.route("**/graphql*", _without_invitation)
    page.on("pageerror", lambda error: found.problems.append(f"exception: {error}"))
    page.on("console", lambda message: found.problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: found.strangers.append(request.url) if _strange(request.url, url) else None)
    try:
        yield found
    finally:
        context.close()


def _strange(address: str, url: str) -> bool:
    return not address.startswith((url, "data:", "blob:"))


def _without_invitation(route: Route) -> None:
    """Say that the invitation was seen; pressing its button would write that into the home."""
    asked = route.request.post_data_json
    if isinstance(asked, dict) and asked.get("operationName") == "ShouldShowNux":
        route.fulfill(json={"data": {"shouldShowNux": False}})
    else:
        route.continue_()


def _asset(stage: str, token_kind: str = "patch") -> str:
    return f"/assets/{DATASET}/{token_kind}/{stage}"


def open_lineage(shown: Window, selection: str, size: ViewportSize = LINEAGE_SIZE) -> None:
    """The global lineage, groups expanded, of a selection of assets; in a window that leaves their names room."""
    shown.page.set_viewport_size(size)
    shown.open(f"/asset-groups~{quote(selection, safe='')}/?expanded={DATASET}")
    shown.page.get_by_text("best_pairs").first.wait_for()
    shown.page.locator("svg foreignObject").first.wait_for()
    shown.settle()


def close_list(shown: Window) -> None:
    """Hide the list of names beside the lineage."""
    shown.page.get_by_role("img", name="panel_show_right").click()


def open_partition(shown: Window, stage: str, key: str) -> Locator:
    """The partitions page of a stage with one partition selected; the table of its metadata."""
    shown.open(f"{_asset(stage)}?view=partitions&partition={quote(key, safe='')}")
    shown.page.get_by_text("dagster/uri", exact=True).wait_for()
    shown.settle()
    return shown.page.locator("table").filter(has_text="dagster/uri").first


def metadata_value(table: Locator, name: str) -> str:
    """What stands beside a name in the table of metadata."""
    row = table.locator("tr").filter(has=table.page.get_by_text(name, exact=True)).last
    return row.locator("td").nth(1).inner_text().strip()


def open_glance(shown: Window, stage: str) -> Locator:
    """The small picture at the head of a stage's metadata, which nobody has to click for."""
    shown.open(_asset(stage))
    picture = shown.page.locator('img[src^="data:image/svg+xml"]').first
    picture.wait_for()
    shown.settle()
    return picture


def open_picture(shown: Window, stage: str, key: str) -> Locator:
    """The picture in the metadata of a partition, opened; the window grows until it fits."""
    table = open_partition(shown, stage, key)
    table.get_by_text("[Show Markdown]").first.click()
    picture = shown.page.locator(
        '.bp5-dialog img[src^="data:image/png"], [role=dialog] img[src^="data:image/png"]'
    ).first
    picture.wait_for()
    shown.page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    width, height = picture.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    wide = max(WIDTH, int((width + DIALOG_PADDING) / DIALOG_SHARE) + 1)
    shown.page.set_viewport_size({"width": wide, "height": max(HEIGHT, height + 320)})
    shown.settle()
    return picture


def open_plots(shown: Window, stage: str) -> Locator:
    """The plots of a stage's numbers over its partitions, the sections above them folded; that of compression."""
    shown.open(_asset(stage))
    shown.page.get_by_role("button", name="Plots").click()
    for section in ("Status", "Description"):
        shown.page.get_by_text(section, exact=True).first.click()
    title = shown.page.get_by_text("compression_ratio", exact=True).first
    title.wait_for()
    shown.page.locator("canvas").first.wait_for()
    shown.settle()
    shown.page.get_by_text("Metadata", exact=True).first.evaluate("(node) => node.scrollIntoView({block: 'start'})")
    return title


def open_checks(shown: Window, stage: str, check: str) -> None:
    """The checks of a stage, one of them opened."""
    shown.open(f"{_asset(stage)}?view=checks&checkDetail={check}")
    shown.page.get_by_text("Latest execution", exact=True).wait_for()
    shown.settle()


def take_all(browser: Browser, url: str, out: Path) -> Iterator[Path]:
    """Every picture, each in a window of its own; pages twice as dense, inline pictures pixel by pixel."""
    with window(browser, url, 2, IN_FULL) as shown:
        open_lineage(shown, GROUP_GRAPH)
        yield shown.shoot(out / "lineage.png")
    with window(browser, url, 2, IN_FULL) as shown:
        open_lineage(shown, GROUP_GRAPH, NAMES_SIZE)
        close_list(shown)
        yield shown.shoot(out / "lineage_group.png")
    with window(browser, url, 2) as shown:
        open_partition(shown, "sparse_activations", f"{CHUNK}|{MODEL}")
        yield shown.shoot(out / "partition.png")
        shown.page.get_by_text("compression_ratio", exact=True).scroll_into_view_if_needed()
        yield shown.shoot(out / "partition_figures.png")
    with window(browser, url, 2) as shown:
        open_plots(shown, "sparse_activations")
        yield shown.shoot(out / "compression.png")
    with window(browser, url, 2) as shown:
        open_checks(shown, "sparse_activations", "little_mass_dropped")
        yield shown.shoot(out / "checks.png")
    with window(browser, url) as shown:
        open_glance(shown, "best_pairs")
        yield shown.shoot(out / "detection.png")
    for stage in ("unit_mapping", "unit_stats"):
        with window(browser, url) as shown:
            open_picture(shown, stage, MODEL)
            yield shown.shoot(out / f"{stage}.png")


def take_pages(browser: Browser, home: Path, out: Path) -> Iterator[Path]:
    """The beginning of the report, and of the pages of a unit of pictures and of one of texts, in a browser."""
    project = sae_assets.open(home)
    with tempfile.TemporaryDirectory() as folder:
        unit, tokens = Path(folder) / "unit.html", Path(folder) / "tokens.html"
        unit.write_text(unit_page(project[DATASET][MODEL]["patch"].unit(UNIT), 5), encoding="utf-8")
        text_results = project[TEXTS][TEXT_MODEL]["token"]
        tokens.write_text(unit_page(text_results.unit(TEXT_UNIT), 3), encoding="utf-8")
        report = home / "store" / DATASET / "patch" / MODEL / "report" / "all.html"
        for page, name, size in (
            (report, "report", PAGE_SIZE),
            (unit, "unit", PAGE_SIZE),
            (tokens, "tokens", TOKENS_SIZE),
        ):
            with window(browser, page.absolute().as_uri()) as shown:
                shown.page.set_viewport_size(size)
                shown.open("")
                yield shown.shoot(out / f"{name}.png", photographs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", type=Path, required=True, help="a home that `sae-assets demo` has filled")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    given = parser.parse_args()
    if not (given.home / "dagster").is_dir():
        parser.error(f"{given.home} holds no history: run `sae-assets demo --home {given.home}` first")
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    with chromium() as browser:
        if browser is None:
            parser.error(f"no Chromium found; looked for {', '.join(NAMES)} and for Playwright's own")
        with webserver(given.home) as server:
            for path in [*take_all(browser, server.url, given.out), *take_pages(browser, given.home, given.out)]:
                print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
