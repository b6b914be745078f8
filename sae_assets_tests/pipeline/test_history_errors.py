"""What a database says becomes a sentence that names the home, says what to do, and what goes on without it."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy.event
import sqlalchemy.exc

from sae_assets.errors import HistoryError
from sae_assets.orchestration.instance import founding
from sae_assets.orchestration.instance import home as module
from sae_assets.orchestration.instance.home import history_if_there, open_instance
from sae_assets.settings import load_settings
from sae_assets_tests.helpers.swift import SHIPPED, as_shipped

ADVICE = {
    ("database is locked", sqlite3.SQLITE_BUSY): "is locked by another process",
    ("attempt to write a readonly database", 264): "give it back its permissions",  # SQLITE_READONLY_RECOVERY
    ("unable to open database file", sqlite3.SQLITE_CANTOPEN): "give it back its permissions",
    ("database or disk is full", sqlite3.SQLITE_FULL): "the disk is full",
    ("disk I/O error", 778): "the disk is full or failing",  # SQLITE_IOERR_WRITE
    ("database disk image is malformed", sqlite3.SQLITE_CORRUPT): "restore",
    ("file is not a database", sqlite3.SQLITE_NOTADB): "restore",
    ("no such table: runs", sqlite3.SQLITE_ERROR): "does not answer",
    ("the database is full of words, malformed and locked", sqlite3.SQLITE_ERROR): "does not answer",
    ("no code: readonly", None): "does not answer",
}


@pytest.mark.parametrize(("message", "code"), ADVICE)
@pytest.mark.parametrize("wrapped", [True, False])
def test_what_a_database_says_becomes_what_to_do(tmp_path: Path, message: str, code: int | None, wrapped: bool) -> None:
    """Whether it says so when it is opened, or later; its code decides and not its words."""
    error: Exception = sqlite3.OperationalError(message)
    if code is not None:
        error.sqlite_errorcode = code  # type: ignore[attr-defined]
    if wrapped:
        error = sqlalchemy.exc.OperationalError("SELECT a very long statement", {}, error)  # type: ignore[arg-type]
    with pytest.raises(HistoryError) as caught, open_instance(load_settings(tmp_path)):
        raise error
    text = str(caught.value)
    assert ADVICE[message, code] in text and str(tmp_path / "dagster") in text and "sae-assets verify" in text
    assert len(text.splitlines()) == 1 and "SELECT" not in text


def test_own_errors_go_through_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_instance(load_settings(tmp_path)):
        raise KeyError("mine")


def _twice_the_same_table() -> sqlalchemy.exc.OperationalError:
    """What the second of two processes meets that make the tables of one database."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE alembic_version (number)")
        try:
            database.execute("CREATE TABLE alembic_version (number)")
        except sqlite3.OperationalError as error:
            return sqlalchemy.exc.OperationalError("CREATE TABLE alembic_version", {}, error)
    raise AssertionError


@pytest.mark.parametrize("times", [1, module.TRIES])
@pytest.mark.parametrize("comes", ["beside", "between"])
def test_a_daemon_that_makes_the_tables_of_a_new_home_at_the_same_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: str, times: int
) -> None:
    """Beside it, making a table fails; between two of its tables, one is missing. Not for ever."""
    with open_instance(load_settings(tmp_path / "other")):
        pass  # whatever homes of tests are copied from is made before it is disturbed
    calls: list[int] = []

    def disturbed(real: Callable[..., Any], *args: Any) -> Any:
        calls.append(1)
        if len(calls) > times:
            return real(*args)
        if comes == "beside":
            raise _twice_the_same_table()
        return False

    name, of = ("from_config", dg.DagsterInstance) if comes == "beside" else ("has_its_tables", module)
    monkeypatch.setattr(of, name, partial(disturbed, getattr(of, name)))
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.0)
    settings = load_settings(tmp_path)
    if times < module.TRIES:
        with open_instance(settings) as instance:
            assert instance.get_runs() == []
    else:
        with pytest.raises(HistoryError, match="already exists" if comes == "beside" else "tables are missing"):
            open_instance(settings).__enter__()
    assert len(calls) == min(times + 1, module.TRIES)


def _versions(home: Path) -> dict[str, list[str]]:
    found = {}
    for name in founding.VERSIONED:
        with closing(sqlite3.connect(home / "dagster" / name)) as database:
            found[name] = [version for (version,) in database.execute(founding.VERSIONS)]
    return found


def test_a_new_homes_databases_come_into_their_places_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the instance is opened there, they are finished; a daemon never meets them half made."""
    seen: list[dict[str, list[str]]] = []
    opened = dg.DagsterInstance.from_config

    def look(folder: str) -> dg.DagsterInstance:
        if Path(folder) == tmp_path / "dagster":
            seen.append(_versions(tmp_path))
            assert all((Path(folder) / name).is_file() for name in founding.DATABASES)
        return opened(folder)

    monkeypatch.setattr(dg.DagsterInstance, "from_config", look)
    (tmp_path / "dagster" / f"{founding.ASIDE}killed" / "history").mkdir(parents=True)
    with as_shipped(), open_instance(load_settings(tmp_path)) as instance:
        assert instance.get_runs() == [] and instance.all_instigator_state() == []
    assert [len(versions) for versions in seen[0].values()] == [1, 1] and seen[0] == _versions(tmp_path)
    assert [path.name for path in (tmp_path / "dagster").glob(f"{founding.ASIDE}*")] == []


@pytest.mark.parametrize("unfinished", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
def test_databases_that_a_daemon_is_making_are_waited_for(tmp_path: Path, unfinished: str) -> None:
    """Its tables are there and no version yet, which Dagster would take for tables of an earlier Dagster."""
    with as_shipped(), open_instance(load_settings(tmp_path)):
        pass
    path = tmp_path / "dagster" / "schedules" / "schedules.db"
    with closing(sqlite3.connect(path)) as database, database:
        ((version,),) = database.execute(founding.VERSIONS).fetchall()
        database.execute(unfinished)

    def finish() -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
            database.execute("INSERT INTO alembic_version VALUES (?)", (version,))

    maker = threading.Timer(0.7, finish)
    maker.start()
    with open_instance(load_settings(tmp_path)) as instance:
        assert not maker.is_alive() and instance.all_instigator_state() == []
    assert _versions(tmp_path)["schedules/schedules.db"] == [version]


def test_two_versions_that_two_makers_wrote_are_one_again(tmp_path: Path) -> None:
    """Such a database was opened by nobody any more."""
    with as_shipped(), open_instance(load_settings(tmp_path)):
        pass
    before = _versions(tmp_path)
    with closing(sqlite3.connect(tmp_path / "dagster" / "schedules" / "schedules.db")) as database, database:
        database.execute("INSERT INTO alembic_version VALUES (?)", (founding.EARLIER_VERSION,))
    with open_instance(load_settings(tmp_path)) as instance:
        assert instance.all_instigator_state() == []
    assert _versions(tmp_path) == before


def test_settings_with_other_storages_are_left_to_them(tmp_path: Path) -> None:
    """No database is made that nobody would read."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    text = "storage: {sqlite: {base_dir: " + str(tmp_path / "elsewhere") + "}}\n"
    (folder / "dagster.yaml").write_text(text)
    with as_shipped(), open_instance(load_settings(tmp_path)) as instance:
        assert instance.get_runs() == []
    assert list(folder.rglob("*.db")) == []


@pytest.mark.parametrize("n_tables", [1, pytest.param(5, marks=pytest.mark.long), 8])
def test_tables_that_a_killed_process_left_unmade_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_tables: int
) -> None:
    """Killed after any of them. A table that a database with events lacks was lost, and is not made."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.0)
    settings = load_settings(tmp_path)
    with as_shipped(), open_instance(settings) as instance:
        (events,) = tmp_path.rglob("event_log.db")
    with closing(sqlite3.connect(events)) as database:
        made = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid"
        tables = [name for (name,) in database.execute(made) if name != "alembic_version"]
        assert len(tables) == 9 and tables[-1] == "asset_check_executions"
        for name in [*tables[n_tables:], "alembic_version"]:
            database.execute(f"DROP TABLE {name}")
        database.commit()
    with open_instance(settings) as instance:
        assert instance.get_runs() == []
        assert instance.event_log_storage.get_pool_limits()
        instance.report_runless_asset_event(dg.AssetMaterialization("a"))
    with closing(sqlite3.connect(events)) as database:
        database.execute("DROP TABLE dynamic_partitions")
        database.commit()
    with pytest.raises(HistoryError, match="tables are missing"):
        open_instance(settings).__enter__()


def test_looking_makes_no_history(tmp_path: Path) -> None:
    with history_if_there(load_settings(tmp_path)) as (instance, reason):
        assert instance is None and "dagster.yaml" in reason
    assert list(tmp_path.iterdir()) == []


def test_errors_of_who_looks_are_not_those_of_the_history(tmp_path: Path) -> None:
    with open_instance(load_settings(tmp_path)):
        pass
    with pytest.raises(ValueError, match="mine"), history_if_there(load_settings(tmp_path)) as (instance, reason):
        assert instance is not None and not reason
        raise ValueError("mine")


def test_connections_are_kept_while_a_history_is_open_and_none_after(tmp_path: Path) -> None:
    """What is then copied or put in its place is whole, and is what is read."""
    home, copy, connections = tmp_path / "home", tmp_path / "copy", []

    def count(*_: object) -> None:
        connections.append(1)

    sqlalchemy.event.listen(sqlalchemy.Pool, "connect", count)
    try:
        with as_shipped(), open_instance(load_settings(home)) as instance:
            shutil.copytree(home, copy)
            before = len(connections)
            for number in range(20):
                instance.report_runless_asset_event(dg.AssetMaterialization("a", metadata={"number": number}))
            assert len(connections) - before <= 2
            assert [*home.rglob("*.db-wal")]
        assert not [*home.rglob("*.db-wal")]
        with open_instance(load_settings(home)) as instance:
            assert len(instance.fetch_materializations(dg.AssetKey("a"), limit=100).records) == 20
            shutil.rmtree(home)
            shutil.copytree(copy, home)
            assert not instance.fetch_materializations(dg.AssetKey("a"), limit=100).records
    finally:
        sqlalchemy.event.remove(sqlalchemy.Pool, "connect", count)


@pytest.mark.slow
def test_databases_that_another_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they ship: what is in them can be read meanwhile, and what would write is told so when it has waited."""
    monkeypatch.setattr(module, "prepare", SHIPPED)
    connect = sqlite3.dbapi2.connect  # which waits for five seconds, each time somebody tries
    monkeypatch.setattr(sqlite3.dbapi2, "connect", lambda *args, **more: connect(*args, **{**more, "timeout": 0.05}))
    settings = load_settings(tmp_path)
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("chunks", ["0000"])
    holders = [sqlite3.connect(path) for path in (tmp_path / "dagster").rglob("*.db")]
    for holder in holders:
        holder.execute("BEGIN EXCLUSIVE")
    try:
        with history_if_there(settings) as (instance_there, reason):
            assert instance_there is not None and not reason
            assert instance_there.get_dynamic_partitions("chunks") == ["0000"]
        with pytest.raises(HistoryError, match="is locked by another process: try again"):  # noqa: SIM117
            with open_instance(settings) as instance:
                instance.add_dynamic_partitions("chunks", ["0001"])
    finally:
        for holder in holders:
            holder.close()


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"\0" * 300, b"[1, 2", b"telemetry: 3\n", b"event_log_storage: {module: x, class: y}\n"]
)
def test_configuration_that_is_none(tmp_path: Path, content: bytes) -> None:
    """Of whatever kind its fault is: which file it is, and that it may be moved away."""
    settings = load_settings(tmp_path)
    with open_instance(settings):
        pass
    config = tmp_path / "dagster" / "dagster.yaml"
    config.write_bytes(content)
    with pytest.raises(HistoryError) as caught, open_instance(settings):
        pass
    said = str(caught.value)
    assert f"{config} is not a configuration that Dagster takes" in said and "move it away" in said
    assert len(said.splitlines()) == 1 and len(said) < 800
    with history_if_there(settings) as (instance, reason):
        assert instance is None and "not a configuration" in reason
    config.unlink()
    with open_instance(settings) as opened:
        assert opened.get_runs_count() == 0


def test_databases_of_no_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves that was killed before it made tables; Dagster takes the file for one that has them."""
    monkeypatch.setattr(module, "prepare", SHIPPED)
    settings = load_settings(tmp_path)
    with open_instance(settings):
        pass
    for path in (tmp_path / "dagster").rglob("*.db*"):
        path.write_bytes(b"")
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("chunks", ["0000"])
        assert instance.get_dynamic_partitions("chunks") == ["0000"]


def test_history_without_its_tables_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare", SHIPPED)
    settings = load_settings(tmp_path)
    with open_instance(settings) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("a"))
    (events,) = (tmp_path / "dagster").rglob("event_log.db")
    with sqlite3.connect(events) as database:
        database.execute("DROP TABLE dynamic_partitions")
    database.close()
    with pytest.raises(HistoryError, match="is damaged: restore"), open_instance(settings):
        pass
