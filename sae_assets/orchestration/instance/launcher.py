"""The run launcher of this project's homes: Dagster's own, and able to say whether the process of a run still lives.

Dagster's default launcher cannot, so that after a power cut (or ``kill -9`` of everything) its runs would be "started"
for ever: in the way of automation and backfills, and holding their slot of a pool. Run monitoring asks this one.
"""

import json
import os
import socket
from pathlib import Path

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.tags import GRPC_INFO_TAG

HOST_TAG = "sae_assets/host"  # of runs that a command executes in its own process
HERE = ("localhost", "127.0.0.1", "::1")
START_SLACK_SECONDS = 5.0  # a process is older than the first event it writes


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with the health of a run's process. Runs of other machines are not judged."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        process = _process_of(self._instance, run.run_id) if _is_here(run) else None
        if process is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not a process of this machine")
        pid, since = process
        if is_alive(pid, since):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {pid} of the run is gone")


def _is_here(run: dg.DagsterRun) -> bool:
    launched = run.tags.get(GRPC_INFO_TAG)
    if launched:
        return json.loads(launched).get("host") in HERE
    return run.tags.get(HOST_TAG) == socket.gethostname()


def _process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Process id of a run's last process and when it reported itself; None if it never did."""
    for entry in reversed(instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        pid = getattr(data, "metadata", {}).get("pid")
        if pid is not None and str(pid.value).isdigit():
            return int(str(pid.value)), entry.timestamp
    return None


def is_alive(pid: int, since: float) -> bool:
    """Whether a process that was there at ``since`` (seconds since the epoch) still is; a later one is another."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return _started(pid) is None
    started = _started(pid)
    return started is None or started <= since + START_SLACK_SECONDS


def _started(pid: int) -> float | None:
    """When a process started, seconds since the epoch, where the system tells; infinity if it is dead already."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    if fields[0] in ("Z", "X"):  # ended, and nobody has asked for its exit code
        return float("inf")
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
