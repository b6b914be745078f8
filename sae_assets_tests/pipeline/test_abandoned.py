"""What a killed process leaves in the history is settled by whoever opens the home next, or waits for it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._utils.interrupts import capture_interrupts

from sae_assets.orchestration.instance.abandoned import settle, waited_for
from sae_assets.orchestration.instance.home import open_instance
from sae_assets.orchestration.instance.launcher import HOST_TAG, PROCESS_TAG, WORKER_TAG
from sae_assets.orchestration.internals import NEVER_AGAIN, looking_for_slots
from sae_assets.settings import load_settings

HERE = socket.gethostname()
STARTED, CANCELING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings(tmp_path)) as found:
        yield found


@pytest.fixture(scope="module")
def ended() -> int:
    """Process id of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    return process.pid


def run_of(instance: dg.DagsterInstance, status: dg.DagsterRunStatus = STARTED, **tags: str) -> str:
    """A run with these tags; the host is this one unless it says otherwise."""

    @dg.job
    def nothing() -> None: ...

    names = {"process": PROCESS_TAG, "worker": WORKER_TAG}
    named = {HOST_TAG: tags.pop("host", HERE), **{names[name]: value for name, value in tags.items()}}
    return instance.create_run_for_job(nothing, status=status, tags=named).run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def claim(instance: dg.DagsterInstance, run_id: str) -> bool:
    return instance.event_log_storage.claim_concurrency_slot("gpu", run_id, "step").is_claimed


def holders(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_info("gpu").active_run_ids)


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, STARTED])
def test_run_of_a_dead_command_has_failed_and_its_slot_is_free(instance, ended, status) -> None:
    run_id = run_of(instance, status, process=str(ended))
    assert claim(instance, run_id)
    said = settle(instance)
    assert status_of(instance, run_id) == "FAILURE" and holders(instance) == set()
    assert str(ended) in said[0] and "gpu" in said[1]
    # The command is given again by a person: the daemon is not to do the same beside it.
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.tags.items() >= NEVER_AGAIN.items()
    assert settle(instance) == []


def test_run_that_was_being_canceled_is_canceled(instance, ended) -> None:
    run_id = run_of(instance, CANCELING, process=str(ended))
    settle(instance)
    assert status_of(instance, run_id) == "CANCELED"


@pytest.mark.parametrize(
    "tags",
    [{"process": str(os.getpid())}, {"process": "0", "host": "another-machine"}, {}, {"worker": "1"}],
    ids=["alive", "elsewhere", "unknown", "not-launched"],
)
def test_runs_that_may_be_alive_keep_their_slots(instance, tags) -> None:
    run_id = run_of(instance, **tags)
    assert claim(instance, run_id)
    assert settle(instance) == []
    assert status_of(instance, run_id) == "STARTED" and holders(instance) == {run_id}


def test_slots_of_runs_that_ended_or_were_deleted_are_freed(instance, ended) -> None:
    """One that was killed after its end was written and before its slot was given back; one that nobody remembers."""
    run_id = run_of(instance, process=str(ended))
    assert claim(instance, run_id)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)
    instance.report_engine_event("working", run, EngineEventData.in_process(ended))
    settle(instance)
    assert holders(instance) == set()
    assert claim(instance, "a run that was deleted")
    settle(instance)
    assert holders(instance) == set()


def test_step_that_waits_gets_a_slot_that_a_killed_process_had_half_given_back(instance, ended) -> None:
    """Dagster frees a slot, forgets the step and tells the next one, in three transactions."""
    first, second = run_of(instance, process=str(ended)), run_of(instance, process=str(os.getpid()))
    storage = instance.event_log_storage
    assert claim(instance, first) and not claim(instance, second)
    storage._free_concurrency_slots(first)
    storage._remove_pending_steps(first)
    assert not claim(instance, second)  # for ever
    settle(instance)
    assert claim(instance, second)


def test_who_waits_says_for_whom_looks_again_and_heeds_ctrl_c(instance, ended) -> None:
    holder, waiter = run_of(instance, process=str(os.getpid())), run_of(instance, process=str(os.getpid()))
    assert claim(instance, holder)
    waiting = instance.get_run_by_id(waiter)
    assert waiting is not None
    told: list[tuple[str, str]] = []
    with (
        InstanceConcurrencyContext(instance, waiting) as context,
        looking_for_slots(0.01, lambda run_id: told.extend(waited_for(instance, run_id))),
        capture_interrupts(),
    ):
        assert not context.claim("gpu", "step")
        context.interval_to_next_pending_claim_check()
        assert told == [("gpu", f"run {holder[:8]}")]
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            for _ in range(1000):
                context.interval_to_next_pending_claim_check()
                time.sleep(0.01)


def test_opening_a_home_settles_it(tmp_path, ended) -> None:
    with open_instance(load_settings(tmp_path)) as found:
        run_id = run_of(found, process=str(ended))
        assert claim(found, run_id)
    with open_instance(load_settings(tmp_path)) as found:
        assert status_of(found, run_id) == "FAILURE" and holders(found) == set()


def test_command_waits_for_a_living_run_says_so_and_goes_on_when_that_has_died(
    tmp_path, made_home, monkeypatch
) -> None:
    """What it waits for dies while it waits: no other process is needed to go on."""
    from sae_assets.commands.session import open_session
    from sae_assets.orchestration import runs

    monkeypatch.setattr(runs, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "SLOT_SECONDS", 0.05)
    places = made_home(tmp_path, "labels")
    said: list[str] = []
    with (
        subprocess.Popen(["sleep", "600"]) as other,
        open_session(places["home"], places["catalog"]) as session,
    ):
        holder = run_of(session.instance, process=str(other.pid))
        assert claim(session.instance, holder)

        def on_wait(text: str) -> None:
            said.append(text)
            other.kill()

        made, _ = session.materialize(["small"], chunks=["0"], last="sparse_activations", on_wait=on_wait)
        assert made == 1
        assert "Waiting for a slot of pool 'gpu'" in said[0] and holder[:8] in said[0] and "Ctrl-C" in said[0]
        assert any("is free again" in text for text in said)
        assert status_of(session.instance, holder) == "FAILURE" and holders(session.instance) == set()
