"""Ctrl-C and SIGTERM end a command that makes things: one sentence, and no trace of it but what was made."""

import json
import signal
import sys
from pathlib import Path

import dagster as dg
import pytest

import sae_assets_tests
from sae_assets.cli.common import GOES_ON
from sae_assets.commands.session import open_session
from sae_assets.orchestration.instance.home import open_instance
from sae_assets.settings import load_settings
from sae_assets.storage.atomic import TEMPORARY_PREFIX
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.processes import Group, environment, wait_until

pytestmark = pytest.mark.long
ENCODING = "sparse_activations"
# A pass through the model that takes its time, so that a signal meets it.
SLOW = """
import time
from sae_assets.cli import run
from sae_assets.rows.open_clip.vision import VisionTransformer

def slowly(self, images, embed=VisionTransformer.embed):
    time.sleep(600)
    return embed(self, images)

VisionTransformer.embed = slowly
run()
"""
COMMAND = [sys.executable, "-c", SLOW, "materialize", "-d", "small", "--json"]


@pytest.fixture
def places(tmp_path: Path, made_home: Homes) -> Places:
    return made_home(tmp_path, "labels")


def variables(places: Places) -> dict[str, str]:
    """The home is quick, by classes that stand beside these tests."""
    beside = str(Path(sae_assets_tests.__file__).parents[1])
    return {**environment(places["home"], places["catalog"]), "PYTHONPATH": beside}


def runs_of(home: Path) -> dict[dg.DagsterRunStatus, list[dg.DagsterRun]]:
    with open_instance(load_settings(home)) as instance:
        found: dict[dg.DagsterRunStatus, list[dg.DagsterRun]] = {}
        for run in instance.get_runs():
            found.setdefault(run.status, []).append(run)
        return found


def encodes(home: Path) -> bool:
    started = runs_of(home).get(dg.DagsterRunStatus.STARTED, [])
    return any(ENCODING in run.tags["stages"] for run in started)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_so_and_leaves_nothing_behind(
    places: Places, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The run that was under way is canceled, no slot of a pool is held, and the same command goes on."""
    home = places["home"]
    group = Group(COMMAND, variables(places), tmp_path, tmp_path / "log")
    try:
        wait_until(lambda: encodes(home), "a run that encodes", group=group)
        group.process.send_signal(number)
        wait_until(lambda: group.ended, "the end of the command", tell=group.output)
    finally:
        group.kill()
    assert group.process.returncode == code, group.output()
    assert json.loads(group.output()) == {"error": GOES_ON, "kind": "Interrupted"}
    runs = runs_of(home)
    assert [ENCODING in run.tags["stages"] for run in runs[dg.DagsterRunStatus.CANCELED]] == [True]
    assert set(runs) == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED}
    assert [path for path in home.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)] == []
    with open_instance(load_settings(home)) as instance:
        pool = instance.event_log_storage.get_concurrency_info("gpu")
        assert (pool.active_slot_count, pool.pending_step_count) == (0, 0)
    states = json.loads(invoke(places, "status", "--json").stdout)["small"]["stages"]
    assert states["patch/clip-mini/sparse_activations"] == {"0000": "interrupted", "0001": "missing"}
    for state in ("interrupted", "failed"):  # in words, too
        assert (state in invoke(places, "status").stdout) is (state == "interrupted")
    told = json.loads(invoke(places, "plan", "-d", "small", "--json").stdout)["datasets"]["small"]["runs"]
    why = [each["why"] for run in told for each in run["artifacts"] if each["stage"] == ENCODING]
    assert why == ["interrupted", "missing"]
    with open_session(home, places["catalog"]) as session:  # no switch begins again what somebody has ended
        assert ENCODING in {address.stage for address in session.outlook("small").plan(hold_failed=True).left_out}
    assert states["labels"] == {"0000": "current", "0001": "current"}
    again = invoke(places, "materialize", "-d", "small", "--to", ENCODING, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["runs"] >= 1


SWALLOWED = """
import os, signal, sys, time
from sae_assets.cli import run
from sae_assets.pipeline.stages import STAGES

number = getattr(signal, sys.argv.pop())

def make(*arguments, **more):  # as an import does that an interrupt has cut short, and that is tried again
    try:
        os.kill(os.getpid(), number)
        time.sleep(600)
    except BaseException:
        raise ImportError("cannot load module more than once per process") from None

object.__setattr__(STAGES["examples"], "make", make)
run()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_takes_for_its_own_error_ends_the_command(
    made_home: Homes, tmp_path: Path, number: signal.Signals
) -> None:
    """Its run is canceled, as any other that a signal ends; no other one begins, and the exit code is the signal's."""
    places = made_home(tmp_path, "register")
    command = [sys.executable, "-c", SWALLOWED, "materialize", "-d", "small", "--json", number.name]
    group = Group(command, variables(places), tmp_path, tmp_path / "log")
    try:
        wait_until(lambda: group.ended, "the end of the command", tell=group.output)
    finally:
        group.kill()
    assert group.process.returncode == 128 + number, group.output()
    assert json.loads(group.output()) == {"error": GOES_ON, "kind": "Interrupted"}
    runs = runs_of(places["home"])
    assert {status: len(each) for status, each in runs.items()} == {dg.DagsterRunStatus.CANCELED: 1}
