"""The process that executes runs one after another, so that libraries, definitions and weights are loaded once.

It is started by ``workers.Pool`` (``python -m sae_assets.orchestration.instance.worker SOCKET PARENT``) and ends with
it: when it is told to, when the socket's other end is closed, or when its parent is another process than it was. It
does for each run what Dagster's ``dagster api execute_run`` does in a process of its own.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import dagster as dg

from sae_assets.orchestration.instance.engines import keep_engines
from sae_assets.orchestration.instance.output import copied_along
from sae_assets.orchestration.internals import (
    copy_output_by,
    execute_run,
    instance_of,
    interruptible,
    looking_for_slots,
)
from sae_assets.package import collect_seldom, end_with

LOOK_SECONDS = 5.0  # between two looks at whether the run is to be canceled, or the parent is gone
END_SECONDS = 15.0  # for a run to end after the pool has gone
SLOT_SECONDS = 0.5  # between two looks for a free slot of a pool; Dagster's grow to 15, in which nobody may have it
STOPPED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)


class WorkerProcess:
    """Executes runs in the main thread, where signals arrive; another thread listens to the pool."""

    def __init__(self, channel: Connection, parent: int):
        self._channel, self._parent = channel, parent
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._instances: dict[str, dg.DagsterInstance] = {}
        self._current: tuple[str, dg.DagsterInstance] | None = None
        self._lock = threading.Lock()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)

    def work(self) -> None:
        """Execute runs until the pool tells this worker to end, or is gone."""
        # Ctrl-C reaches the whole process group: a run is interrupted by it, an idle worker ends with its pool.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGUSR1, self._wake)
        threading.Thread(target=self._listen, daemon=True).start()
        while (message := self._messages.get()) is not None:
            finished, stays = self._execute(message["run_id"], message["instance"])
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Dagster leaves it with the meaning of Ctrl-C
            try:
                self._channel.send_bytes(json.dumps({"finished": finished, "stays": stays}).encode())
            except OSError:
                break

    def _wake(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_writer, b".")

    def _execute(self, run_id: str, reference: str) -> tuple[bool, bool]:
        """Execute a run; whether it has an end in Dagster's history, and whether this process may execute another.

        After a run that failed or was canceled it may not: an exception can come at any point of any library, and
        what it leaves behind (a CUDA device after a failed assertion, half of an import) would meet the next run.
        """
        with interruptible():
            try:
                if reference not in self._instances:
                    self._instances[reference] = instance_of(reference)
                instance = self._instances[reference]
                with self._lock:
                    self._current = run_id, instance
                try:
                    execute_run(instance, run_id)
                finally:
                    with self._lock:
                        self._current = None
                run = instance.get_run_by_id(run_id)
            except BaseException as error:  # whatever it is, the pool has to hear that the run is not going on
                print(f"Run {run_id} left its worker by {error!r}", file=sys.stderr)
                return False, False
        return run is None or run.is_finished, run is not None and run.status is dg.DagsterRunStatus.SUCCESS

    def _listen(self) -> None:
        while True:
            ready = wait([self._channel, self._wake_reader], LOOK_SECONDS)
            if self._wake_reader in ready:
                os.read(self._wake_reader, 1024)
            if self._channel in ready:
                try:
                    message = self._channel.recv_bytes()
                except (EOFError, OSError):
                    break
                if not message:
                    break
                self._messages.put(json.loads(message))
            elif os.getppid() != self._parent:  # another process may hold the socket open
                break
            else:
                self._interrupt_if_stopped()
        self._messages.put(None)
        with self._lock:
            if self._current:
                signal.raise_signal(signal.SIGINT)
        time.sleep(END_SECONDS)
        os._exit(1)

    def _interrupt_if_stopped(self) -> None:
        with self._lock:
            if self._current is None:
                return
            run_id, instance = self._current
            with suppress(Exception):  # storage that does not answer now is asked again
                run = instance.get_run_by_id(run_id)
                if run is None or run.status in STOPPED:
                    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Serve the pool whose socket and process id are the arguments."""
    collect_seldom()
    keep_engines()
    with copy_output_by(copied_along), looking_for_slots(SLOT_SECONDS):
        WorkerProcess(Connection(int(sys.argv[1])), int(sys.argv[2])).work()
    end_with(0)


if __name__ == "__main__":
    main()
