"""Transient failures are tried again, later each time, and everything else fails at once; in a real run too."""

import errno
import inspect
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import torch

from sae_assets.errors import DatasetError, StoredFileError
from sae_assets.orchestration import retries
from sae_assets.orchestration.retries import MAX_RETRIES, is_transient, retrying_transient

PASSING = [
    ConnectionResetError("reset"),
    TimeoutError("too slow"),
    OSError(errno.EIO, "input/output error"),
    OSError(errno.ESTALE, "stale file handle"),
    torch.OutOfMemoryError("CUDA out of memory"),
]
LASTING = [
    FileNotFoundError(errno.ENOENT, "no such file"),
    PermissionError(errno.EACCES, "permission denied"),
    OSError(errno.ENOSPC, "no space left on device"),
    ValueError("a bug"),
    DatasetError("the table is wrong"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_by_itself_is_transient(error):
    assert is_transient(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_would_fail_again_is_not(error):
    assert not is_transient(error)


def test_our_own_error_is_as_transient_as_its_cause():
    def caused(cause: Exception) -> StoredFileError:
        try:
            raise StoredFileError("cannot be read") from cause
        except StoredFileError as error:
            return error

    assert is_transient(caused(TimeoutError("slow")))
    assert not is_transient(caused(ValueError("damaged")))


def run(failures: list[Exception], monkeypatch: pytest.MonkeyPatch) -> tuple[dg.ExecuteInProcessResult, list[int]]:
    """A run of an asset whose first attempts fail like this; its result and the number of each attempt."""
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    attempts: list[int] = []

    @dg.asset
    @retrying_transient
    def flaky(context: dg.AssetExecutionContext) -> Iterator[Any]:
        attempts.append(context.retry_number)
        if context.retry_number < len(failures):
            raise failures[context.retry_number]
        yield dg.Output(1)

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([flaky], instance=instance, raise_on_error=False, run_config=quiet)
    return result, attempts


def waits(result: dg.ExecuteInProcessResult) -> list[float]:
    return [
        event.step_retry_data.seconds_to_wait
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY
    ]


def test_a_run_gets_over_two_lost_connections(monkeypatch):
    result, attempts = run([ConnectionError("lost"), TimeoutError("slow")], monkeypatch)
    assert result.success
    assert attempts == [0, 1, 2]
    assert waits(result) == [0.01, 0.02]  # later each time


def test_a_bug_fails_at_once(monkeypatch):
    result, attempts = run([ValueError("a bug")], monkeypatch)
    assert not result.success
    assert attempts == [0] and waits(result) == []


def test_after_the_last_attempt_the_error_itself_is_raised(monkeypatch):
    result, attempts = run([ConnectionError(f"lost {number}") for number in range(10)], monkeypatch)
    assert not result.success
    assert attempts == list(range(MAX_RETRIES + 1))
    failure = next(event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert f"lost {MAX_RETRIES}" in failure.error.to_string()


def test_the_signature_is_the_body_s_and_is_not_made_anew() -> None:
    """Dagster asks for it many times for each asset."""

    def body(context: object, config: int, *, compute: str, **inputs: object) -> Iterator[str]:
        yield ""

    tried = retrying_transient(body)
    assert inspect.signature(tried) == inspect.signature(body)
    assert inspect.signature(tried) is inspect.signature(tried)
