"""Engines of Dagster's SQLite databases, and how long they live: one per file, for as long as a process uses it."""

import threading
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sae_assets.orchestration.internals import sqlite_storages

MOST_ENGINES = 64
_engines: dict[tuple[str, int, int], sqlalchemy.Engine] = {}
_engines_lock = threading.RLock()


def keep_engines() -> None:
    """Let Dagster's SQLite storages of this process use one SQLAlchemy engine per file, which keeps its connections.

    They make a new one for every event and tick, and with it compile every statement anew: a third of the CPU of an
    event. And the last connection to be closed writes the log of changes back to the disk, here after every event. They
    also look at every event whether its tables are there; one that was seen stays. And whoever opens an instance, a
    code server at every tick of a sensor, has them load all migrations, to know the newest (``revisions``).
    """

    def create_engine(url: str, **options: Any) -> Any:
        file = _file_of(url)
        if not file.is_file():  # about to be made
            return sqlalchemy.create_engine(url, **options)
        stat = file.stat()
        key = (url, stat.st_dev, stat.st_ino)  # a file that was put in its place is another one
        with _engines_lock:
            if key not in _engines:
                if len(_engines) >= MOST_ENGINES:  # a file per run, in homes of earlier versions
                    close_engines()
                options["poolclass"] = sqlalchemy.QueuePool
                engine = _engines[key] = sqlalchemy.create_engine(url, **options, max_overflow=-1)
                setattr(engine.dialect, "has_table", _seen_once(engine.dialect.has_table))  # noqa: B010 - of this one
                sqlalchemy.event.listen(engine, "connect", _wait_for_checkpoints_alone)
            return _engines[key]

    for module in sqlite_storages():
        if getattr(module, "create_engine") is sqlalchemy.create_engine:  # noqa: B009
            setattr(module, "create_engine", create_engine)  # noqa: B010
        setattr(module, "check_alembic_revision", revisions)  # noqa: B010


def revisions(config: Config, connection: sqlalchemy.Connection) -> tuple[str | None, str | None]:
    """Return, in place of Dagster, the revision of a database and the newest, for which migrations are loaded once."""
    migrations = config.get_main_option("script_location")
    assert migrations is not None
    return MigrationContext.configure(connection).get_current_revision(), _newest_revision(migrations)


@cache
def _newest_revision(migrations: str) -> str | None:
    config = Config()
    config.set_main_option("script_location", migrations)
    return ScriptDirectory.from_config(config).as_revision_number("head")


@lru_cache(maxsize=MOST_ENGINES)
def _file_of(url: str) -> Path:
    return Path(sqlalchemy.make_url(url).database or "")


def _seen_once(look: Callable[..., bool]) -> Callable[..., bool]:
    """Return whether a table is there, asked until it is."""
    seen: set[str] = set()

    def has_table(connection: Any, table: str, *arguments: Any, **named: Any) -> bool:
        if table not in seen and look(connection, table, *arguments, **named):
            seen.add(table)
        return table in seen

    return has_table


def _wait_for_checkpoints_alone(connection: Any, _record: Any) -> None:
    """Let a commit to a log of changes (WAL) not wait for the disk: half of an event's CPU, and most of its time.

    What a killed process committed is there all the same, and the database is whole whatever happens. Where the power
    fails, the last events may be missing: artifacts of which no event tells are recorded anew.
    """
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        connection.execute("PRAGMA synchronous=NORMAL")


def close_engines() -> None:
    """Close the connections that are kept: what they wrote is in the files alone, which may be copied then."""
    with _engines_lock:
        while _engines:
            _engines.popitem()[1].dispose()
