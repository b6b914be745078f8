"""The run launcher of this project's homes: runs go to warm worker processes, and each can be checked for life.

A launcher belongs to the process that launches (the daemon; the webserver too, where runs are not queued) and has its
own pool of workers (``workers``), which end with that process. A run that no worker can take goes to a process of its
own, as Dagster's default launcher would have it. Nothing else here knows how runs are launched, so that a launcher for
Celery or Kubernetes can stand in its place.
"""

import hashlib
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

# The launcher's interface is a private module of Dagster, and so is what a launcher is told of
# a run: where its code is (origins) and how to open its instance (a reference, serialized).
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import ConfigurableClassData, serialize_value
from dagster._utils import get_run_crash_explanation  # the words that Dagster has for exit codes

import sae_assets
from sae_assets.orchestration.instance.engines import keep_engines
from sae_assets.orchestration.instance.workers import Key, Pool
from sae_assets.settings import CATALOG_VARIABLE
from sae_assets.storage.processes import START_SLACK_SECONDS, is_alive

# Tags of this prefix are not shown in the UI: on every run of a machine they say the same.
HOST_TAG = ".dagster/sae_assets_host"  # of runs that a command executes in its own process, and of those of a worker
WORKER_TAG = ".dagster/sae_assets_worker"  # process id of the worker that a run was given to
PROCESS_TAG = ".dagster/sae_assets_process"  # process id of the command that executes a run in its own process
HERE = ("localhost", "127.0.0.1", "::1")
RUNS_PER_WORKER, IDLE_SECONDS = 200, 120
DEFAULT_WORKERS = 4  # where the queue has no limit
CODE_SUFFIXES = (".py", ".yaml")


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Gives runs to warm workers, and tells the health of a run's process. Runs of other machines are not judged.

    Args:
        workers: processes at most; None: as many as runs at a time (``concurrency.runs.max_concurrent_runs``);
            0: none, each run gets a process of its own.
        runs_per_worker: after so many runs a worker is replaced; idle_seconds: after which it ends.
    """

    def __init__(
        self,
        inst_data: ConfigurableClassData | None = None,
        workers: int | None = None,
        runs_per_worker: int = RUNS_PER_WORKER,
        idle_seconds: int = IDLE_SECONDS,
    ):
        super().__init__(inst_data)
        keep_engines()
        self._workers, self._runs_per_worker, self._idle_seconds = workers, runs_per_worker, idle_seconds

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {
            name: dg.Field(dg.IntSource, is_required=False) for name in ("workers", "runs_per_worker", "idle_seconds")
        }

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> "WatchedRunLauncher":
        return cls(inst_data, **config_value)

    @cached_property
    def _pool(self) -> Pool:
        workers = self._workers
        if workers is None:
            limit = self._instance.get_concurrency_config().run_queue_config
            allowed = limit.max_concurrent_runs if limit else None
            workers = allowed if allowed is not None and allowed >= 0 else DEFAULT_WORKERS
        return Pool(workers, self._runs_per_worker, self._idle_seconds, self._report_lost)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        origin = local_origin(run)
        if origin is None or not self._launch_in_worker(run, origin):
            super().launch_run(context)

    def _launch_in_worker(self, run: dg.DagsterRun, origin: RepositoryPythonOrigin) -> bool:
        def announce(pid: int) -> None:
            self._instance.add_run_tags(run.run_id, {HOST_TAG: socket.gethostname(), WORKER_TAG: str(pid)})

        message = {"instance": serialize_value(self._instance.get_ref())}
        key = Key(serialize_value(origin), version_of_code(origin))
        pools = run.run_op_concurrency.all_pools if run.run_op_concurrency else None
        if not self._pool.hand_over(run.run_id, message, key, announce, pools or ()):
            return False
        self._run_ids.add(run.run_id)
        return True

    def _report_lost(self, run_id: str, pid: int, code: int | None) -> None:
        """A worker has left a run without an end: say so at once, in place of run monitoring's next look."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or run.is_finished:
            return
        worker = f"Worker process {pid}"
        message = f"{worker} left the run unfinished." if code is None else get_run_crash_explanation(worker, code)
        if run.status is dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, message)
        else:
            self._instance.report_run_failed(run, message)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run, from any process of the worker's machine; on others the worker looks for itself."""
        run = self._instance.get_run_by_id(run_id) if self.has_instance else None
        if run is None or WORKER_TAG not in run.tags:
            return super().terminate(run_id)
        if run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        pid = int(run.tags[WORKER_TAG])
        if run.tags.get(HOST_TAG) != socket.gethostname():
            return True
        # The process that has this number now is the run's only if it was there when the run was given to it.
        launched = self._instance.get_run_stats(run_id).launch_time
        if launched is not None and is_alive(pid, launched + START_SLACK_SECONDS):
            os.kill(pid, signal.SIGUSR1)
            return True
        self._instance.report_run_canceled(run, f"Worker process {pid} is gone.")
        return True

    def dispose(self) -> None:
        if "_pool" in self.__dict__:
            self._pool.close()
        super().dispose()

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        process = process_of(self._instance, run.run_id) if is_here(run) else None
        if process is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not a process of this machine")
        pid, since = process
        if not is_alive(pid, since):
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"process {pid} of the run is gone")
        # Run monitoring reads the run again before it believes this: it may have ended just now.
        if self._pool.has(pid) and self._pool.run_of(pid) != run.run_id:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"worker process {pid} has left the run")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def local_origin(run: dg.DagsterRun) -> RepositoryPythonOrigin | None:
    """Return where a run's code is, if a process like this one can load it: same machine, same Python; else None."""
    if os.name != "posix" or run.job_code_origin is None or run.remote_job_origin is None:
        return None
    origin = run.job_code_origin.repository_origin
    server = run.remote_job_origin.repository_origin.code_location_origin
    if getattr(server, "host", HERE[0]) not in HERE or origin.container_image is not None:
        return None
    return origin if origin.executable_path == sys.executable else None


def version_of_code(origin: RepositoryPythonOrigin) -> str:
    """Return digest of what a worker's definitions are made from: source files, catalog, environment."""
    digest = hashlib.sha256()
    for path in sorted({*_files(Path(sae_assets.__file__).parent), *_files(_source(origin))}):
        try:
            stat = path.stat()
        except FileNotFoundError:  # it is being replaced; it has another time when it is there again
            continue
        digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for name in sorted(os.environ):
        if name.startswith("SAE_ASSETS_") or name == "DAGSTER_HOME":
            digest.update(f"{name}={os.environ[name]}\n".encode())
    catalog = os.environ.get(CATALOG_VARIABLE)
    if catalog and Path(catalog).is_file():
        digest.update(Path(catalog).read_bytes())
    return digest.hexdigest()


def _source(origin: RepositoryPythonOrigin) -> Path | None:
    """Return the file of the definitions, or the folder of their package."""
    pointer = origin.code_pointer
    if file := getattr(pointer, "python_file", None):
        return Path(file)
    package = getattr(pointer, "module", "").partition(".")[0]
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def _files(source: Path | None) -> Iterator[Path]:
    if source is not None and source.is_file():
        yield source
    for folder, _, names in os.walk(source) if source is not None else ():
        yield from (Path(folder, name) for name in names if name.endswith(CODE_SUFFIXES))


def is_here(run: dg.DagsterRun) -> bool:
    """Return whether a run's process is one of this machine."""
    launched = run.tags.get(GRPC_INFO_TAG)
    if launched:
        return json.loads(launched).get("host") in HERE
    return run.tags.get(HOST_TAG) == socket.gethostname()


def process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """Process id of a run's last process and when it reported itself; None if it never did."""
    for entry in reversed(instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        pid = getattr(data, "metadata", {}).get("pid")
        if pid is not None and str(pid.value).isdigit():
            return int(str(pid.value)), entry.timestamp
    return None
