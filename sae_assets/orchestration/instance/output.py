"""Runs print into their logs, and from there to the output of the process that executes them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LOOK_SECONDS = 0.1  # between two looks at what was printed since
PART = 2**20  # bytes copied at once


@contextmanager
def copied_along(path: str, stream: IO[str]) -> Iterator[tuple[None, None]]:
    """Copy what comes into the log at ``path`` to ``stream`` as it was before, within a tenth of a second.

    In place of Dagster's ``tail_to_stream``, which starts two processes per stream for it, one of them Python: as much
    CPU as a small run of a warm process costs altogether. A thread ends with its process.
    """
    try:
        own = os.dup(stream.fileno())
    except (OSError, ValueError):  # no file behind it: nothing goes into the log then, either
        yield None, None
        return
    ended = threading.Event()
    with Path(path).open("rb") as log:
        log.seek(0, os.SEEK_END)

        def copy() -> None:
            with suppress(OSError):  # who read it has gone
                last = False
                while not last:
                    last = ended.wait(LOOK_SECONDS)
                    while part := log.read(PART):
                        while part:
                            part = part[os.write(own, part) :]

        thread = threading.Thread(target=copy, name="output", daemon=True)
        thread.start()
        try:
            yield None, None
        finally:
            ended.set()
            thread.join()
            os.close(own)
