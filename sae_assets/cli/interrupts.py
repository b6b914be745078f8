"""Ctrl-C and SIGTERM: a command ends with one sentence and the exit code of the signal.

Either raises ``KeyboardInterrupt`` wherever Python is; while a run is made, Dagster first ends it as canceled. Where a
library takes that for an error of its own (an import that fails, and is tried again), the signal is still known here.
"""

import os
import signal
from contextlib import suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST_CODE = 128  # of a command that a signal ended, as shells say it: this and the signal's number

_pipe: list[int] = []
_came: list[int] = []


def heed_signals() -> None:
    """Let both signals raise ``KeyboardInterrupt``, and remember which one it was, for the rest of this process.

    Dagster puts a handler of its own in the place of both while a run is made, and does not say which one came: so the
    number is written to a pipe by Python itself.
    """
    _came.clear()
    if os.name == "posix":
        _pipe[:] = os.pipe()
        for end in _pipe:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def came() -> bool:
    """Return whether one of the signals came, and whatever was made of it."""
    with suppress(BlockingIOError):
        _came.extend(number for number in (os.read(_pipe[0], 1024) if _pipe else ()) if number in SIGNALS)
    return bool(_came)


def stop_if_told() -> None:
    """Raises: KeyboardInterrupt, one of the signals came and nobody has ended this command."""
    if came():
        raise KeyboardInterrupt


def exit_code() -> int:
    """Return the exit code of an interrupted command: 130 of Ctrl-C, 143 of SIGTERM."""
    return FIRST_CODE + (_came[0] if came() else signal.SIGINT)
