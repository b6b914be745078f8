"""An earlier look's answer is kept for as long as nothing of Dagster's history has changed since.

Looking costs seconds before it begins (Dagster has to be loaded), and mostly nothing has happened since the last look.
So what :func:`history.history_of` found is kept beside the history, with the state of what it was read from. Of the
events that is number, size and times of every file as the file system has them; of the runs, which stand in one file
with the heartbeats of the daemon, how many there are of each status and when the last of these changed. Nothing here
decides anything; where one of them differs, where a run is under way, or where the history is kept otherwise than in
files of its own folder, Dagster is asked.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from sae_assets.catalog import Dataset
from sae_assets.pipeline.planning import History
from sae_assets.pipeline.stages import stages_of
from sae_assets.settings import DAGSTER_VARIABLE, Settings
from sae_assets.storage.address import Address
from sae_assets.storage.atomic import write_atomically

if TYPE_CHECKING:
    from dagster import DagsterInstance

FOLDER = "looks"
VERSION = 3  # of what is kept, and of what history_of finds
TICK_SECONDS = 0.05  # more than the steps that times of files are counted in
LOOKS = 2  # Dagster itself notes what a look found, in the same files, the first time
CONFIG = "dagster.yaml"
ENDINGS = ("", "-wal", "-journal")  # of a database and the logs of what is not in it yet
PARTS = ("recorded", "failed", "unchecked", "interrupted")
RUNS = (  # each change of a run sets its time; a tag that is added later, too
    "SELECT status, count(*), max(id), max(update_timestamp) FROM runs GROUP BY status ORDER BY status",
    "SELECT count(*), max(id) FROM run_tags",
)
LOCKED_SECONDS = 1.0  # until Dagster is asked, which waits longer

State = dict[str, list[Any]]


def remembered(settings: Settings, entry: Dataset, instance: "Callable[[], DagsterInstance]") -> History:
    """Return what :func:`history.history_of` finds of a data set.

    Args:
        instance: opens Dagster's instance, where that is needed.
    """
    home = Path(settings.environment()[DAGSTER_VARIABLE])
    memory = home / FOLDER / f"{entry.name}.json"
    kept_history = _read(memory, home, _key(entry))
    if kept_history is not None:
        return kept_history
    from sae_assets.orchestration.history import history_of  # noqa: PLC0415 - loads Dagster
    from sae_assets.orchestration.instance.engines import close_engines  # noqa: PLC0415
    from sae_assets.orchestration.internals import files_of_history  # noqa: PLC0415

    opened = instance()
    files = files_of_history(opened)  # of runs, then of events
    for _ in range(LOOKS):
        close_engines()  # what this process wrote is in the files then, and not in logs that go when it ends
        before, start = _state(home, files), time.monotonic()
        history = history_of(opened, entry)
        close_engines()
        # A later write has another time than the last one seen, if a tick has passed between the two states.
        time.sleep(max(0.0, start + TICK_SECONDS - time.monotonic()))
        if not before or history.running:
            break
        if before == _state(home, files):
            _write(memory, history, [file.relative_to(home).as_posix() for file in files], before, _key(entry))
            break
    return history


def renew(settings: Settings, entries: Iterable[Dataset], instance: "Callable[[], DagsterInstance]") -> None:
    """Look again at the data sets that were looked at before: for who has loaded Dagster and changed the history."""
    folder = Path(settings.environment()[DAGSTER_VARIABLE]) / FOLDER
    remembered_entries = [entry for entry in entries if (folder / f"{entry.name}.json").is_file()]
    for _ in range(LOOKS):
        for entry in remembered_entries:
            remembered(settings, entry, instance)


def _key(entry: Dataset) -> str:
    """Return what of the catalog the answer depends on: which assets and partitions there are."""
    names = [VERSION, entry.name, list(entry.models), list(entry.token_kinds), list(stages_of(entry))]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _state(home: Path, files: Iterable[Path]) -> State:
    """Return the counts of runs, and number, size and times (ns) of every other file: settings, and events with their
    logs.

    Empty where there are none, one lies outside this folder, which may be another home's, or runs cannot be counted.
    """
    files = list(files)
    if not files or not all(file.is_relative_to(home) for file in files):
        return {}
    runs, *others = files
    state: State = {runs.relative_to(home).as_posix(): _runs(runs)}
    if not all(state.values()):
        return {}
    for path in [home / CONFIG, *(Path(f"{file}{ending}") for file in others for ending in ENDINGS)]:
        stat = path.stat() if path.exists() else None
        if stat is not None and stat.st_size:  # an empty log comes and goes with every look
            state[path.relative_to(home).as_posix()] = [
                stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            ]  # fmt: skip
    return state


def _runs(file: Path) -> list[list[Any]]:
    """Return counts of runs by status with the last number and change, and of their tags; empty if the file does not
    tell."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=LOCKED_SECONDS)) as database:
            return [list(row) for question in RUNS for row in database.execute(question)]
    except (sqlite3.Error, ValueError):  # ValueError: a path that is no place
        return []


def _read(memory: Path, home: Path, key: str) -> History | None:
    """Return what was kept, if it still holds."""
    try:
        content = json.loads(memory.read_bytes())
        if content["key"] != key:
            return None
        if not content["files"] or _state(home, [home / name for name in content["databases"]]) != content["files"]:
            return None
        parts = {name: frozenset(Address(*parts) for parts in content[name]) for name in PARTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return History(**parts)


def _write(memory: Path, history: History, databases: Sequence[str], state: State, key: str) -> None:
    content: Mapping[str, Any] = {"key": key, "databases": databases, "files": state} | {
        name: sorted(map(astuple, getattr(history, name) or ()), key=str) for name in PARTS
    }
    try:
        write_atomically(UPath(memory), json.dumps(content).encode())
    except OSError:  # a home that may only be read
        return
