"""Retries for what passes by itself: a busy disk, a lost connection, a full GPU. Everything else fails at once.

Wrong data, damaged files and bugs are not retried: they would fail again, later.
"""

import errno
import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import dagster as dg

from sae_assets.errors import SaeAssetsError

MAX_RETRIES, FIRST_WAIT_SECONDS = 3, 10.0
TRANSIENT_ERRNO = frozenset({errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENETDOWN, errno.ENETUNREACH,
                             errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOLCK})  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Return whether trying again can help: connection and time-out errors, a device out of memory, a busy file
    system."""
    if isinstance(error, SaeAssetsError):
        cause = error.__cause__
        return cause is not None and is_transient(cause)
    if isinstance(error, (ConnectionError, TimeoutError)) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, OSError) and error.errno in TRANSIENT_ERRNO


def retrying_transient(body: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Decorate an asset's body: ask Dagster to try again, later each time, if it fails for a transient reason.

    After ``MAX_RETRIES`` the error itself is raised.
    """

    @wraps(body)
    def tried(context: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from body(context, *args, **kwargs)
        except Exception as error:
            if not is_transient(error) or context.retry_number >= MAX_RETRIES:
                if isinstance(error, SaeAssetsError):  # a line of its own: in the failure event traces stand around it
                    context.log.error(str(error))
                raise
            wait = FIRST_WAIT_SECONDS * 2**context.retry_number
            context.log.warning(f"{type(error).__name__}: {error}. Trying again in {wait:.0f} s.")
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait) from error

    tried.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]  # Dagster asks for it many times
    return tried
