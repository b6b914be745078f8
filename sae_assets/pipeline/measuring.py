"""A pass and its steps are measured for the run's history: seconds and peak memory. Files hold none of it."""

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Event, Thread
from typing import Any

from sae_assets import ops

EVERY = 0.002  # seconds between two looks at the memory of the process
OF_A_PASS = 0.01  # the same, of the whole process
READING = "reading"  # the step of a pass in which it collects what it then holds of all examples at once
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class Meter:
    """Seconds and peak bytes of named steps.

    Seconds are of CPU, of all threads of the process, so that nothing else on the machine plays a part; on a GPU, for
    which the CPU only waits, they are those that pass.

    Peak bytes are how much more memory is in use at most than when the step began: on a GPU by torch's count, else by
    that of the C library, looked at every 2 ms, of all threads of the process. Where it does not count (it is glibc's),
    the resident memory of the process stands for it, which does not show what is taken from memory freed earlier.
    """

    def __init__(self, device: Any):
        self._device = device
        self._clock = time.perf_counter if str(device).startswith("cuda") else time.process_time
        self.seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what is done within; a step that is repeated adds up, its peak is the highest."""
        stop, peak = Event(), [0]
        first = _in_use()

        def watch() -> None:
            while not stop.wait(EVERY):
                peak[0] = max(peak[0], (_in_use() or 0) - (first or 0))

        watcher = Thread(target=watch, daemon=True)
        before = ops.device.begin_peak(self._device)
        watcher.start()
        start = self._clock()
        try:
            yield
            on_device = ops.device.end_peak(self._device)
        finally:
            stop.set()
            watcher.join()
        self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - start
        if before is not None and on_device is not None:
            peak[0] = on_device - before
        if first is not None or before is not None:
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), peak[0])

    @property
    def figures(self) -> dict[str, float]:
        """``seconds[step]`` and ``peak_bytes[step]`` of every step."""
        return {
            **{f"seconds[{name}]": value for name, value in self.seconds.items()},
            **{f"peak_bytes[{name}]": float(value) for name, value in self.peak_bytes.items()},
        }


class PassMeter:
    """Seconds of CPU (all threads) of what is done within, and the most resident memory of the process meanwhile.

    Attributes:
        peak_bytes: with everything that the process holds, libraries included; None where the system does not tell.
        held_bytes: the same before anything was done.
    """

    def __init__(self) -> None:
        self.cpu_seconds, self.held_bytes = 0.0, _resident()
        self.peak_bytes = self.held_bytes
        self._stop = Event()
        self._watcher = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PassMeter":
        self._start = time.process_time()
        self._watcher.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._watcher.join()
        self._look()
        self.cpu_seconds = time.process_time() - self._start

    def _watch(self) -> None:
        while not self._stop.wait(OF_A_PASS):
            self._look()

    def _look(self) -> None:
        now = _resident()
        if now is not None:
            self.peak_bytes = max(now, self.peak_bytes or 0)


class _Counts(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    ))  # fmt: skip


@cache
def _counter() -> Any:
    """Return the C library's own count of what is allocated; None where it has none."""
    counter = getattr(ctypes.CDLL(None), "mallinfo2", None) if os.name == "posix" else None
    if counter is not None:
        counter.restype = _Counts
    return counter


def _in_use() -> int | None:
    """Return bytes that this process has in use; None where the system does not tell."""
    counter = _counter()
    if counter is not None:
        counts = counter()
        return int(counts.uordblks + counts.hblkhd)
    return _resident()


def _resident() -> int | None:
    """Return bytes of memory that this process holds; None where the system does not tell."""
    try:
        # Not by pathlib: it is asked a hundred times a second, which was a twentieth of all that a run computed.
        file = os.open("/proc/self/statm", os.O_RDONLY)
        try:
            return int(os.read(file, 100).split()[1]) * PAGE
        finally:
            os.close(file)
    except OSError:
        return None
