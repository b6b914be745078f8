"""Seconds of a real backfill of many tiny chunks, and where a run spends its own.

``sae-assets ui`` is started on a temporary home (webserver, daemon and code server, as a person starts them); the first
wave of a backfill (examples, encoding, truth, statistics, mapping) is launched as the schedule does and waited for.
Every chunk holds one example, so that hardly anything but the platform is measured. What was made is counted from
Dagster's history: each partition once, or the script fails. The same work is then done on another home by one
``sae-assets materialize``, which starts one process for all its runs.

CPU time is that of all processes of the UI's session, read from ``/proc`` twice a second (so on Linux only).

    python benchmarks/bench_backfill.py [--chunks 20] [--stage examples] [--home FOLDER] [--only command]
"""

import argparse
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

import dagster as dg
from bench_scale import NAME, land, write_catalog

from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration.automation.backfills import launch, n_partitions
from sae_assets.orchestration.partitions import asset_key, keys_of, partition_key
from sae_assets.pipeline.planning import Batch, History, Outlook, Scope
from sae_assets.pipeline.stages import STAGES

POLL_SECONDS, STOP_SECONDS = 1.0, 60.0
LAST = "unit_mapping"  # what one backfill makes up to
STARTED = ("Started process for run", "Started in worker process")
Kind = dg.DagsterEventType
# Where a run's time goes: from one event of its history to the next.
PARTS = (
    ("waits in the queue", "enqueued", "dequeued"),
    ("a worker takes it; a new one loads Python and Dagster", "dequeued", "process"),
    ("definitions load, job is built", "process", "run"),
    ("first step begins", "run", "step"),
    ("steps: libraries load, work, files, checks", "step", "steps"),
    ("run ends", "steps", "end"),
)
EVENTS = {
    Kind.RUN_ENQUEUED: "enqueued", Kind.RUN_STARTING: "dequeued", Kind.RUN_START: "run",
    Kind.STEP_START: "step", Kind.STEP_SUCCESS: "steps", Kind.RUN_SUCCESS: "end",
}  # fmt: skip


# What a process of the session is, by a part of its command line; the first that fits.
KINDS = (
    ("sae_assets.orchestration.instance.worker", "workers that execute runs"),
    ("dagster._daemon", "daemon"),
    ("dagster_webserver", "webserver"),
    ("code-server", "code server"),
    ("grpc", "code server"),
    ("multiprocessing", "processes of one run each"),
)


class Clock(threading.Thread):
    """CPU seconds of every process of a session, those that have ended included (but for their last half second)."""

    def __init__(self, session: int):
        super().__init__(daemon=True)
        self.session, self.seconds, self.ended = session, dict[int, float](), threading.Event()
        self.kinds: dict[int, str] = {}

    def kind(self, pid: int) -> str:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
        return next((kind for part, kind in KINDS if part in command), "others" if command else "")

    def by_kind(self) -> dict[str, tuple[int, float]]:
        """Number of processes and their CPU seconds."""
        sums: dict[str, tuple[int, float]] = {}
        for pid, seconds in self.seconds.items():
            number, so_far = sums.get(self.kinds[pid], (0, 0.0))
            sums[self.kinds[pid]] = number + 1, so_far + seconds
        return sums

    def run(self) -> None:
        while not self.ended.wait(0.5):
            for file in Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = file.read_text().rpartition(")")[2].split()
                except OSError:  # it has just ended
                    continue
                if int(fields[3]) == self.session:
                    ticks = int(fields[11]) + int(fields[12])
                    pid = int(file.parent.name)
                    # Asked every time: at first a process is a copy of the one that starts it.
                    self.kinds[pid] = self.kind(pid) or self.kinds.get(pid, "others")
                    self.seconds[pid] = ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def ui(home: Path, catalog: Path) -> Iterator[Clock]:
    """The UI with its daemon, as a person starts it, ended as by Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from sae_assets.cli import run; run()", "ui", "--port", str(port)]
    with (home / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--home", str(home), "--catalog", str(catalog)],
            cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        clock = Clock(process.pid)
        clock.start()
        try:
            yield clock
        finally:
            clock.ended.set()
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def timeline(instance: dg.DagsterInstance, run_id: str) -> dict[str, float]:
    """Return when a run's events happened: the first step's begin, the last one's end."""
    times: dict[str, float] = {}
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == Kind.ENGINE_EVENT and (event.message or "").startswith(STARTED):
            times["process"] = entry.timestamp
        name = EVENTS.get(event.event_type)
        if name and (name != "step" or name not in times):
            times[name] = entry.timestamp
    return times


def print_parts(instance: dg.DagsterInstance, runs: list[dg.DagsterRun]) -> None:
    by_kind: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        stages = "+".join(sorted(key.path[-1] for key in run.asset_selection or ()))
        by_kind.setdefault(stages, []).append(timeline(instance, run.run_id))
    for stages, lines in by_kind.items():
        print(f"{len(lines)} runs of {stages}, median seconds:")
        for label, since, until in PARTS:
            spent = [line[until] - line[since] for line in lines if since in line and until in line]
            if spent:
                print(f"  {label:60} {statistics.median(spent):9.2f} s")


def made(session: Session) -> Counter[tuple[str, str]]:
    """Return how often each (asset, partition) was materialized, as the history says."""
    counts: Counter[tuple[str, str]] = Counter()
    for key, _ in keys_of(session.catalog.datasets[NAME]):
        cursor, has_more = None, True
        while has_more:
            page = session.instance.fetch_materializations(key, limit=1000, cursor=cursor)
            cursor, has_more = page.cursor, page.has_more
            counts.update((key.to_user_string(), str(record.partition_key)) for record in page.records if record.run_id)
    return counts


def planned(session: Session, stage: str | None) -> list[Batch]:
    """Runs that make a stage alone, or everything up to the mapping."""
    scope = Scope.whole(session.catalog, NAME, session.chunks_of(NAME))
    stages = [stage] if stage else list(scope.stages)[: list(scope.stages).index(LAST) + 1]
    outlook = Outlook(replace(scope, stages=stages), session.outlook(NAME).staleness, History())
    return list(outlook.plan().in_sequence)


def measure_backfill(folder: Path, catalog: Path, count: int, stage: str | None) -> float:
    """Wall seconds of the backfill."""
    home = folder / "home"
    with open_session(home, catalog) as session:
        session.register(NAME)
        batches = planned(session, stage)
        print(f"{count} chunks of one example, {n_partitions(batches)} partitions, up to {stage or LAST}")
        with ui(home, catalog) as clock:
            start = time.perf_counter()
            launch(session.instance, session.catalog, batches, backfill_id="bench", kind="backfill")
            status = ""
            while not status.startswith(("COMPLETED", "FAILED", "CANCELED")):
                time.sleep(POLL_SECONDS)
                backfill = session.instance.get_backfill("bench")
                assert backfill is not None
                status = backfill.status.value
            seconds = time.perf_counter() - start
        runs = list(session.instance.get_runs())
        failed = [run for run in runs if run.status != dg.DagsterRunStatus.SUCCESS]
        cpu = sum(clock.seconds.values())
        print(f"backfill {status}: {len(runs)} runs, {len(failed)} of them not successful")
        print(f"{'wall':62} {seconds:9.1f} s {seconds / len(runs):9.2f} s per run")
        print(f"{'CPU, webserver, daemon and code server with it':62} {cpu:9.1f} s {cpu / len(runs):9.2f} s per run")
        for kind, (number, used) in sorted(clock.by_kind().items()):
            print(f"{f'  {number} {kind}':62} {used:9.1f} s {used / len(runs):9.2f} s per run")
        print_parts(session.instance, runs)
        addresses = [address for batch in batches for address in batch.addresses]
        expected = {(asset_key(each).to_user_string(), str(partition_key(each))): 1 for each in addresses}
        counts = made(session)
        assert counts == expected, f"not each partition once: {Counter(expected) - counts} {counts - Counter(expected)}"
        print(f"each of the {len(expected)} partitions was made exactly once")
    return seconds


def measure_command(folder: Path, catalog: Path, stage: str | None) -> float:
    """Wall seconds of one ``sae-assets materialize`` that makes the same."""
    home, last = folder / "home of the command", stage or LAST
    command = [sys.executable, "-c", "from sae_assets.cli import run; run()", "materialize", "-d", NAME, "--to", last]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, "--home", str(home), "--catalog", str(catalog), "--json"], check=True, stdout=subprocess.DEVNULL
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with open_session(home, catalog) as session:
        runs, counts = len(list(session.instance.get_runs())), made(session)
    assert set(counts.values()) == {1}, "not each partition once"
    print(f"the same by one `sae-assets materialize`: {runs} runs, {len(counts)} partitions, each once")
    print(f"{'wall, Python and libraries loaded once':62} {seconds:9.1f} s {seconds / runs:9.2f} s per run")
    print(f"{'CPU':62} {cpu:9.1f} s {cpu / runs:9.2f} s per run")
    return seconds


def measure(folder: Path, count: int, stage: str | None, only: str | None) -> None:
    land(folder / "data", count)
    catalog = write_catalog(folder, folder / "data", 1)
    backfill = measure_backfill(folder, catalog, count, stage) if only != "command" else None
    command = measure_command(folder, catalog, stage) if only != "backfill" else None
    if backfill and command:
        print(f"backfill / command, wall {backfill / command:43.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--stage", choices=list(STAGES), help="this one alone; what it reads must be there")
    parser.add_argument("--home", type=Path, help="an empty folder to keep; a temporary one otherwise")
    parser.add_argument("--only", choices=("backfill", "command"))
    arguments = parser.parse_args()
    if arguments.home:
        arguments.home.mkdir(parents=True, exist_ok=True)
        measure(arguments.home.absolute(), arguments.chunks, arguments.stage, arguments.only)
        return
    with tempfile.TemporaryDirectory(prefix="sae_assets_backfill_", ignore_cleanup_errors=True) as folder:
        measure(Path(folder), arguments.chunks, arguments.stage, arguments.only)


if __name__ == "__main__":
    main()
