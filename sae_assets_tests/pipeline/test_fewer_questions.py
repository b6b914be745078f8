"""What Dagster would ask its database at every event is asked once, and no event waits for the disk."""

import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import consolidated_sqlite_event_log
from dagster._core.storage.sql import check_alembic_revision, get_alembic_config

from sae_assets.orchestration.instance.engines import close_engines, keep_engines, revisions
from sae_assets.orchestration.internals import CheckResult

PARTITIONS = dg.StaticPartitionsDefinition(["a", "b"])
CHECKS = ("one", "two", "three")


@dg.multi_asset(
    outs={"first": dg.AssetOut(is_required=False), "second": dg.AssetOut(is_required=False)},
    partitions_def=PARTITIONS,
    check_specs=[
        dg.AssetCheckSpec(f"{name}_of_{asset}", asset=asset, partitions_def=PARTITIONS)
        for asset in ("first", "second")
        for name in CHECKS
    ],
)
def two_assets():
    for asset in ("first", "second"):
        yield dg.Output(1, output_name=asset)
        for name in CHECKS:
            yield CheckResult(passed=True, asset_key=dg.AssetKey(asset), check_name=f"{name}_of_{asset}")


@pytest.mark.filterwarnings("ignore:.*partitions_def.*")
def test_what_checks_are_of_is_read_once_for_each_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each evaluation says which materialization it is of, that of its own run and partition."""
    with dg.DagsterInstance.ephemeral() as instance:
        read, asked = instance.fetch_materializations, []

        def counted(records_filter, **more):
            asked.append(records_filter)
            return read(records_filter, **more)

        monkeypatch.setattr(instance, "fetch_materializations", counted)
        for partition in ("a", "b", "a"):
            asked.clear()
            result = dg.materialize([two_assets], instance=instance, partition_key=partition)
            made = {each.asset_key: each for each in result.get_asset_materialization_events()}
            evaluations = result.get_asset_check_evaluations()
            assert len(evaluations) == 6 and len(asked) == 2
            for one in evaluations:
                latest = read(
                    dg.AssetRecordsFilter(asset_key=one.asset_key, asset_partitions=[partition]), limit=1
                ).records[0]
                assert one.asset_key in made and one.partition == partition
                assert one.target_materialization_data.storage_id == latest.storage_id
                assert one.target_materialization_data.run_id == result.run_id


def test_a_table_that_was_seen_is_not_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there is; and another file under the same name is another database."""
    monkeypatch.setattr(consolidated_sqlite_event_log, "create_engine", sqlalchemy.create_engine)
    keep_engines()
    file, looks = tmp_path / "some.db", []
    try:
        for _ in range(2):
            file.touch()
            engine = consolidated_sqlite_event_log.create_engine(f"sqlite:///{file}")
            looks.clear()
            sqlalchemy.event.listen(
                engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: looks.append(statement)
            )
            for there in (False, False, True, True, True):
                with engine.connect() as connection, connection.begin():
                    if there and not looks.count("CREATE TABLE things (id INTEGER)"):
                        connection.execute(sqlalchemy.text("CREATE TABLE things (id INTEGER)"))
                    assert engine.dialect.has_table(connection, "things") is there
            assert len([each for each in looks if "table_info" in each and "temp" not in each]) == 3
            file.rename(tmp_path / "before.db")  # kept, so that its number is not given again
    finally:
        close_engines()


@pytest.mark.parametrize(("journal", "synchronous"), [("wal", 1), ("delete", 2)])
def test_commits_wait_for_the_disk_only_where_a_database_could_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str, synchronous: int
) -> None:
    """1 is NORMAL: a log of changes is whole after any loss of its end; 2 is FULL."""
    with closing(sqlite3.connect(tmp_path / "some.db")) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("CREATE TABLE things (id INTEGER)")
    monkeypatch.setattr(consolidated_sqlite_event_log, "create_engine", sqlalchemy.create_engine)
    keep_engines()
    try:
        engine = consolidated_sqlite_event_log.create_engine(f"sqlite:///{tmp_path / 'some.db'}")
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar() == synchronous
    finally:
        close_engines()


def test_migrations_are_loaded_once_however_often_a_database_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of a database is what Dagster's own function tells: its version, an earlier one, none."""
    config = get_alembic_config(consolidated_sqlite_event_log.__file__)
    engine = sqlalchemy.create_engine("sqlite://")
    statements = (
        "SELECT 1",
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('x')",
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
            assert revisions(config, connection) == check_alembic_revision(config, connection)
        monkeypatch.setattr(ScriptDirectory, "_load_revisions", None)
        version, newest = revisions(config, connection)
        assert version == "x" and newest not in ("x", None)
