"""Dagster's real daemon with its code server and runs, as child processes that end with the ``with`` block."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, ScheduleInstigatorData

from sae_assets.cli.serving import WORKSPACE
from sae_assets.instance import DAGSTER_YAML
from sae_assets_tests.browser.server import environment

STOP_SECONDS, MINUTE = 30.0, 60.0
SWIFT = {  # the packaged file's numbers, for tests: what takes minutes there takes seconds
    "start_timeout_seconds: 300": "start_timeout_seconds: 30",
    "poll_interval_seconds: 30": "poll_interval_seconds: 2",
    "free_slots_after_run_end_seconds: 60": "free_slots_after_run_end_seconds: 1",
}

# The daemon itself, its look at backfills every 3 s in place of 30: no setting says so.
COMMAND = """\
import dagster._daemon.controller as controller
controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 3
from dagster._daemon.cli import main
main()
"""


def write_swift_settings(home: Path) -> None:
    """The home's ``dagster.yaml`` as this package writes it, with shorter waits."""
    text = DAGSTER_YAML
    for given, swift in SWIFT.items():
        assert given in text
        text = text.replace(given, swift)
    (home / "dagster").mkdir(parents=True, exist_ok=True)
    (home / "dagster" / "dagster.yaml").write_text(text)


@dataclass
class Daemon:
    """A daemon on a home; its processes are a group of their own."""

    home: Path
    catalog: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def workspace(self) -> Path:
        return self.home / "workspace.yaml"

    def start(self) -> None:
        self.workspace.write_text(WORKSPACE, encoding="utf-8")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "run", "-w", str(self.workspace)],
                env=environment(self.home, self.catalog), cwd=self.home, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """As a power cut: daemon, code server and every run at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)
            self.process = None

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until it is done.

        Raises:
            AssertionError: it took too long, or the daemon ended; with the end of its output.
        """
        end = time.monotonic() + seconds
        while not done():
            ended = self.process is not None and self.process.poll() is not None
            assert not ended and time.monotonic() < end, f"{what}: not within {seconds} s\n{self.output()[-8000:]}"
            time.sleep(0.5)


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
    """Switch sensors and schedules on with Dagster's own command. The first tick of a schedule is due at once."""
    for name in names:
        kind = "schedule" if name.startswith(("backfill_", "repair_", "verify_")) else "sensor"
        command = [sys.executable, "-m", "dagster", kind, "start", name, "-w", str(running.workspace)]
        variables = environment(running.home, running.catalog)
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if kind == "schedule":  # as if it had been switched on a minute ago
            state = state_of(instance, name)
            data = ScheduleInstigatorData(state.instigator_data.cron_schedule, time.time() - MINUTE)
            instance.update_instigator_state(state.with_data(data))


def state_of(instance: dg.DagsterInstance, name: str) -> InstigatorState:
    """A switch as the instance knows it."""
    return next(state for state in instance.all_instigator_state() if state.instigator_name == name)


def ticks_of(instance: dg.DagsterInstance, name: str) -> list[InstigatorTick]:
    """Every tick of a sensor or schedule that has ended, oldest first."""
    state = state_of(instance, name)
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1000)
    return [tick for tick in reversed(ticks) if tick.is_completed]


def made(instance: dg.DagsterInstance, keys: list[dg.AssetKey]) -> Counter[tuple[str, str]]:
    """How often each (asset, partition) was materialized, as the history says."""
    found: Counter[tuple[str, str]] = Counter()
    for key in keys:
        for record in instance.fetch_materializations(key, limit=10_000).records:
            found[key.to_user_string(), str(record.partition_key)] += 1
    return found
