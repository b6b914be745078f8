"""Processes that prepare inputs ahead of a GPU, as fast as Python's lock keeps threads of one process from doing.

What they do is the same function that threads would call, so what comes out is the same bits. They are forked from a
server process without a device (``forkserver``), start while the model is loaded, ignore Ctrl-C, which is their
parent's to answer, and end with their parent, however it ends.
"""

import io
import os
import pickle
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from sae_assets.errors import DecodingError
from sae_assets.rows.passes import in_groups
from sae_assets.rows.threads import prepared
from sae_assets.settings import PIXELS_VARIABLE, PROCESSES_VARIABLE, decoding_processes

T = TypeVar("T")
R = TypeVar("R")

LEAST_CORES = 4  # with fewer, hardly any are left beside the process that feeds the device
AT_ONCE = 8  # items of one task, whose way there and back takes as long as that of one

_work: Callable[[Any], Any] = str  # what this process was started for


def number_of_processes(device: Any) -> int:
    """How many processes prepare inputs for a device: as the environment says, else one per core for a GPU.

    None (0) where there are few cores, or where the program is a script that each process would carry out once more.
    """
    if (chosen := decoding_processes()) is not None:
        return chosen
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return n_cores if str(device).startswith("cuda") and n_cores >= LEAST_CORES and _loads_quietly() else 0


def _loads_quietly() -> bool:
    """Whether the program can be loaded in another process and does nothing there, as Python's processes have to.

    A module that is run (``python -m``, as workers are) does; so does a script that asks for its ``__name__``, as those
    that pip installs do (``sae-assets``); of what was typed in (``python -c``, a notebook) nothing is loaded.
    """
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is not None or getattr(main, "__file__", None) is None:
        return True
    try:
        return "__name__" in Path(str(main.__file__)).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


class Processes(Generic[T, R]):
    """Processes that wait for items; they end when nothing refers to this object any more.

    Args:
        work: what is done to an item; sent to each process once, by pickle.
        n: how many processes; 0: threads do all the work.
    """

    def __init__(self, work: Callable[[T], R], n: int):
        self._work, self._starting = work, threading.Event()
        self._pool: ProcessPoolExecutor | None = None
        if n:
            pool = _pool(work, n)
            weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)
            threading.Thread(target=self._start, args=(pool, n), name="start-processes", daemon=True).start()
        else:
            self._starting.set()

    def _start(self, pool: ProcessPoolExecutor, n: int) -> None:
        """Start all processes. Whatever keeps them from it, threads go on."""
        try:
            for future in [pool.submit(_nothing) for _ in range(n)]:
                future.result()
            self._pool = pool
        except Exception as error:  # whatever it is, or the program has ended
            if threading.main_thread().is_alive():
                print(f"Images are decoded by threads, since processes did not start: {error!r}", file=sys.stderr)
        finally:
            self._starting.set()

    def wait(self) -> bool:
        """Wait until processes have started; whether they did."""
        self._starting.wait()
        return self._pool is not None

    def prepared(self, items: Iterable[T], n_ahead: int, *, apart: bool) -> Iterator[R]:
        """What is made of each item, in order, while earlier ones are used; by threads until processes have started.

        Args:
            n_ahead: items that may be prepared before they are asked for; apart: whether items can be sent to others.

        Raises:
            DecodingError: a process was ended by somebody else. Or what the work itself raises, in its turn.
        """
        pool = self._pool
        if pool is None or not apart:
            yield from prepared(self._work, items, n_ahead)
            return
        waiting: deque[Future[list[R]]] = deque()
        most = max(1, n_ahead // AT_ONCE)
        try:
            for group in in_groups(items, AT_ONCE):
                waiting.append(pool.submit(_done, group))
                if len(waiting) > most:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool:
            self._pool = None
            raise DecodingError(
                "A process that decodes images was ended from outside, perhaps because memory ran out. Try again, "
                f"with fewer of them ({PROCESSES_VARIABLE}; 0: threads)."
            ) from None
        finally:
            for each in waiting:
                each.cancel()


def _pool(work: Callable[[T], R], n: int) -> ProcessPoolExecutor:
    context = get_context("forkserver")
    # Loaded once, before processes are forked; without effect where a server runs already.
    main = getattr(sys.modules["__main__"], "__spec__", None)
    context.set_forkserver_preload([*_modules_of(work), "__main__" if main is None else main.name])
    return ProcessPoolExecutor(n, context, initializer=_begin, initargs=(work, os.environ.get(PIXELS_VARIABLE)))


def _modules_of(work: Callable[[T], R]) -> list[str]:
    """The modules that a process loads when it is sent the work."""

    class Modules(pickle.Unpickler):
        found: ClassVar[set[str]] = {__name__}

        def find_class(self, module: str, name: str) -> Any:
            self.found.add(module)
            return super().find_class(module, name)

    reader = Modules(io.BytesIO(pickle.dumps(work)))
    reader.load()
    return sorted(reader.found)


def _begin(work: Callable[[Any], Any], most_pixels: str | None) -> None:
    """What a process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    global _work
    _work = work
    torch.set_num_threads(1)
    os.environ[PIXELS_VARIABLE] = most_pixels or ""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent does, even if it was killed: the pool's own queue would be waited at for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _nothing() -> None:
    pass


def _done(items: list[Any]) -> list[Any]:
    return [_work(item) for item in items]
