"""Progress of long loops: reported to whoever listens, to nobody by default.

The command line listens with a progress bar. A loop never knows who does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]  # label, done, total

_LISTENER: ContextVar[Listener | None] = ContextVar("sae_assets_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of all loops inside to ``listener``."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Go through ``items``, telling the listener after each."""
    listener = _LISTENER.get()
    for done, item in enumerate(items, start=1):
        yield item
        if listener is not None:
            listener(label, done, len(items))
