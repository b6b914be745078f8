"""Real worker processes of a real instance: what they share, when one is replaced, and what a death does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterInvariantViolationError

from sae_assets.orchestration.instance.home import DAGSTER_YAML, open_instance
from sae_assets.orchestration.instance.launcher import WORKER_TAG
from sae_assets.settings import CATALOG_VARIABLE, load_settings
from sae_assets_tests.pipeline import toy_runs
from sae_assets_tests.pipeline.toy_runs import launch
from sae_assets_tests.processes import wait_until

pytestmark = pytest.mark.xdist_group("workers")
Status = dg.DagsterRunStatus
CLASS = "  class: WatchedRunLauncher\n"
LAUNCHING = """\
import sys, time
from pathlib import Path
from sae_assets_tests.pipeline.test_workers import instance_with
from sae_assets_tests.pipeline.toy_runs import launch

with instance_with(Path(sys.argv[1])) as instance:
    print(launch(instance, Path(sys.argv[2]), seconds=600), flush=True)
    time.sleep(600)
"""


@contextmanager
def instance_with(home: Path, **config: int) -> Iterator[dg.DagsterInstance]:
    """The instance of a home whose launcher has these settings."""
    written = home / "dagster" / "dagster.yaml"
    written.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"    {name}: {value}\n" for name, value in config.items())
    assert CLASS in DAGSTER_YAML
    written.write_text(DAGSTER_YAML.replace(CLASS, f"{CLASS}  config:\n{lines}" if lines else CLASS), encoding="utf-8")
    with open_instance(load_settings(home)) as instance:
        yield instance


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file of the definitions, which a test may change."""
    copy = tmp_path / "definitions.py"
    copy.write_text(Path(toy_runs.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def reached(instance: dg.DagsterInstance, run_id: str, done: Callable[[dg.DagsterRun], bool]) -> dg.DagsterRun:
    """The run, once it is so."""

    def run() -> dg.DagsterRun:
        record = instance.get_run_by_id(run_id)
        assert record is not None
        return record

    wait_until(
        lambda: done(run()),
        "the run gets there",
        tell=lambda: str(run()),
        pause=lambda _: time.sleep(0.05),
        seconds=120,
    )
    return run()


def finished(instance: dg.DagsterInstance, source: Path, **config: object) -> dg.DagsterRun:
    return reached(instance, launch(instance, source, **config), lambda run: run.is_finished)


def busy(instance: dg.DagsterInstance, source: Path) -> dg.DagsterRun:
    """A run that is being executed and will not end by itself."""
    started = launch(instance, source, seconds=600)

    def prints(run: dg.DagsterRun) -> bool:
        return bool(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START))

    return reached(instance, started, prints)


def worker_of(run: dg.DagsterRun) -> int:
    return int(run.tags[WORKER_TAG])


def wait_for_end(pid: int) -> None:
    def ended() -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until(ended, f"worker {pid} ends", seconds=60)


@pytest.mark.long
def test_runs_share_a_worker_until_it_had_its_number_or_its_code_or_catalog_changed(tmp_path, source, monkeypatch):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("datasets: {}\n")
    monkeypatch.setenv(CATALOG_VARIABLE, str(catalog))
    with instance_with(tmp_path / "home", runs_per_worker=3) as instance:
        first, second, third, fourth = [finished(instance, source) for _ in range(4)]
        assert {run.status for run in (first, second, third, fourth)} == {Status.SUCCESS}
        assert worker_of(first) == worker_of(second) == worker_of(third) != worker_of(fourth)

        source.write_text(source.read_text() + "\n# another version\n")
        fifth = finished(instance, source)
        catalog.write_text("models: {}\n")
        sixth = finished(instance, source)
        assert len({worker_of(run) for run in (fourth, fifth, sixth)}) == 3
        for outdated in (first, fourth, fifth):
            wait_for_end(worker_of(outdated))

        # What a step printed is in its log, as where each run has a process.
        (capture,) = instance.all_logs(sixth.run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED)
        key = [sixth.run_id, "compute_logs", capture.dagster_event.logs_captured_data.file_key]
        printed = instance.compute_log_manager.get_log_data(key).stdout
        assert printed == f"printed by {worker_of(sixth)}\n".encode()
    wait_for_end(worker_of(sixth))


@pytest.mark.long
def test_killed_worker_fails_its_run_at_once_and_dagster_will_make_it_again(tmp_path, source):
    with instance_with(tmp_path / "home") as instance:
        run = busy(instance, source)
        os.kill(worker_of(run), signal.SIGKILL)  # nothing monitors runs here: the launcher notices
        lost = reached(instance, run.run_id, lambda found: "dagster/will_retry" in found.tags)
        assert (lost.status, lost.tags["dagster/will_retry"]) == (Status.FAILURE, "true")
        (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert f"Worker process {worker_of(run)} was terminated by signal 9" in failure.dagster_event.message

        # One that fails by itself would fail again; whatever it left behind in its process ends with that.
        ended = finished(instance, source, fails=True)
        failed = reached(instance, ended.run_id, lambda found: "dagster/will_retry" in found.tags)
        assert (failed.status, failed.tags["dagster/will_retry"]) == (Status.FAILURE, "false")
        wait_for_end(worker_of(failed))


def test_run_is_canceled_from_another_process_and_its_worker_replaced(tmp_path, source):
    with (
        instance_with(tmp_path / "home", workers=1) as instance,
        open_instance(load_settings(tmp_path / "home")) as webserver,
    ):
        run = busy(instance, source)
        # One worker and it is busy: the next run goes the default launcher's way, which asks for a workspace.
        with pytest.raises(DagsterInvariantViolationError, match="workspace"):
            launch(instance, source)
        assert webserver.run_launcher.terminate(run.run_id)
        assert reached(instance, run.run_id, lambda found: found.is_finished).status is Status.CANCELED
        wait_for_end(worker_of(run))
        with pytest.raises(DagsterInvariantViolationError, match="workspace"):  # its code needs another Python
            launch(instance, source, executable="/another/python")


def test_worker_ends_with_the_process_that_launched_however_that_ended(tmp_path, source):
    command = [sys.executable, "-c", LAUNCHING, str(tmp_path / "home"), str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launching:
        assert launching.stdout is not None
        run_id = launching.stdout.readline().strip()
        with open_instance(load_settings(tmp_path / "home")) as instance:
            run = reached(instance, run_id, lambda found: found.status is Status.STARTED)
            launching.kill()
            wait_for_end(worker_of(run))
            # It could still say that it did not end by itself, and for no fault of its own.
            ended = reached(instance, run_id, lambda found: "dagster/will_retry" in found.tags)
            assert (ended.status, ended.tags["dagster/will_retry"]) == (Status.FAILURE, "true")
