"""Dagster's SQLite storages for tests: one engine per storage, a connection per thread, and no waiting for the disk.

Dagster makes a new engine for every query, so that SQLAlchemy compiles every statement anew, one more database for
every run, looks for its newest migration at every opening, and for a table's columns at every event. What is stored and
what can be asked is the same, but for half of the events, of which nobody asks. Named in the ``dagster.yaml`` of homes
made by ``homes``.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, lru_cache
from typing import Any

from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage, sql_event_log
from dagster._core.storage.event_log.sqlite import consolidated_sqlite_event_log
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sql import create_engine
from sqlalchemy import Connection, Engine, event, inspect

from sae_assets.orchestration.instance.engines import revisions

for module in (consolidated_sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    setattr(module, "check_alembic_revision", revisions)  # noqa: B010 - before an instance of ours is opened

# Events stay as they were written, and are asked for again and again.
sql_event_log.deserialize_value = lru_cache(maxsize=5000)(sql_event_log.deserialize_value)  # type: ignore[assignment]

# What a step is handed and hands on, and resources that a run made: the UI lists them beside the rest of a run.
LISTED_ONLY = {
    DagsterEventType.STEP_INPUT, DagsterEventType.LOADED_INPUT, DagsterEventType.STEP_OUTPUT,
    DagsterEventType.HANDLED_OUTPUT, DagsterEventType.RESOURCE_INIT_STARTED, DagsterEventType.RESOURCE_INIT_SUCCESS,
}  # fmt: skip


@cache
def _shared() -> tuple[Any, Any]:
    """The dialect of all engines, which knows the version of SQLite, and the statements that were compiled for it."""
    first = create_engine("sqlite://")
    with first.connect():
        return first.dialect, first._compiled_cache


class _OneEngine:
    """One connection of each thread, and more where it is in use; ``dispose`` closes all, so that the files can be
    copied then."""

    _conn_string: str

    @cached_property
    def _engine(self) -> Engine:
        engine = create_engine(self._conn_string, connect_args={"timeout": 60})
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        engine.dialect, engine._compiled_cache = _shared()  # statements are compiled once for all homes
        return engine

    @cached_property
    def _kept(self) -> dict[int, Connection]:
        return {}

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        thread = threading.get_ident()
        kept = self._kept.get(thread)
        if kept is None:
            kept = self._kept[thread] = self._engine.connect()
        if kept.in_transaction():
            with self._engine.connect() as another, another.begin():
                yield another
        else:
            with kept.begin():
                yield kept

    def dispose(self) -> None:
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()
        self._engine.dispose()
        super().dispose()  # type: ignore[misc]

    @cached_property
    def _there(self) -> set[str]:
        return set()

    def _is_there(self, what: str, look: Callable[[], bool]) -> bool:
        """Whether a table or column is there: one that was seen stays."""
        if what not in self._there and look():
            self._there.add(what)
        return what in self._there


class SwiftEvents(_OneEngine, ConsolidatedSqliteEventLogStorage):
    """Events of all runs in one database, without those that are listed only."""

    def store_event(self, event: EventLogEntry) -> None:
        if event.dagster_event is None or event.dagster_event.event_type not in LISTED_ONLY:
            super().store_event(event)

    def _connect(self) -> Any:
        return self.connect()

    @cached_property
    def _tables(self) -> set[str]:
        return set(inspect(self._engine).get_table_names())

    def has_table(self, table_name: str) -> bool:
        return table_name in self._tables

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        look = super()._has_asset_key_col_on_connection
        return self._is_there(column_name, lambda: look(conn, column_name))


class SwiftRuns(_OneEngine, SqliteRunStorage):
    """Runs."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "SwiftRuns":
        return cls.from_local(inst_data=inst_data, **config_value)

    def has_run_stats_index_cols(self) -> bool:
        return self._is_there("run stats", super().has_run_stats_index_cols)

    def has_backfill_id_column(self) -> bool:
        return self._is_there("backfill id", super().has_backfill_id_column)


class SwiftSchedules(_OneEngine, SqliteScheduleStorage):
    """Ticks of schedules and sensors."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "SwiftSchedules":
        return cls.from_local(inst_data=inst_data, **config_value)
