"""Progress of long loops: reported to whoever listens, to nobody by default.

The command line listens with a progress bar. A loop never knows who does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]  # label, examples done, their total

_LISTENER: ContextVar[Listener | None] = ContextVar("sae_assets_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of all loops inside to ``listener``."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def track(items: Sequence[T], label: str, size: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
    """Go through ``items``, telling the listener after each how many examples are done.

    Args:
        size: how many examples an item holds.
    """
    listener = _LISTENER.get()
    total, done = sum(map(size, items)), 0
    for item in items:
        yield item
        done += size(item)
        if listener is not None:
            listener(label, done, total)
