"""Ctrl-C and SIGTERM: a command ends with one sentence and the exit code of the signal.

Either raises ``KeyboardInterrupt`` wherever Python is; while a run is made, Dagster first ends it as canceled.
"""

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST_CODE = 128  # of a command that a signal ended, as shells say it: this and the signal's number

_pipe: list[int] = []


def heed_signals() -> None:
    """Let both signals raise ``KeyboardInterrupt``, and remember which one it was, for the rest of this process.

    Dagster puts a handler of its own in the place of both while a run is made, and does not say which one came: so the
    number is written to a pipe by Python itself.
    """
    if os.name == "posix":
        _pipe[:] = os.pipe()
        for end in _pipe:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def exit_code() -> int:
    """The exit code of an interrupted command: 130 of Ctrl-C, 143 of SIGTERM."""
    try:
        came = [number for number in os.read(_pipe[0], 1024) if number in SIGNALS] if _pipe else []
    except BlockingIOError:
        came = []
    return FIRST_CODE + (came[0] if came else signal.SIGINT)
