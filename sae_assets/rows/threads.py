"""Threads that compute for this process, each for itself: none helps another with torch's work.

Threads that share one product wait for each other at its end, and on a busy machine that takes longer than the product.
"""

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from sae_assets import ops

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(calls: Sequence[Callable[[], R]]) -> list[R]:
    """Return the results of calls, in order, each computed by one thread, as many at a time as torch has threads here.

    The first call that fails is raised, once none goes on.
    """
    import torch

    waiting = [_kept(torch.get_num_threads()).submit(_plainly, call) for call in calls]
    try:
        wait(waiting)
    finally:
        for each in waiting:
            each.cancel()
    return [each.result() for each in waiting]


def _plainly(call: Callable[[], R]) -> R:
    """Return what the calling thread has set aside for itself, a new one has not."""
    with ops.process_state.plain_arithmetic():
        return call()


@functools.cache
def _kept(n_threads: int) -> ThreadPoolExecutor:
    """Return threads that stay, since libraries keep memory for each that multiplies."""
    threads = ThreadPoolExecutor(n_threads, thread_name_prefix="compute")
    _start_alone(threads, n_threads)
    return threads


def prepared(prepare: Callable[[T], R], items: Iterable[T], n_ahead: int) -> Iterator[R]:
    """Yield what threads make of each item, in order, while earlier ones are used.

    Args:
        n_ahead: items that may be prepared before they are asked for.
    """
    waiting: deque[Future[R]] = deque()
    n_threads = min(n_ahead, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="prepare") as threads:
        _start_alone(threads, n_threads)
        try:
            for item in items:
                waiting.append(threads.submit(prepare, item))
                if len(waiting) > n_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _start_alone(threads: ThreadPoolExecutor, n_threads: int) -> None:
    """Start the threads, whom no others help with torch's work: each would ask for as many as there are cores."""
    import torch

    barrier, here = threading.Barrier(n_threads + 1), torch.get_num_threads()

    def alone() -> None:
        torch.get_num_threads()  # or its first work would undo what follows
        torch.set_num_threads(1)  # of this thread, and of those that start from now on
        barrier.wait()

    for _ in range(n_threads):
        threads.submit(alone)
    barrier.wait()
    torch.set_num_threads(here)
