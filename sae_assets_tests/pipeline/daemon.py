"""Dagster's real daemon with its code server and runs, as child processes that end with the ``with`` block."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.workspace.load_target import WorkspaceFileTarget

from sae_assets.cli.ui import WORKSPACE
from sae_assets.orchestration.instance.home import DAGSTER_YAML
from sae_assets_tests.processes import PAUSE_SECONDS, Group, environment, wait_until

MINUTE = 60.0
QUICK = {  # the packaged file's numbers, for tests: what takes minutes there takes seconds
    "max_concurrent_runs: 4": "max_concurrent_runs: 1",  # one more is one worker more, which loads everything
    "poll_interval_seconds: 30": "poll_interval_seconds: 2",
    "free_slots_after_run_end_seconds: 60": "free_slots_after_run_end_seconds: 1",
}
# What runs write goes to the daemon's log.
MORE = """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def write_quick_settings(home: Path) -> None:
    """The home's ``dagster.yaml`` as this package writes it, with shorter waits and one run at a time.

    Two at a time are in ``browser/test_living.py``.
    """
    text = DAGSTER_YAML
    for given, quick in QUICK.items():
        assert given in text
        text = text.replace(given, quick)
    (home / "dagster").mkdir(parents=True, exist_ok=True)
    (home / "dagster" / "dagster.yaml").write_text(text + MORE)


@dataclass
class Daemon:
    """A daemon on a home; its processes are a group of their own."""

    home: Path
    catalog: Path
    log: Path
    group: Group | None = None

    @property
    def workspace(self) -> Path:
        return self.home / "workspace.yaml"

    def start(self) -> None:
        self.workspace.write_text(WORKSPACE, encoding="utf-8")
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self.workspace)]
        self.group = Group(command, environment(self.home, self.catalog, swift=True), self.home, self.log)

    def kill(self) -> None:
        """As a power cut: daemon, code server and every run at once."""
        if self.group is not None:
            self.group.kill()
            self.group = None

    def wait(
        self, instance: dg.DagsterInstance, done: Callable[[], bool], what: str, tell: Callable[[], str],
        seconds_between: float = PAUSE_SECONDS,
    ) -> None:  # fmt: skip
        """Poll until it is done.

        Raises:
            AssertionError: it took too long, or the daemon ended; with what there is and the end of its output.
        """
        wait_until(
            done, what, tell=tell, group=self.group, progress=lambda: states_of_runs(instance),
            pause=lambda _: time.sleep(seconds_between),
        )  # fmt: skip


@contextmanager
def daemon(home: Path, catalog: Path) -> Iterator[Daemon]:
    """A running daemon, killed at the end with everything it started."""
    found = Daemon(home, catalog, home / "daemon.log")
    found.start()
    try:
        yield found
    finally:
        found.kill()


def switch_on(instance: dg.DagsterInstance, running: Daemon, *names: str) -> None:
    """Switch sensors and schedules on, as the UI writes it; the first tick of a schedule, every minute, is due at once.

    Written without loading the code once more for each of them, as Dagster's command would: ten seconds of CPU. Tests
    of the UI click.
    """
    (location,) = WorkspaceFileTarget([str(running.workspace)]).create_origins()
    repository = RemoteRepositoryOrigin(location, "__repository__")
    for name in names:
        kind, data = InstigatorType.SENSOR, SensorInstigatorData()
        if name.endswith(("__backfill", "__repair", "__check_contents")):
            kind, data = InstigatorType.SCHEDULE, ScheduleInstigatorData("* * * * *", time.time() - MINUTE)
        origin = repository.get_instigator_origin(name)
        instance.add_instigator_state(InstigatorState(origin, kind, InstigatorStatus.RUNNING, data))


def state_of(instance: dg.DagsterInstance, name: str) -> InstigatorState:
    """A switch as the instance knows it."""
    return next(state for state in instance.all_instigator_state() if state.instigator_name == name)


def ticks_of(instance: dg.DagsterInstance, name: str) -> list[InstigatorTick]:
    """Every tick of a sensor or schedule that has ended, oldest first."""
    state = state_of(instance, name)
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1000)
    return [tick for tick in reversed(ticks) if tick.is_completed]


def made(instance: dg.DagsterInstance, keys: list[dg.AssetKey]) -> Counter[tuple[str, str]]:
    """How often each (asset, partition) was made by a run, as the history says."""
    found: Counter[tuple[str, str]] = Counter()
    for key in keys:
        for record in instance.fetch_materializations(key, limit=10_000).records:
            found[key.to_user_string(), str(record.partition_key)] += bool(record.run_id)
    return found


def states_of_runs(instance: dg.DagsterInstance) -> dict[str, dg.DagsterRunStatus]:
    """What changes while a daemon is at work."""
    return {run.run_id: run.status for run in instance.get_runs()}


def history(instance: dg.DagsterInstance) -> str:
    """Runs, backfills and the newest tick of every switch, a line each: what a failure shows."""
    lines = ["Runs, oldest first:"]
    for run in reversed(instance.get_runs()):
        made_here = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ()))
        lines.append(f"  {run.run_id[:8]} {run.status.value:11} {run.tags.get('dagster/partition')}: {made_here}")
    lines += [f"Backfill {found.backfill_id}: {found.status.value}" for found in instance.get_backfills()]
    for state in instance.all_instigator_state():
        newest = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        for tick in newest:
            said = tick.skip_reason or (str(tick.error)[:500] if tick.error else "")
            lines.append(f"Newest tick of {state.instigator_name}: {tick.status.value} {said}")
    return "\n".join(lines)
