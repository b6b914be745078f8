"""Carrying a plan out in this process, one Dagster run per batch, until nothing of it is to be made any more.

The command line and the demo call this; the UI and the daemon need none of it. Every run is an ordinary Dagster run of
the instance, with its events, checks and metadata. What is to be made, and in which order, is ``pipeline.planning``'s.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.assets.factory import passes_of
from sae_assets.orchestration.history import failed_checks, first_cause, history_of, is_of_data
from sae_assets.orchestration.instance.abandoned import settle, waited_for
from sae_assets.orchestration.instance.home import CODE_LOCATION
from sae_assets.orchestration.instance.launcher import HOST_TAG, PROCESS_TAG
from sae_assets.orchestration.instance.output import copied_along
from sae_assets.orchestration.internals import RunsHere, copy_output_by, looking_for_slots
from sae_assets.orchestration.marker import tell
from sae_assets.orchestration.partitions import asset_key, partition_key
from sae_assets.pipeline.options import RunOptions
from sae_assets.pipeline.planning import Batch, History, Outlook, Plan, Scope, slot_of
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.staleness import Staleness
from sae_assets.storage.address import Address
from sae_assets.storage.snapshot import StoreSnapshot
from sae_assets.storage.store import ArtifactStore

MOST_SHOWN = 20  # failures that a message names
MOST_TIMES = 3  # that a command makes one artifact, which is due again only if what it reads changes meanwhile
SLOT_SECONDS = 1.0  # between two looks for a free slot of a pool
SETTLE_SECONDS, TELL_SECONDS = 5.0, 60.0  # of waiting for one, after which who has it is looked at, and said again
OnBatch = Callable[[Batch, int, int, Sequence[Batch]], None]


class RunFailedError(SaeAssetsError, RuntimeError):
    """A Dagster run failed; the message is that of the step's own error.

    Attributes:
        one_chunk: the chunk's own data is at fault, so other chunks are worth trying.
    """

    def __init__(self, message: str, problems: Sequence[str] = (), *, one_chunk: bool = False):
        super().__init__(message, problems)
        self.one_chunk = one_chunk


class Runner:
    """Makes what a scope lacks, against an instance.

    Args:
        chunks: registered chunk keys by data set.
        force: make also what is up to date, and what was imported.
        on_batch: told before each run (batch, number, how many are planned so far, those that are planned behind it).
        on_warning: told of every check that failed and blocks nothing (partition, what it found).
        on_wait: told who has the pool's slot that a run waits for, and what was done about those who died with one.
        told_to_end: whether a signal has come that is to end this command.
        debug: show every Dagster event.
    """

    def __init__(
        self,
        catalog: Catalog,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        store: ArtifactStore,
        chunks: Mapping[str, Sequence[str]],
        *,
        options: RunOptions | None = None,
        force: bool = False,
        on_batch: OnBatch = lambda *_: None,
        on_warning: Callable[[str, str], None] = lambda *_: None,
        on_wait: Callable[[str], None] = lambda _: None,
        told_to_end: Callable[[], bool] = lambda: False,
        debug: bool = False,
    ):
        self._catalog, self._instance, self._store, self._chunks = catalog, instance, store, chunks
        self._options, self._force, self._debug = options or RunOptions(), force, debug
        self._on_batch, self._on_warning, self._on_wait = on_batch, on_warning, on_wait
        self._told_to_end = told_to_end
        self._told, self._settled = ("", 0.0), 0.0
        self._runs = RunsHere(definitions.resolve_implicit_global_asset_job_def(), *CODE_LOCATION)
        self._graph = definitions.resolve_asset_graph()
        self._configs = {
            one_pass.key(name): (one_pass.name, one_pass.stage.options)
            for entry in catalog.datasets.values()
            for one_pass in passes_of(catalog, entry)
            for name in one_pass.outputs
        }

    def run(self, scopes: Sequence[Scope]) -> tuple[int, int]:
        """Make what is to be made; (runs made, runs that were not needed).

        A chunk whose data is at fault holds up what is made from it and no other chunk; any other error, which would
        meet other chunks too, holds up its model (its data set, where no model is in play). Everything else is made.

        Raises:
            RunFailedError: the runs that failed, when everything else is done. What was done stays.
        """
        n_runs = 0
        tried: list[Batch] = []
        busy: set[tuple[Any, ...]] = set()  # what was made, tried or held up
        failures: list[RunFailedError] = []
        for scope in scopes:
            runs, outlook = self._make(scope, tried, failures)
            n_runs += runs
            busy |= {slot_of(address) for address in scope.addresses() if outlook.is_due(address)}
            tell(self._instance, self._graph, outlook)
        busy |= {slot_of(address) for batch in tried for address in batch.addresses}
        spared = len(set().union(*(scope.slots() for scope in scopes)) - busy)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            what = f"{len(failures)} runs failed; {n_runs} that do not need them were made, {spared} were up to date."
            ellipsis = [f"… and {len(failures) - MOST_SHOWN} more"] if len(failures) > MOST_SHOWN else []
            raise RunFailedError(what, [*(str(error) for error in failures[:MOST_SHOWN]), *ellipsis])
        return n_runs, spared

    def plan(self, scope: Scope) -> tuple[Outlook, Plan]:
        """Return what :meth:`run` finds when it begins, and what it would make then; nothing is made."""
        outlook = self._outlook(scope)
        return outlook, self._plan(outlook)

    def _plan(self, outlook: Outlook) -> Plan:
        """Return what a person has asked for: also what failed before."""
        return outlook.plan(hold_failed=False, force=self._force)

    def _make(self, scope: Scope, tried: list[Batch], failures: list[RunFailedError]) -> tuple[int, Outlook]:
        """Plan and carry out until nothing can be made any more; how many runs succeeded, and what is there then."""
        n_runs, stopped, progress, times, passed = 0, set[Address](), True, Counter[Address](), set[Address]()
        outlook = self._outlook(scope)
        while progress:
            progress, before = False, len(tried)
            plan = self._plan(outlook)
            for address in sorted(plan.left_out - stopped, key=str):  # imported, and its examples have changed
                failures.append(
                    RunFailedError(
                        f"{address} was imported and its examples have changed since. Import it again "
                        f"({address.importing}), or add --force to encode it anew."
                    )
                )
                stopped.add(address)
            sequence = plan.in_sequence
            total = len(tried) + len(sequence)
            for index, batch in enumerate(sequence, 1):
                left = batch.without(self._holding(batch, stopped))
                stopped |= set(batch.addresses) - set(left.addresses if left else ())
                if left is not None and batch.waits_for and not self._force:
                    # What it waited for may have come out as it was.
                    left = left.without(self._made_meanwhile(left, outlook.history))
                if left is None:
                    continue
                if times[left.addresses[0]] == MOST_TIMES and not self._force:
                    reason = outlook.reason(left.addresses[0])
                    failures.append(
                        RunFailedError(
                            f"{left.label} was made {MOST_TIMES} times and is due again ({reason}): what it reads is "
                            "changed meanwhile. Try again once nobody changes it."
                        )
                    )
                    stopped |= set(left.addresses)
                    continue
                times.update(left.addresses)
                tried.append(left)
                self._on_batch(left, len(tried), total, sequence[index:])
                try:
                    self.execute(left)
                except RunFailedError as error:
                    failures.append(error)
                    stopped |= set(left.addresses)
                    if not error.one_chunk:
                        stopped |= {each for each in scope.addresses() if left.model in (None, each.model)}
                else:
                    n_runs, progress = n_runs + 1, not self._force
                    passed |= set(left.addresses)
            if len(tried) > before:
                outlook = self._outlook(scope, passed)
        return n_runs, outlook

    def _holding(self, batch: Batch, stopped: set[Address]) -> set[Address]:
        """Return what keeps artifacts of a batch from being made; where gaps are allowed, no chunk keeps an
        aggregate."""
        if self._options.of(STAGES[batch.stages[0]].options).allows_gaps:
            return {address for address in stopped if address.chunk is None}
        return stopped

    def _made_meanwhile(self, batch: Batch, history: History) -> set[Address]:
        """Return artifacts of a batch that are current after all, now that what they read is there.

        What no run is recorded of, or did not pass a check, is made in any case.
        """
        staleness = Staleness(self._catalog, self._store, self._chunks, self._options)
        return {
            address
            for address in batch.addresses
            if address in (history.recorded or ())
            and address not in history.unchecked
            and staleness.is_current(address)
        }

    def _outlook(self, scope: Scope, passed: Set[Address] = frozenset()) -> Outlook:
        """Return what is there now. Runs of others are not waited for: a person asked for this one.

        Args:
            passed: made by this command, with all checks. While a run of somebody else makes one of them too, its
                checks are to come again: two commands would make it by turns.
        """
        staleness = Staleness(self._catalog, StoreSnapshot(self._store), self._chunks, self._options)
        history = history_of(self._instance, self._catalog.datasets[scope.dataset])
        unchecked = set(history.unchecked) - (passed & set(history.running))
        return Outlook(scope, staleness, replace(history, running=frozenset(), unchecked=unchecked))

    def execute(self, batch: Batch) -> None:
        """Make one batch as one Dagster run.

        Raises:
            RunFailedError: the run failed.
        """
        keys = [asset_key(address) for address in batch.addresses]
        partition = partition_key(batch.addresses[0])
        ops = {}
        for key in keys:
            name, kind = self._configs[key]
            if kind.model_fields:
                ops[name] = {"config": self._options.of(kind).model_dump(exclude_none=True)}
        console = "DEBUG" if self._debug else "CRITICAL"
        run_config = {"ops": ops, "loggers": {"console": {"config": {"log_level": console}}}}
        tags = {"dataset": batch.dataset, "stages": "+".join(batch.stages)}
        tags |= {HOST_TAG: socket.gethostname(), PROCESS_TAG: str(os.getpid())}
        with copy_output_by(copied_along), looking_for_slots(SLOT_SECONDS, self._wait):
            run_id, succeeded, events = self._runs.execute(
                self._instance, keys, partition, run_config=run_config, tags=tags, told_to_end=self._told_to_end
            )
        for warning in failed_checks(events, dg.AssetCheckSeverity.WARN):
            self._on_warning(partition, warning)
        if not succeeded:
            cause = first_cause(events) or "Dagster gave no reason; see the run in the UI"
            raise RunFailedError(
                f"{batch.label} failed (run {run_id}): {cause}",
                one_chunk=batch.chunk is not None and is_of_data(events),
            )

    def _wait(self, run_id: str) -> None:
        """A run of this command waits for a slot: settle what killed processes hold, and say who has it."""
        now = time.monotonic()
        if now - self._settled > SETTLE_SECONDS:
            self._settled = now
            for done in settle(self._instance):
                self._on_wait(done)
        last_run, last = self._told
        if run_id != last_run or now - last > TELL_SECONDS:
            self._told = run_id, now
            for pool, holders in waited_for(self._instance, run_id):
                self._on_wait(f"Waiting for a slot of pool {pool!r}, which {holders} has. Ctrl-C ends this.")
