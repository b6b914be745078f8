"""A pool of processes that stay alive between runs: starting them, handing runs over, noticing that they ended.

Nothing here knows Dagster: a run is an id and a message. What a worker does with it is ``worker``'s business, and
which runs go to workers is the launcher's. A worker and its pool share one socket pair and no port; whichever side
ends, the other reads the end of it.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import Any

LOOK_SECONDS = 2.0  # between two looks at what the socket does not tell: a worker's age, a death that a child hides
END_SECONDS = 30.0  # for a worker to end after it was told to
WORKER_MODULE = "sae_assets.orchestration.instance.worker"


@dataclass(frozen=True)
class Key:
    """A worker has loaded definitions: the key says where they are, and the version of all that they were made from."""

    definitions: str
    version: str


@dataclass
class Worker:
    """A worker process as its pool sees it.

    Attributes:
        channel: the pool's end of the socket pair.
        run_id: the run that it executes, None while it is idle; runs: how many it was handed.
        pools: of the runs that it was handed: what work for a pool needs (weights, say) is loaded here.
        since: when it became idle or busy, by the monotonic clock.
    """

    process: "subprocess.Popen[bytes]"
    channel: Connection
    key: Key
    run_id: str | None = None
    runs: int = 0
    pools: set[str] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.process.pid

    def suits(self, pools: set[str]) -> bool:
        """Return whether it has had runs of all these pools; for a run of none, whether it had none."""
        return pools <= self.pools if pools else not self.pools


class Pool:
    """Worker processes of one launcher.

    Args:
        limit: workers at a time; runs_per_worker: runs after which one is replaced; idle_seconds: after which it ends.
        on_lost: told of a run that its worker left unfinished (run id, process id, exit code; None: it still lives).
    """

    def __init__(
        self, limit: int, runs_per_worker: int, idle_seconds: float, on_lost: Callable[[str, int, int | None], None]
    ):
        self._limit, self._runs_per_worker, self._idle_seconds = limit, runs_per_worker, idle_seconds
        self._on_lost = on_lost
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def hand_over(
        self,
        run_id: str,
        message: dict[str, Any],
        key: Key,
        announce: Callable[[int], None],
        pools: Collection[str] = (),
    ) -> bool:
        """Give a run to an idle worker of this key, else to a new one.

        Args:
            pools: in which the run will claim slots. It goes to a worker that had runs of these pools if one is idle,
                a run without any to one that had none: the weights of a model are then in few processes.
            announce: told the worker's process id before it hears of the run.

        Returns:
            Whether a worker has it; False where all workers are busy.
        """
        while True:
            worker = self._take(run_id, key, set(pools))
            if worker is None:
                return False
            try:
                announce(worker.pid)
                worker.channel.send_bytes(json.dumps({**message, "run_id": run_id}).encode())
                return True
            except OSError:  # it ended while it was idle; its listener may have noticed before
                with self._lock:
                    lost = worker.run_id is None
                    worker.run_id = None
                    self._forget(worker)
                if lost:
                    return True
            except BaseException:  # the announcement failed: nobody has the run, and the worker is as it was
                with self._lock:
                    worker.run_id, worker.since = None, time.monotonic()
                raise

    def run_of(self, pid: int) -> str | None:
        """Return the run that the worker with this process id executes; None if it executes none or is not of this
        pool."""
        with self._lock:
            return next((worker.run_id for worker in self._workers if worker.pid == pid), None)

    def has(self, pid: int) -> bool:
        """Return whether this process is one of the pool's workers."""
        with self._lock:
            return any(worker.pid == pid for worker in self._workers)

    def close(self) -> None:
        """Tell all workers to end; runs that they execute are interrupted, and nobody is told."""
        with self._lock:
            self._closed = True
            for worker in [*self._workers]:
                self._dismiss(worker)

    def _take(self, run_id: str, key: Key, pools: set[str]) -> Worker | None:
        with self._lock:
            if self._closed:
                return None
            idle = [worker for worker in self._workers if worker.run_id is None]
            for worker in idle:
                if worker.key.definitions == key.definitions and worker.key != key:
                    self._dismiss(worker)  # what it has loaded is out of date
            # Of several the one that was busy last: the others grow old and end, so that no more stay than are of use.
            fitting = [one for one in idle if one.key == key]
            if fitting:
                worker = max(fitting, key=lambda one: (one.suits(pools), one.since))
            else:
                others = [one for one in idle if one.key.definitions != key.definitions]
                if len(self._workers) >= self._limit and others:
                    self._dismiss(min(others, key=lambda one: one.since))
                if len(self._workers) >= self._limit:
                    return None
                worker = self._start(key)
            worker.run_id, worker.since = run_id, time.monotonic()
            worker.runs += 1
            worker.pools |= pools
            return worker

    def _start(self, key: Key) -> Worker:
        ours, its = Pipe()
        with its:
            # In the launcher's own session and process group, so that what ends a whole group ends it too.
            process = subprocess.Popen(
                [sys.executable, "-m", WORKER_MODULE, str(its.fileno()), str(os.getpid())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )
        worker = Worker(process, ours, key)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=[worker], name=f"worker {process.pid}", daemon=True).start()
        return worker

    def _listen(self, worker: Worker) -> None:
        with suppress(EOFError, OSError):
            while True:
                if worker.channel.poll(LOOK_SECONDS):
                    self._ended_run(worker, json.loads(worker.channel.recv_bytes()))
                elif worker.process.poll() is not None:  # a child of it may hold the socket open
                    break
                else:
                    self._dismiss_if_idle_for_long(worker)
        with self._lock:
            run_id, worker.run_id = worker.run_id, None
            self._forget(worker)
            worker.channel.close()
        code = self._reap(worker)
        if run_id is not None and not self._closed:
            self._on_lost(run_id, worker.pid, code)

    def _ended_run(self, worker: Worker, message: dict[str, Any]) -> None:
        with self._lock:
            run_id, worker.run_id, worker.since = worker.run_id, None, time.monotonic()
            if not message["stays"] or worker.runs >= self._runs_per_worker:
                self._dismiss(worker)
        if not message["finished"] and run_id is not None and not self._closed:
            self._on_lost(run_id, worker.pid, None)

    def _dismiss_if_idle_for_long(self, worker: Worker) -> None:
        with self._lock:
            if worker.run_id is None and time.monotonic() - worker.since > self._idle_seconds:
                self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        self._forget(worker)
        with suppress(OSError):  # it has ended already
            worker.channel.send_bytes(b"")

    def _forget(self, worker: Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)

    @staticmethod
    def _reap(worker: Worker) -> int:
        try:
            return worker.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            return worker.process.wait()
