"""The plan of a data set: what is to be made, in which runs, and what each of them waits for.

One rule of who waits for whom, over the store, the history and the request. The command line carries a plan out,
backfills and automation submit it, ``status`` shows the states behind it. Nothing here knows Dagster.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, Literal

from sae_assets.catalog import Catalog
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.pipeline.staleness import Staleness
from sae_assets.storage.address import Address

State = Literal["current", "stale", "missing", "failed", "interrupted", "running", "inapplicable"]
STATES: dict[State, str] = {
    "current": "the file is what its stage would write now",
    "stale": "its inputs, the catalog, options or code have changed",
    "missing": "never made, or removed",
    "failed": "the last attempt failed; a file of an earlier one may be there",
    "interrupted": "Ctrl-C, SIGTERM or the UI ended the last attempt; a file of an earlier one may be there",
    "running": "a run is making it",
    "inapplicable": "its activations were imported, so the rows that it would be made from are not there",
}


@dataclass(frozen=True)
class Scope:
    """A scope is what is asked for: stages of a data set for these models, token kinds and chunks."""

    dataset: str
    models: Sequence[str]
    token_kinds: Sequence[str]
    chunks: Sequence[str]
    stages: Sequence[str] = field(default_factory=lambda: tuple(STAGES))

    @classmethod
    def whole(cls, catalog: Catalog, dataset: str, chunks: Sequence[str]) -> "Scope":
        """Return everything that a data set's registered chunks should have."""
        entry = catalog.datasets[dataset]
        return cls(dataset, entry.models, entry.token_kinds, chunks, stages_of(entry))

    def slots(self) -> set[tuple[Any, ...]]:
        """Return what single runs can make at most, of all of it."""
        return {slot_of(address) for address in self.addresses()}

    def addresses(self) -> Iterator[Address]:
        """Yield every artifact, inputs before what reads them."""
        for name in self.stages:
            stage = STAGES[name]
            if stage.level == "dataset-chunk":
                yield from (stage.address(self.dataset, chunk=chunk) for chunk in self.chunks)
                continue
            chunks: Sequence[str | None] = self.chunks if stage.level == "chunk" else [None]
            for kind in self.token_kinds:
                for model in self.models:
                    yield from (stage.address(self.dataset, kind, model, chunk) for chunk in chunks)


@dataclass(frozen=True)
class History:
    """A history is what is remembered of earlier runs, beside what the store holds.

    Attributes:
        recorded: artifacts that the history tells of; None where there is no history to ask.
        running: a queued or running run is to make them.
        failed: the last attempt to make them failed, and nothing that they read was made since.
        unchecked: a blocking check of them did not pass: nothing may be made from them.
        interrupted: of those that failed or are unchecked: somebody ended the last attempt, and nothing was wrong.
    """

    recorded: Collection[Address] | None = None
    running: Collection[Address] = frozenset()
    failed: Collection[Address] = frozenset()
    unchecked: Collection[Address] = frozenset()
    interrupted: Collection[Address] = frozenset()


@dataclass(frozen=True)
class Batch:
    """One run: artifacts of one partition, inputs first.

    Attributes:
        waits: of each artifact, what it reads that is still to come from other runs.
    """

    waits: Mapping[Address, frozenset[Address]]

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(self.waits)

    @property
    def waits_for(self) -> frozenset[Address]:
        """Return what this run reads that is still to come."""
        return frozenset().union(*self.waits.values())

    def without(self, out: Collection[Address]) -> "Batch | None":
        """Return the same run without what is left out or waits for it; None if nothing stays."""
        waits = {address: waits for address, waits in self.waits.items() if address not in out and not waits & set(out)}
        return Batch(waits) if waits else None

    @property
    def dataset(self) -> str:
        return self.addresses[0].dataset

    @property
    def model(self) -> str | None:
        return self.addresses[0].model

    @property
    def chunk(self) -> str | None:
        return self.addresses[0].chunk

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(address.stage for address in self.addresses))

    @property
    def label(self) -> str:
        return " ".join(part for part in (self.dataset, self.model, self.chunk, "+".join(self.stages)) if part)


@dataclass(frozen=True)
class Plan:
    """A plan says what is to be made.

    Attributes:
        batches: runs in an order in which every input that can be made is there.
        left_out: artifacts that should be made and are not planned: a run is at it, or they failed before or were
            ended, or they were imported and would be replaced.
        over_limit: how many chunk-level artifacts were left for the next time.
        may_follow: artifacts that are current and read something that is to be made: if that comes out otherwise, they
            are to be made too.
    """

    batches: tuple[Batch, ...] = ()
    left_out: frozenset[Address] = frozenset()
    over_limit: int = 0
    may_follow: tuple[Address, ...] = ()

    @property
    def ready(self) -> tuple[Batch, ...]:
        """Return runs that wait for nothing."""
        return tuple(batch for batch in self.batches if not batch.waits_for)

    @property
    def in_sequence(self) -> tuple[Batch, ...]:
        """Return runs that can be made one after another: each waits only for what an earlier one of them makes.

        What waits for something that *may* have to be made anew, once its own input was, is none of them.
        """
        coming: set[Address] = set()
        chosen = []
        for batch in self.batches:
            possible = {address: waits for address, waits in batch.waits.items() if waits <= coming}
            if possible:
                chosen.append(Batch(possible))
                coming |= set(possible)
        return tuple(chosen)

    @property
    def addresses(self) -> frozenset[Address]:
        """Return everything that is planned."""
        return frozenset(address for batch in self.batches for address in batch.addresses)


class Outlook:
    """An outlook says what the artifacts of a data set are, as one look at store and history sees them.

    Args:
        scope: what is asked for; other artifacts are taken as they are.
    """

    def __init__(self, scope: Scope, staleness: Staleness, history: History):
        self.scope, self.staleness, self.history = scope, staleness, history
        self._current: dict[Address, bool] = {}

    def state(self, address: Address) -> State:
        """Return what ``status`` says of an artifact."""
        if not self.staleness.applies(address):
            return "inapplicable"
        if address in self.history.running:
            return "running"
        if address in self.history.interrupted:
            return "interrupted"
        if address in self.history.failed or address in self.history.unchecked:
            return "failed"
        if self.staleness.store.find(address) is None:
            return "missing"
        return "stale" if self.is_due(address) else "current"

    def is_due(self, address: Address) -> bool:
        """Return whether an artifact is to be made: by its recipe, or because its check failed or no history tells of
        it.

        Where it does not apply, nothing is to be made.
        """
        if address not in self._current:
            recorded = self.history.recorded
            self._current[address] = not self.staleness.applies(address) or (
                address not in self.history.unchecked
                and (recorded is None or address in recorded)
                and self.staleness.is_current(address)
            )
        return not self._current[address]

    def reason(self, address: Address) -> str:
        """Return why an artifact is to be made, in a few words; empty if it is not."""
        if not self.is_due(address):
            return ""
        if address in self.history.interrupted:
            return "interrupted"
        if address in self.history.unchecked:
            return "a check did not pass"
        return self.staleness.reason(address) or "no run is recorded"

    def reads(self, address: Address) -> Iterator[Address]:
        """Yield the artifacts that an artifact is made from: the one rule of who waits for whom.

        An aggregate reads the chunks that hold an example of its splits, and of every chunk the labels that say so; one
        that is frozen and there reads nothing any more.
        """
        stage = STAGES[address.stage]
        if self.staleness.is_frozen(address) and not self.is_due(address):
            return
        for name in self.staleness.model_inputs(address):
            yield STAGES[name].beside(address)
        if stage.level != "model":
            yield from (STAGES[name].beside(address) for name in stage.chunk_inputs)
            return
        for chunk in self.scope.chunks:
            yield STAGES["labels"].beside(address, chunk)
            if self._is_read(address, chunk):
                yield from (STAGES[name].beside(address, chunk) for name in stage.chunk_inputs if name != "labels")

    def chunks_read(self, address: Address) -> list[str]:
        """Return the chunks whose examples an artifact is made from."""
        if address.chunk is not None:
            return [address.chunk]
        return [chunk for chunk in self.scope.chunks if self._is_read(address, chunk)]

    def _is_read(self, address: Address, chunk: str) -> bool:
        """Return whether a chunk holds an example of an aggregate's splits, or is not known to hold none."""
        due = self.is_due(STAGES["labels"].beside(address, chunk))
        return due or self.staleness.has_any(address.dataset, chunk, STAGES[address.stage].splits)

    def plan(self, *, limit: int | None = None, hold_failed: bool = True, force: bool = False) -> Plan:
        """Return what is to be made, in runs.

        Args:
            limit: most chunk-level artifacts; the first ones are taken.
            hold_failed: leave out what failed before, which would fail again, and what somebody ended; what reads it
                then waits.
            force: everything in the scope, current or not; also what was imported.
        """
        pending: dict[Address, frozenset[Address]] = {}  # what may still change, and what it waits for
        planned: list[Address] = []
        left_out: set[Address] = set()
        room, over = limit, 0
        for address in self.scope.addresses():
            if address.chunk is None and not self.scope.chunks:  # an aggregate of nothing
                continue
            waits = frozenset(each for each in self.reads(address) if each in pending)
            if self.staleness.allows_gaps(address):
                waits -= left_out
            due = force or self.is_due(address)
            withheld = address in self.history.running or (hold_failed and address in self.history.failed)
            if due or waits or withheld:
                pending[address] = waits
            if not due:
                continue
            if withheld or self._would_replace_imported(address, force=force):
                left_out.add(address)
            elif address.chunk is None or room is None:
                planned.append(address)
            elif room:
                planned.append(address)
                room -= 1
            else:
                over += 1
        may_follow = tuple(each for each, waits in pending.items() if waits and not self.is_due(each))
        return Plan(tuple(_batches(planned, pending)), frozenset(left_out), over, () if force else may_follow)

    def _would_replace_imported(self, address: Address, *, force: bool) -> bool:
        """Return whether making it would replace what was imported, which nothing here could make again."""
        return not force and self.staleness.is_imported(address) and not self.staleness.is_current(address)


def _batches(planned: Iterable[Address], pending: "dict[Address, frozenset[Address]]") -> Iterator[Batch]:
    """Yield artifacts of one partition that one run can make, in order; what waits for others goes in a run of its
    own."""
    for _, group in groupby(planned, key=lambda address: _segment(address.stage)):
        partitions: dict[tuple[str | None, str | None], list[Address]] = {}
        for address in group:
            partitions.setdefault((address.model, address.chunk), []).append(address)
        for members in partitions.values():
            together = set(members)
            outside: dict[Address, frozenset[Address]] = {}
            for address in members:
                waits = pending[address]
                within = [outside[each] for each in waits & together]
                outside[address] = (waits - together).union(*within)
            for waiting in (False, True):
                chosen = {address: waits for address, waits in outside.items() if bool(waits) is waiting}
                if chosen:
                    yield Batch(chosen)


def slot_of(address: Address) -> tuple[Any, ...]:
    """Return data set, partition and row of stages: what one run can make at most."""
    return (address.dataset, address.model, address.chunk, _segment(address.stage))


@cache
def _segment(stage: str) -> int:
    """Stages in a row of one level go in one run: the number of the row."""
    rows = groupby(STAGES, key=lambda name: STAGES[name].level)
    return next(number for number, (_, names) in enumerate(rows) if stage in set(names))
