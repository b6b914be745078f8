"""Dagster's SQLite storages for tests: one engine per storage, and no waiting for the disk.

Dagster makes a new engine for every query, so that SQLAlchemy compiles every statement anew, one more database for
every run, and looks for its newest migration at every opening. What is stored and what can be asked is the same. Named
in the ``dagster.yaml`` of homes made by ``homes``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.sqlite import consolidated_sqlite_event_log
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sql import create_engine
from sqlalchemy import Connection, Engine, event, inspect


@cache
def _newest(migrations: str) -> str | None:
    config = Config()
    config.set_main_option("script_location", migrations)
    return ScriptDirectory.from_config(config).as_revision_number("head")


def _revisions(config: Config, connection: Connection) -> tuple[str | None, str | None]:
    """As Dagster's: of a database, and the newest. To find that, Alembic imports all migrations, at every opening."""
    migrations = config.get_main_option("script_location")
    assert migrations is not None
    return MigrationContext.configure(connection).get_current_revision(), _newest(migrations)


for module in (consolidated_sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    setattr(module, "check_alembic_revision", _revisions)  # noqa: B010 - private names of the modules


class _OneEngine:
    """One pool of connections; ``dispose`` closes them, so that the files can be copied then."""

    _conn_string: str

    @cached_property
    def _engine(self) -> Engine:
        engine = create_engine(self._conn_string, connect_args={"timeout": 60})
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        return engine

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()
        super().dispose()  # type: ignore[misc]


class SwiftEvents(_OneEngine, ConsolidatedSqliteEventLogStorage):
    """Events of all runs in one database."""

    def _connect(self) -> Any:
        return self.connect()

    @cached_property
    def _tables(self) -> set[str]:
        return set(inspect(self._engine).get_table_names())

    def has_table(self, table_name: str) -> bool:
        return table_name in self._tables


class SwiftRuns(_OneEngine, SqliteRunStorage):
    """Runs."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "SwiftRuns":
        return cls.from_local(inst_data=inst_data, **config_value)


class SwiftSchedules(_OneEngine, SqliteScheduleStorage):
    """Ticks of schedules and sensors."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "SwiftSchedules":
        return cls.from_local(inst_data=inst_data, **config_value)
