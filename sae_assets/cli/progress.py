"""Progress of what takes long, on stderr: bars on a terminal, lines in a file or pipe, with rate and remaining time.

Remaining time is told from what has been seen: of a loop from its rate, of runs from how long those of the same stages
took, the first of which loads libraries and compiles and says nothing alone. What has not been seen yet is not guessed,
and "at least" says so.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console

from sae_assets.cli.display import PLAIN, PlainConsole
from sae_assets.cli.interrupts import stop_if_told
from sae_assets.progress import listening

if TYPE_CHECKING:
    from sae_assets.orchestration.runs import OnBatch
    from sae_assets.pipeline.planning import Batch

LINE_SECONDS = 30.0  # between two lines about one loop in a file or pipe
SEEN_SECONDS = 0.5  # of a loop, before its rate is told
TOLD_SECONDS = 1.0  # that are left: fewer say nothing

Clock = Callable[[], float]


def duration(seconds: float) -> str:
    """Return seconds as a person says them: ``40 s``, ``12 min``, ``2 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Loop:
    """One loop over examples, as it is heard of: how many per second, and how long it still takes."""

    def __init__(self, label: str, done: int, total: int, now: float):
        self.label, self.total, self.done = label, total, done
        self._first, self._start, self._now = done, now, now

    def goes_on(self, label: str, done: int, total: int) -> bool:
        """Return whether what is heard is of this loop still."""
        return (label, total) == (self.label, self.total) and done > self.done

    def heard(self, done: int, now: float) -> None:
        self.done, self._now = done, now

    @property
    def pace(self) -> str:
        """Return rate and remaining time; empty as long as too little was seen."""
        seconds = self._now - self._start
        if seconds < SEEN_SECONDS or self.done == self._first:
            return ""
        rate = (self.done - self._first) / seconds
        return f"{rate:.3g} examples/s, {duration((self.total - self.done) / rate)} left"


class Runs:
    """The runs of a command: how long those of the same stages took, and so how long the rest will take."""

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock
        self._took: dict[tuple[str, ...], list[float]] = {}
        self._current: tuple[tuple[str, ...], float] | None = None
        self._coming: list[tuple[str, ...]] = []

    def begins(self, batch: "Batch", coming: "Sequence[Batch]") -> None:
        """A run begins, and with it the last one has ended."""
        now = self._clock()
        if self._current is not None:
            stages, start = self._current
            self._took.setdefault(stages, []).append(now - start)
        self._current, self._coming = (batch.stages, now), [each.stages for each in coming]

    @property
    def left(self) -> str:
        """Return remaining time of this run and those planned behind it; empty if nothing like them was seen, or hardly
        one second is left."""
        if self._current is None:
            return ""
        # Their median, and of two the shorter one, since the first loads libraries and compiles.
        usual = {stages: sorted(took)[(len(took) - 1) // 2] for stages, took in self._took.items() if len(took) > 1}
        stages, start = self._current
        now = max(0.0, usual.get(stages, 0.0) - (self._clock() - start))
        seconds = now + sum(usual.get(each, 0.0) for each in self._coming)
        unseen = {stages, *self._coming} - set(usual)
        if seconds < TOLD_SECONDS:
            return ""
        return f"{'at least' if unseen else 'about'} {duration(seconds)} left"


@contextmanager
def progress_bar(quiet: bool = False) -> "Iterator[OnBatch]":
    """Tell of runs, and of the loop inside the current one. Quiet: of nothing. No run begins after a signal."""
    screen = PlainConsole(stderr=True, **PLAIN)
    shown = nullcontext(_say_nothing) if quiet else _bars(screen) if screen.is_terminal else _lines(screen)
    with shown as tell:

        def on_batch(batch: "Batch", number: int, total: int, coming: "Sequence[Batch]") -> None:
            stop_if_told()
            tell(batch, number, total, coming)

        yield on_batch


def _say_nothing(batch: "Batch", number: int, total: int, coming: "Sequence[Batch]") -> None:
    pass


@contextmanager
def _lines(screen: Console, clock: Clock = time.monotonic) -> "Iterator[OnBatch]":
    """Give a line when a run begins, and one now and then while its loop goes on."""
    runs, loop, told = Runs(clock), Loop("", 0, 0, 0.0), clock()

    def on_batch(batch: "Batch", number: int, total: int, coming: "Sequence[Batch]") -> None:
        nonlocal told
        runs.begins(batch, coming)
        told = clock()
        left = f"  ({runs.left})" if runs.left else ""
        screen.print(f"[{number}/{total}] {batch.label}{left}", soft_wrap=True)

    def listener(label: str, done: int, total: int) -> None:
        nonlocal loop, told
        now = clock()
        if loop.goes_on(label, done, total):
            loop.heard(done, now)
        else:
            loop = Loop(label, done, total, now)
        if now - told >= LINE_SECONDS:
            told = now
            pace = f", {loop.pace}" if loop.pace else ""
            screen.print(f"    {label}: {done:,} of {total:,} examples{pace}", soft_wrap=True)

    with listening(listener):
        yield on_batch


@contextmanager
def _bars(screen: Console, clock: Clock = time.monotonic) -> "Iterator[OnBatch]":
    """Give two bars: runs, and the loop inside the current one."""
    from rich.progress import (  # noqa: PLC0415 - most commands show no bars
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("{task.fields[pace]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=screen) as progress:
        outer = progress.add_task("looking at what is there", total=None, pace="")
        inner = progress.add_task("", total=1, visible=False, pace="")
        runs, loop = Runs(clock), Loop("", 0, 0, 0.0)

        def on_batch(batch: "Batch", number: int, total: int, coming: "Sequence[Batch]") -> None:
            runs.begins(batch, coming)
            progress.update(outer, description=batch.label, completed=number - 1, total=total, pace=runs.left)
            progress.update(inner, visible=False)

        def listener(label: str, done: int, total: int) -> None:
            nonlocal loop
            if loop.goes_on(label, done, total):
                loop.heard(done, clock())
            else:
                loop = Loop(label, done, total, clock())
                progress.reset(inner)
            shown = f"  {label}"
            progress.update(inner, description=shown, completed=done, total=total, visible=True, pace=loop.pace)
            progress.update(outer, pace=runs.left)

        with listening(listener):
            yield on_batch
        progress.update(outer, description="done", completed=progress.tasks[0].total, pace="")
        progress.update(inner, visible=False)
