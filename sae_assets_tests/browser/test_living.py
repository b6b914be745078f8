"""``sae-assets ui`` on a data set that grows, driven by clicks in headless Chromium, webserver and daemon real.

``SAE_ASSETS_SCREENSHOTS`` names a folder to keep the pictures in.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml
from playwright.sync_api import Browser

from sae_assets.session import Session, open_session
from sae_assets_tests.browser import living as ui
from sae_assets_tests.browser.screenshots import metadata_value, window
from sae_assets_tests.browser.server import Server, environment, platform
from sae_assets_tests.pipeline.small import CONCEPTS, make_dataset

pytestmark = [pytest.mark.living, pytest.mark.xdist_group("living")]
SPARSE = dg.AssetKey([ui.DATASET, "patch", "sparse_activations"])
RUN_SECONDS, BACKFILL_SECONDS, TICK_SECONDS = 90, 180, 150


@dataclass(frozen=True)
class Shop:
    """A running platform, the session on its home, the run that failed before, and the name of the damaged file."""

    session: Session
    server: Server
    failed_run: str
    damaged: str

    def states(self) -> list[str]:
        stages = self.session.status([ui.DATASET])[ui.DATASET]["stages"]
        return list(stages[f"patch/{ui.MODEL}/sparse_activations"].values())


@pytest.fixture(scope="module")
def shop(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Twelve images in three chunks, registered and listed; and a data set with a damaged image, whose run failed."""
    base = tmp_path_factory.mktemp("living")
    roots = {"small": make_dataset(base / "small", 12), "damaged": make_dataset(base / "damaged", 4, first=20)}
    entry = {
        "layout": "clevr", "modality": "image", "concepts": CONCEPTS, "models": [ui.MODEL], "token_kinds": ["patch"],
        "chunk_size": 4, "backfills": {"cron": "* * * * *"},
    }  # fmt: skip
    catalog = base / "catalog.yaml"
    datasets = {name: {**entry, "root": str(root)} for name, root in roots.items()}
    catalog.write_text(yaml.safe_dump({"datasets": datasets}))
    home = base / "home"

    # In processes of their own: the browser's event loop runs in this one, and a run would start another.
    def command(*arguments: str) -> int:
        given = [sys.executable, "-c", "from sae_assets.cli import run; run()", *arguments]
        return subprocess.run(given, env=environment(home, catalog), capture_output=True, timeout=300).returncode

    assert command("materialize", "-d", "small,damaged", "--to", "examples") == 0
    victim = sorted((roots["damaged"] / "images").iterdir())[1]
    victim.write_bytes(b"nonsense")
    assert command("materialize", "-d", "damaged", "--to", "sparse_activations") == 1
    with open_session(home, catalog) as session:
        failed = session.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))[0]
        with platform(home, catalog) as server:
            yield Shop(session, server, failed.run_id, victim.name)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return Path(os.environ.get("SAE_ASSETS_SCREENSHOTS") or tmp_path) / "living"


def test_a_person_runs_a_growing_data_set_by_clicks(browser: Browser, shop: Shop, out: Path) -> None:
    instance = shop.session.instance
    with window(browser, shop.server.url) as shown:
        # The failed run says which file, in our own words.
        ui.open_run(shown, shop.failed_run)
        message = shown.page.get_by_text(re.compile(f"{shop.damaged}.*is not a readable image")).first
        message.wait_for()
        message.scroll_into_view_if_needed()
        shown.shoot(out / "failed_run.png")

        # One chunk by clicking.
        ui.open_lineage(shown)
        shown.shoot(out / "lineage_before.png")
        dialog = ui.open_dialog(shown)
        ui.choose(shown, dialog, "0000", ui.MODEL)
        shown.shoot(out / "materialize.png")
        ui.launch(shown, dialog)
        ui.wait_for(lambda: shop.states() == ["current", "missing", "missing"], RUN_SECONDS, "one chunk is made")
        run = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)[0]
        ui.open_run(shown, run.run_id)
        shown.shoot(out / "run.png")
        shown.open(f"{ui.ASSET}&partition=0000%7C{ui.MODEL}")
        shown.page.get_by_text("dagster/uri", exact=True).wait_for()
        table = shown.page.locator("table").filter(has_text="dagster/uri").first
        assert float(metadata_value(table, "compression_ratio").replace(",", "")) > 1
        shown.page.get_by_text("compression_ratio", exact=True).scroll_into_view_if_needed()
        shown.shoot(out / "metadata.png")

        # The rest as a backfill of what is missing.
        dialog = ui.open_dialog(shown)
        ui.choose_missing(dialog)
        shown.shoot(out / "backfill_dialog.png")
        ui.launch(shown, dialog)
        ui.wait_for(
            lambda: [b.status.value for b in instance.get_backfills()] == ["COMPLETED_SUCCESS"], BACKFILL_SECONDS,
            "the backfill is complete",
        )  # fmt: skip
        assert shop.states() == ["current"] * 3
        ui.open_backfills(shown, instance.get_backfills()[0].backfill_id)
        shown.shoot(out / "backfill.png")

        # And what is left by a schedule, switched on with the mouse.
        ui.open_automation(shown)
        switch = ui.switch_of(shown, f"backfill_{ui.DATASET}")
        assert not ui.is_on(switch)
        shown.shoot(out / "automation_off.png")
        switch.click()
        ui.wait_for(lambda: ui.is_on(switch), RUN_SECONDS, "the schedule is on")
        shown.shoot(out / "automation.png")
        ui.wait_for(lambda: len(instance.get_backfills()) == 2, TICK_SECONDS, "the schedule's tick launches a backfill")
        ui.open_schedule(shown, f"backfill_{ui.DATASET}")
        shown.shoot(out / "schedule.png")
        shown.assert_whole()
    newest = instance.get_backfills()[0]
    assert newest.tags["sae_assets/backfill"] == "backfill"
    assert SPARSE not in set(newest.asset_selection or ())  # it is there already
    assert "Traceback" not in shop.server.output()
