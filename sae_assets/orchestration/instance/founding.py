"""The databases of a new home: made aside and put in place whole, and waited for where somebody else makes them.

Dagster makes a database table by table and then writes down its version. Of two processes that open a new home at
once, one takes the other's first tables for those of an earlier Dagster and writes down another version beside it;
with two versions in a database, no process opens the home any more.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import yaml

from sae_assets.orchestration.instance.engines import close_engines
from sae_assets.orchestration.internals import EARLIER_VERSION

VERSIONED = ("history/runs.db", "schedules/schedules.db")
DATABASES = (*VERSIONED, "history/events/event_log.db")  # of the packaged settings
ASIDE = ".new_"  # begin of the folder's name
OTHER_STORAGES = ("storage", "run_storage", "schedule_storage")  # keys of settings that keep them elsewhere
VERSIONS = "SELECT version_num FROM alembic_version"
HAS_VERSIONS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
WAIT, BETWEEN = 2.5, 0.1  # seconds for another process to finish, and between two looks


def make_databases(home: Path, settings: Callable[[Path], str]) -> None:
    """Make those that are not there aside, and link each to its place unless somebody else was faster.

    What a killed process left aside goes: one at a time is here.

    Args:
        home: the instance's folder, with its ``dagster.yaml``.
        settings: content of the packaged ``dagster.yaml`` for a folder.
    """
    for left in home.glob(f"{ASIDE}*"):
        shutil.rmtree(left, ignore_errors=True)
    missing = [name for name in DATABASES if not (home / name).exists()]
    if not missing or not _are_packaged(home):
        return
    with suppress(OSError), TemporaryDirectory(dir=home, prefix=ASIDE) as temporary:  # no links here: made in place
        folder = Path(temporary)
        (folder / "dagster.yaml").write_text(settings(folder), encoding="utf-8")
        dg.DagsterInstance.from_config(str(folder)).dispose()
        close_engines()  # a log of changes is found by a database's name: none may be open under the one that goes
        for name in missing:
            _close(folder / name)
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.link(folder / name, home / name)


def wait_for_databases(home: Path) -> None:
    """Wait for those that another process is making; one that nobody finishes is left as it is."""
    deadline = time.monotonic() + WAIT
    while any(len(versions) == 0 for _, versions in _versions(home)) and time.monotonic() < deadline:
        time.sleep(BETWEEN)


def keep_one_version(home: Path) -> None:
    """Take back the version that was written for tables which another process was making at that moment."""
    for path, versions in _versions(home):
        if len(versions) > 1 and EARLIER_VERSION in versions:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("DELETE FROM alembic_version WHERE version_num = ?", (EARLIER_VERSION,))


def _are_packaged(home: Path) -> bool:
    """Return whether the home's own settings name no other storages."""
    try:
        keys = yaml.safe_load((home / "dagster.yaml").read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return False
    events = keys.get("event_log_storage") if isinstance(keys, dict) else None
    own = isinstance(events, dict) and events.get("class") == "ConsolidatedSqliteEventLogStorage"
    return own and not any(key in keys for key in OTHER_STORAGES)


def _versions(home: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield of each database that is there and can be read the versions that were written down."""
    for path in (home / name for name in VERSIONED):
        if path.is_file():
            try:
                with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
                    written = connection.execute(HAS_VERSIONS).fetchone() is not None
                    yield path, [version for (version,) in connection.execute(VERSIONS)] if written else []
            except sqlite3.Error:  # damaged, which opening will say
                continue


def _close(database: Path) -> None:
    """Write what is in a database's log to the database itself."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
