"""A process that was killed leaves runs without an end in Dagster's history, and slots of pools that nobody uses.

Where a daemon works, run monitoring ends such runs and frees their slots. A command needs no daemon: whoever opens a
home looks first, and again while a step waits for a slot. Runs of other machines are not judged.
"""

import time
from collections.abc import Iterator

import dagster as dg

from sae_assets.orchestration.instance.launcher import HOST_TAG, PROCESS_TAG, WORKER_TAG, is_here, process_of
from sae_assets.orchestration.internals import NEVER_AGAIN, hand_on_slots
from sae_assets.storage.processes import is_alive

# A run that is queued waits for a daemon: it has no process that could have died.
STARTED = [
    dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]  # fmt: skip
LAUNCH_SECONDS = 60.0  # that a worker may take to start, on a busy machine
ELSEWHERE_SECONDS = 60.0  # after the end of a run whose process cannot be asked for; Dagster's daemon waits as long


def settle(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose processes are gone and free the slots that ended runs hold; what was done, a sentence each."""
    done = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=STARTED)):
        run = record.dagster_run
        pid = dead_process(instance, record)
        if pid is None:
            continue
        message = f"Process {pid} of the run is gone."
        if PROCESS_TAG in run.tags:  # the command is given again by whoever gave it
            instance.add_run_tags(run.run_id, NEVER_AGAIN)
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
        done.append(f"Run {run.run_id[:8]} of process {pid}, which is gone, is marked as failed.")
    return done + list(_free_slots(instance))


def dead_process(instance: dg.DagsterInstance, record: dg.RunRecord) -> int | None:
    """Return the process id of an unfinished run whose process is not there any more; None if it is, or cannot be
    known."""
    process = _process(instance, record)
    if process is None or is_alive(*process):
        return None
    latest = instance.get_run_by_id(record.dagster_run.run_id)  # it may have ended between the two looks
    return None if latest is None or latest.is_finished else process[0]


def _process(instance: dg.DagsterInstance, record: dg.RunRecord) -> tuple[int, float] | None:
    """Process id of a run, and a time at which it was there; None of another machine's, and where neither is known."""
    run = record.dagster_run
    process = process_of(instance, run.run_id) if is_here(run) else None
    if process is None and is_here(run) and PROCESS_TAG in run.tags:
        return int(run.tags[PROCESS_TAG]), record.create_timestamp.timestamp()
    if process is None and is_here(run) and WORKER_TAG in run.tags:
        launched = instance.get_run_stats(run.run_id).launch_time
        return None if launched is None else (int(run.tags[WORKER_TAG]), launched + LAUNCH_SECONDS)
    return process


def _free_slots(instance: dg.DagsterInstance) -> Iterator[str]:
    """Free what ended or deleted runs hold of pools, or wait for."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    pools = storage.get_concurrency_keys()
    waiting = storage.get_concurrency_run_ids()  # of every step that has a slot or waits for one, unless half freed
    holding = {run_id: pool for pool in pools for run_id in storage.get_concurrency_info(pool).active_run_ids}
    for run_id in {*waiting, *holding}:
        record = instance.get_run_record_by_id(run_id)
        if record is not None and not _is_over(instance, record):
            continue
        storage.free_concurrency_slots_for_run(run_id)
        if run_id in holding:
            yield f"The slot of pool {holding[run_id]!r} that run {run_id[:8]} had, which has ended, is free again."
    hand_on_slots(storage, pools)


def _is_over(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Return whether a run has ended and its process surely has left it."""
    if not record.dagster_run.is_finished:
        return False
    process = _process(instance, record)
    if process is not None and not is_alive(*process):
        return True
    return record.end_time is None or time.time() - record.end_time > ELSEWHERE_SECONDS


def waited_for(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[str, str]]:
    """Yield each pool of which a run waits for a slot, with the runs that have its slots, as a person reads them."""
    storage = instance.event_log_storage
    for pool in sorted(storage.get_concurrency_keys()):
        info = storage.get_concurrency_info(pool)
        if run_id in info.pending_run_ids | info.assigned_run_ids and run_id not in info.active_run_ids:
            yield pool, " and ".join(_named(instance, holder) for holder in sorted(info.active_run_ids)) or "nobody"


def _named(instance: dg.DagsterInstance, run_id: str) -> str:
    run, process = instance.get_run_by_id(run_id), process_of(instance, run_id)
    parts = [f"run {run_id[:8]}"]
    if process is not None:
        host = run.tags.get(HOST_TAG) if run is not None else None
        parts.append(f"process {process[0]}" + (f" on {host}" if host else ""))
    return ", ".join(parts)
