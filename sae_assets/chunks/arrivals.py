"""Newly arrived examples are registered when their files have settled: full chunks first, the tail when it is due.

An example is dated by the last change of its file on this machine (contents or name, so that a copy that keeps old
times still counts as new). Planning only: chunks are cut in ``chunking``, and manifests are written in
``manifests``.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_assets.catalog import Dataset
from sae_assets.datasets.reader import Reader
from sae_assets.datasets.records import Record


@dataclass(frozen=True)
class Arrived:
    """Newly arrived examples.

    Attributes:
        ready: to be registered now, in order.
        unsettled: held back because their file (or the table they stand in) changed a moment ago, or is not there yet,
            or because they stand behind such a one.
        tail: held back because they do not fill a chunk and the tail is not due yet.
        missing: what the first unsettled one names and is not there, in words; empty if it is only young.
    """

    ready: Sequence[Record]
    unsettled: int = 0
    tail: int = 0
    missing: str = ""

    @property
    def waiting(self) -> int:
        return self.unsettled + self.tail


def table_changed(root: Path) -> float:
    """Return when the data set's table last changed, seconds since the epoch: the newest file directly in its
    folder."""
    files = [root] if root.is_file() else [path for path in root.iterdir() if path.is_file()]
    return max((changed(path) for path in files), default=0.0)


def changed(path: Path) -> float:
    """Return when a file's contents or name last changed here, seconds since the epoch."""
    stat = path.stat()
    return max(stat.st_mtime, stat.st_ctime)


def arrived(reader: Reader, entry: Dataset, registered: Collection[str], now: float, *, close_tail: bool) -> Arrived:
    """Sort the examples that no chunk holds into those to register now and those that wait.

    Args:
        registered: ids that chunks hold.
        now: seconds since the epoch.
        close_tail: take everything settled or not, full chunk or not: a person asks for it.
    """
    registered_ids = set(registered)
    fresh = [record for record in reader.records if record.example_id not in registered_ids]
    if close_tail or not fresh:
        return Arrived(fresh)
    rules = entry.arrivals
    table = table_changed(reader.root)
    dates = [_date(reader.root, record, table) for record in fresh]
    # The order of examples is kept: what comes after an unsettled one waits with it. The last row of a table that
    # was just written may be half a row.
    settled = next((index for index, date in enumerate(dates) if now - date < rules.settle_seconds), len(fresh))
    # A row may be written before its file.
    gaps = ((index, problem) for index, record in enumerate(fresh[:settled]) for problem in reader.missing(record))
    settled, missing = next(gaps, (settled, ""))
    if settled == len(fresh) and fresh[-1] is reader.records[-1] and now - table < rules.settle_seconds:
        settled -= 1
    full = settled - settled % entry.chunk_size
    # In front of a row whose file never came, nothing more arrives either.
    due = rules.close_after_seconds is not None and full < settled and (settled == len(fresh) or missing)
    if due and now - max([*dates[full:settled], *([table] if missing else [])]) >= (rules.close_after_seconds or 0):
        full = settled
    return Arrived(fresh[:full], unsettled=len(fresh) - settled, tail=settled - full, missing=missing)


def _date(root: Path, record: Record, table: float) -> float:
    file = root / record.path if root.is_dir() else root
    try:
        return changed(file) if file.is_file() else table
    except OSError:  # it vanished between two looks; the next look will tell
        return table
