"""What a person clicks while a data set grows: materialize, backfill, switch on, look at what failed.

Functions return when what they show is loaded; runs and ticks are waited for by asking the history, not the page.
"""

import re
from urllib.parse import quote

from playwright.sync_api import Locator

from sae_assets_tests.browser.screenshots import Window

DATASET, MODEL = "small", "clip-mini"
GROUP = f'group:"{DATASET}__patch"'
ASSET = f"/assets/{DATASET}/patch/sparse_activations?view=partitions"


def open_lineage(shown: Window) -> None:
    """The lineage of the data set's patches alone."""
    shown.open(f"/asset-groups~{quote(GROUP, safe='')}/?expanded={DATASET}")
    shown.page.locator("svg foreignObject").filter(has_text="best_pairs").first.wait_for()


def open_dialog(shown: Window) -> Locator:
    """The asset's page and, by its button, the dialog that launches runs."""
    shown.open(ASSET)
    shown.page.get_by_role("button", name="Materialize").first.click()
    dialog = shown.page.locator("[role=dialog].dagster-dialog").first
    dialog.get_by_role("button", name="All").nth(1).wait_for()
    return dialog


def choose(shown: Window, dialog: Locator, *names: str) -> None:
    """One partition in each list of the dialog, by its menu."""
    for place, name in enumerate(names):
        dialog.locator("[class*=tagSelectorContainer]").nth(place).click()
        menu = shown.page.locator(".dagster-popover").last
        menu.get_by_text(name, exact=True).first.click()
        header = dialog.locator("[class*=dialogHeaderText]").bounding_box()
        assert header is not None
        shown.page.mouse.click(header["x"] + header["width"] - 5, header["y"] + 5)  # beside the menu: it closes
        menu.wait_for(state="detached")


def choose_missing(dialog: Locator) -> None:
    """Everything, and of it only what failed or is missing."""
    for place in range(2):
        dialog.get_by_role("button", name="All").nth(place).click()
    dialog.get_by_text("Backfill only failed and missing").click()
    dialog.get_by_text(re.compile(r"Only \d+ failed and missing")).wait_for()


def launch(dialog: Locator) -> None:
    """Press the dialog's button; it closes when the server has taken it. The notice is gone too soon to look for."""
    dialog.get_by_role("button", name="Launch").last.click()
    dialog.wait_for(state="detached")


def open_backfills(shown: Window, backfill: str) -> None:
    """Runs, Backfills; once this one is there and has succeeded."""
    shown.open("/runs?view=backfills")
    shown.page.locator(f"a[href='/runs/b/{backfill}']").first.wait_for()
    shown.page.get_by_text("Success", exact=True).first.wait_for()


def open_run(shown: Window, run_id: str) -> None:
    """A run's page with its events."""
    shown.open(f"/runs/{run_id}")
    shown.page.get_by_text(re.compile("RUN_(SUCCESS|FAILURE)")).first.wait_for()
    shown.page.get_by_text("Loading", exact=False).first.wait_for(state="hidden")


def open_automation(shown: Window) -> None:
    """The list of all switches, loaded."""
    shown.open("/automation")
    shown.page.get_by_text(f"{DATASET}__backfill", exact=True).first.wait_for()
    switch_of(shown, f"{DATASET}__backfill").wait_for()


def switch_of(shown: Window, name: str) -> Locator:
    """The switch beside the name of a schedule or sensor; it is its label that a mouse can hit."""
    row = shown.page.locator("[data-index]").filter(has=shown.page.locator(f"a[href$='/{name}']"))
    return row.locator("[class*=ListItem_right] label").first


def is_on(switch: Locator) -> bool:
    return switch.locator("input").is_checked()


def open_schedule(shown: Window, name: str) -> None:
    """A schedule's page with its ticks, the oldest one opened: what it says it did."""
    shown.open(f"/locations/sae_assets/schedules/{name}")
    shown.page.get_by_role("button", name="1 run requested").last.click()
    shown.page.get_by_role("dialog").first.wait_for()
