"""A process that is still there is told from a later one that got its number."""

import os
from contextlib import suppress
from pathlib import Path

START_SLACK_SECONDS = 5.0  # a process is older than the first thing it writes


def is_alive(pid: int, since: float) -> bool:
    """Return whether a process that was there at ``since`` (seconds since the epoch) still is; a later one is
    another."""
    try:
        with suppress(PermissionError):  # somebody else's, which is judged by its start as well
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    started = _started(pid)
    return started is None or started <= since + START_SLACK_SECONDS


def _started(pid: int) -> float | None:
    """Return when a process started, seconds since the epoch, where the system tells; infinity if it is dead
    already."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    if fields[0] in ("Z", "X"):  # ended, and nobody has asked for its exit code
        return float("inf")
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
