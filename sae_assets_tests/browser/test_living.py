"""``sae-assets ui`` on a data set that grows, driven by clicks in headless Chromium, webserver and daemon real.

Orders of pages of other sites are refused, of a real browser too; and what a script started ends by SIGTERM.

Pictures are kept in ``out/screenshots/test_living``, or under the folder that ``SAE_ASSETS_SCREENSHOTS`` names; after a
failure also one of the page that it happened on.
"""

import json
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.execution.backfill import PartitionBackfill
from playwright.sync_api import Browser

from sae_assets.commands.session import Session, open_session
from sae_assets.commands.status import states
from sae_assets.orchestration.instance.home import DAGSTER_YAML
from sae_assets_tests.browser import living as ui
from sae_assets_tests.browser.screenshots import Window, metadata_value, window
from sae_assets_tests.browser.server import Server, platform
from sae_assets_tests.browser.strangers import ATTACK, DELETE, page_of_another_origin, status, upgraded
from sae_assets_tests.helpers.homes import invoke
from sae_assets_tests.pipeline.daemon import history, states_of_runs, ticks_of
from sae_assets_tests.pipeline.small import CONCEPTS, make_dataset
from sae_assets_tests.processes import SHOWN, wait_until

pytestmark = [pytest.mark.living, pytest.mark.xdist_group("living")]
SPARSE = dg.AssetKey([ui.DATASET, "patch", "sparse_activations"])
SCHEDULE = f"{ui.DATASET}__backfill"


@dataclass(frozen=True)
class Shop:
    """A running platform, the session on its home, the run that failed before, and the name of the damaged file."""

    session: Session
    server: Server
    failed_run: str
    damaged: str

    def states(self) -> list[str]:
        stages = states(self.session, [ui.DATASET])[ui.DATASET]["stages"]
        return list(stages[f"patch/{ui.MODEL}/sparse_activations"].values())

    def wait(self, shown: Window, done: Callable[[], bool], what: str) -> None:
        """Poll until it is done; the page goes on meanwhile, which it does not while this process sleeps."""
        wait_until(
            done, what, group=self.server.group, progress=lambda: states_of_runs(self.session.instance),
            pause=lambda seconds: shown.page.wait_for_timeout(1000 * seconds),
        )  # fmt: skip

    def wait_for_new_run(self, shown: Window, before: set[str], what: str) -> dg.DagsterRun:
        """The one run that was not there before, once it has ended."""
        instance = self.session.instance

        def new() -> list[dg.DagsterRun]:
            return [run for run in instance.get_runs() if run.run_id not in before]

        self.wait(shown, lambda: any(run.is_finished for run in new()), what)
        (run,) = new()
        return run

    @contextmanager
    def explained(self, shown: Window, picture: Path) -> Iterator[None]:
        """What goes wrong inside is told with the page, its picture, the history and the servers' last words."""
        try:
            yield
        except Exception as error:
            with suppress(Exception):
                picture.parent.mkdir(parents=True, exist_ok=True)
                shown.page.screenshot(path=picture, timeout=60_000)
            error.add_note(f"The page was {shown.page.url}, its picture is {picture}")
            error.add_note(f"sparse_activations: {self.states()}\n{history(self.session.instance)}")
            error.add_note(f"The end of what the servers said:\n{self.server.output()[-SHOWN:]}")
            raise


@pytest.fixture(scope="module")
def shop(chromium_is_there: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Twelve images in three chunks, registered and listed; and a data set with a damaged image, whose run failed.

    Made before a browser starts: the browser's event loop runs in this process, and a run would start another one.
    """
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
    settings = DAGSTER_YAML.replace("max_concurrent_runs: 4", "max_concurrent_runs: 2")  # each is a worker process
    assert settings != DAGSTER_YAML
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text(settings)

    # Everything up to labels; then an image is damaged, and the run that encodes it fails.
    victim = sorted((roots["damaged"] / "images").iterdir())[1]
    for names, last, code in (("small,damaged", "labels", 0), ("damaged", "sparse_activations", 1)):
        done = invoke({"home": home, "catalog": catalog}, "materialize", "-d", names, "--to", last)
        assert done.exit_code == code, done.output
        victim.write_bytes(b"nonsense")
    with open_session(home, catalog) as session:
        failed = session.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))[0]
        with platform(home, catalog) as server:
            yield Shop(session, server, failed.run_id, victim.name)


def ended(backfills: Sequence[PartitionBackfill]) -> int:
    return sum(found.status.value.startswith(("COMPLETED", "FAILED", "CANCELED")) for found in backfills)


def test_a_person_runs_a_growing_data_set_by_clicks(shop: Shop, browser: Browser, pictures: Path) -> None:
    instance = shop.session.instance
    failure = pictures / "failure.png"
    failure.unlink(missing_ok=True)
    with window(browser, shop.server.url) as shown, shop.explained(shown, failure):
        # The failed run says which file, in our own words.
        ui.open_run(shown, shop.failed_run)
        message = shown.page.get_by_text(re.compile(rf"{shop.damaged}\) changed")).first
        message.wait_for()
        message.scroll_into_view_if_needed()
        shown.shoot(pictures / "failed_run.png")

        # One chunk by clicking.
        ui.open_lineage(shown)
        shown.shoot(pictures / "lineage_before.png")
        dialog = ui.open_dialog(shown)
        ui.choose(shown, dialog, "0000", ui.MODEL)
        shown.shoot(pictures / "materialize.png")
        before = {run.run_id for run in instance.get_runs()}
        ui.launch(dialog)
        run = shop.wait_for_new_run(shown, before, "the run of one chunk has ended")
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.asset_selection == {SPARSE} and run.tags["dagster/partition"] == f"0000|{ui.MODEL}"
        assert shop.states() == ["current", "missing", "missing"]
        ui.open_run(shown, run.run_id)
        shown.shoot(pictures / "run.png")
        shown.open(f"{ui.ASSET}&partition=0000%7C{ui.MODEL}")
        shown.page.get_by_text("dagster/uri", exact=True).wait_for()
        table = shown.page.locator("table").filter(has_text="dagster/uri").first
        assert float(metadata_value(table, "compression_ratio").replace(",", "")) > 1
        shown.page.get_by_text("compression_ratio", exact=True).scroll_into_view_if_needed()
        shown.shoot(pictures / "metadata.png")

        # The rest as a backfill of what is missing.
        dialog = ui.open_dialog(shown)
        ui.choose_missing(dialog)
        shown.shoot(pictures / "backfill_dialog.png")
        ui.launch(dialog)
        shop.wait(shown, lambda: ended(instance.get_backfills()) == 1, "the backfill has ended")
        (backfill,) = instance.get_backfills()
        assert backfill.status.value == "COMPLETED_SUCCESS"
        assert shop.states() == ["current"] * 3
        ui.open_backfills(shown, backfill.backfill_id)
        shown.shoot(pictures / "backfill.png")

        # And what is left by a schedule, switched on with the mouse.
        ui.open_automation(shown)
        switch = ui.switch_of(shown, SCHEDULE)
        assert not ui.is_on(switch)
        shown.shoot(pictures / "automation_off.png")
        switch.click()
        shop.wait(shown, lambda: ui.is_on(switch), "the schedule is on")
        shown.shoot(pictures / "automation.png")
        shop.wait(shown, lambda: len(instance.get_backfills()) == 2, "the schedule's tick launches a backfill")
        shop.wait(shown, lambda: bool(ticks_of(instance, SCHEDULE)), "the tick has ended")
        ui.open_schedule(shown, SCHEDULE)
        shown.shoot(pictures / "schedule.png")
        shown.assert_whole()

        newest = instance.get_backfills()[0]
        assert newest.tags["sae_assets/backfill"] == "backfill"
        assert SPARSE not in set(newest.asset_selection or ())  # it is there already
        assert "Traceback" not in shop.server.output()


def test_pages_of_other_sites_give_no_orders(shop: Shop, browser: Browser) -> None:
    @dg.job
    def nothing() -> None: ...

    instance = shop.session.instance
    run_id = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.SUCCESS).run_id
    query = DELETE % run_id
    body = json.dumps({"query": query}).encode()
    graphql = f"{shop.server.url}/graphql"
    json_type = {"Content_Type": "application/json"}
    assert status(graphql, body, **json_type, Origin="http://evil.example") == 403
    assert status(graphql, body, **json_type, Host="evil.example") == 403
    assert status(graphql, body, Content_Type="text/plain") == 403
    assert status(f"{graphql}?query={urllib.request.quote(query)}") == 403
    assert status(shop.server.url, Host="evil.example") == 403
    assert not upgraded(shop.server.url, "http://evil.example") and upgraded(shop.server.url, shop.server.url)
    with page_of_another_origin(ATTACK.format(url=shop.server.url, query=json.dumps(query))) as evil:
        page = browser.new_page()
        page.goto(evil)
        page.wait_for_function("document.title.endsWith('done')", timeout=120_000)
        assert page.title() == "evil done"  # no socket was opened
        page.evaluate("document.forms[0].submit()")
        page.wait_for_timeout(500)
        page.close()
    assert instance.get_run_by_id(run_id) is not None
    assert status(shop.server.url) == 200
    # The same order of a program that is no browser is carried out: it was a real one.
    assert status(graphql, body, **json_type) == 200
    assert instance.get_run_by_id(run_id) is None


def test_ui_that_a_script_started_in_the_background_ends_by_sigterm(shop: Shop) -> None:
    """A shell lets what it starts with & ignore Ctrl-C, and Dagster takes SIGTERM for that. Nothing serves then."""
    process = shop.server.group.process
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    process.wait(120)
    assert time.monotonic() - start < 60, "it was killed by somebody else"
