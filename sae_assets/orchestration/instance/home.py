"""The Dagster instance of a home folder: its ``dagster.yaml``, written once, and opening it.

A ``DAGSTER_HOME`` that is set already is used as it is.
"""

import errno
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import dagster as dg
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError
from upath import UPath

from sae_assets.errors import HistoryError
from sae_assets.orchestration.instance.abandoned import settle
from sae_assets.orchestration.instance.engines import close_engines, keep_engines
from sae_assets.orchestration.instance.founding import keep_one_version, make_databases, wait_for_databases
from sae_assets.orchestration.internals import carry_switches_over, has_its_tables, make_missing_tables
from sae_assets.orchestration.switches import renamed
from sae_assets.settings import Settings
from sae_assets.storage.atomic import write_atomically

Instance = dg.DagsterInstance  # for those who pass it on and do not know Dagster

DAGSTER_YAML = """\
# Written by sae_assets when the home folder was made; edit freely, it is not written again.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 4  # each of them is a worker process of a gigabyte while it has work
  pools:
    granularity: op
    default_limit: 1
run_queue:
  dequeue_interval_seconds: 1  # a run of a warm worker may be over in less
  dequeue_use_threads: true  # runs of one look are handed to their workers side by side
  dequeue_num_workers: 4
event_log_storage:  # one file, in place of one with all tables and indexes per run
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config:
    base_dir: events  # in this home, wherever it is moved
code_servers:
  local_startup_timeout: 180  # seconds: where the disk or the machine is slow, the first import takes long
run_launcher:  # runs go to worker processes that stay alive, and each can be checked for life
  module: sae_assets.orchestration.instance.launcher
  class: WatchedRunLauncher
run_monitoring:  # a killed run is marked as failed, and gives its pool slot back
  enabled: true
  start_timeout_seconds: 300
  poll_interval_seconds: 30
  free_slots_after_run_end_seconds: 60
run_retries:  # a killed run is made again; one that failed by itself would fail again
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""
FORMER_LAUNCHER, LAUNCHER = "module: sae_assets.launcher\n", "module: sae_assets.orchestration.instance.launcher\n"
LOCK = "opening.lock"
TRIES, SECONDS_BETWEEN = 5, 0.5  # to open a history, of which a daemon may be making the tables
WITHOUT = "The files do not need it: `sae-assets verify` and `sae-assets show` read them."
LOCKED = "is locked by another process: try again when that has ended, or stop it"
DENIED = "cannot be written: give it back its permissions, or copy the home to where you may write"
FULL = "cannot be written: the disk is full"
FAILING = "cannot be read or written: the disk is full or failing, or a file may not grow further (`ulimit -f`)"
DAMAGED = (
    "is damaged: restore {folder} from a backup, or move it away, and what is in the store is recorded anew by the "
    "next `sae-assets materialize`"
)
NO_ANSWER = "does not answer"
PRIMARY = 0xFF  # bits of SQLite's code that say what kind of error it is; the others tell kinds of it apart
OF_DATABASE = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_READONLY: DENIED,
    sqlite3.SQLITE_CANTOPEN: DENIED,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: FAILING,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
}
OF_SYSTEM = {errno.EACCES: DENIED, errno.EPERM: DENIED, errno.EROFS: DENIED, errno.ENOSPC: FULL, errno.EDQUOT: FULL}
EVENTS = re.compile(r"(?<=^    base_dir: ).*(?=  # in this home, wherever it is moved$)", re.MULTILINE)
CODE_LOCATION = ("sae_assets.definitions", "sae_assets")  # module and name, as in workspace.yaml
POOLS = {"gpu": 1}  # encoding runs at a time; change it in the UI (Deployment, Concurrency)


def prepare(settings: Settings) -> Path:
    """Make the instance's folder with its ``dagster.yaml``; an existing one is told where folder and launcher are now.

    Dagster takes the place of events as a whole path only.

    Raises:
        HistoryError: the folder cannot be made, read or written; what to do is said.
    """
    home = Path(settings.environment()["DAGSTER_HOME"])
    config = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        before = config.read_text(encoding="utf-8") if config.exists() else None
        text = _placed(DAGSTER_YAML if before is None else before.replace(FORMER_LAUNCHER, LAUNCHER), home)
        if text != before:
            write_atomically(UPath(config), text.encode())
        _remove_empty(home / "history" / "events" / "event_log.db")
    except UnicodeDecodeError as error:
        raise HistoryError(_unusable(error, settings)) from None
    except OSError as error:
        raise HistoryError(_explained(error, settings)) from None
    return home


def _placed(text: str, home: Path) -> str:
    """Return a ``dagster.yaml`` that says where events are."""
    return EVENTS.sub(lambda _: json.dumps(str(home.absolute() / "history" / "events")), text)


def _remove_empty(database: Path) -> None:
    """Remove a database of no bytes, which Dagster would take for one that has all its tables."""
    log = database.with_name(f"{database.name}-wal")  # what was written and is not in the database yet
    if all(not path.exists() or path.stat().st_size == 0 for path in (database, log)):
        database.unlink(missing_ok=True)


class _MissingTablesError(sqlite3.DatabaseError):
    """A database of Dagster's without its tables is damaged, though SQLite reads it."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance, its tables made before anything else can race for them, and what killed processes left settled.

    Raises:
        HistoryError: its databases are damaged, locked or cannot be written; what to do is said.
    """
    keep_engines()
    try:
        with _one_at_a_time(settings):
            context = _opened(prepare(settings), settings)
        with context as instance:
            settle(instance)
            carry_switches_over(instance, CODE_LOCATION[1], renamed)
            yield instance
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise HistoryError(_explained(error, settings)) from None
    finally:
        close_engines()


def _opened(home: Path, settings: Settings) -> dg.DagsterInstance:
    """Return the instance as its ``dagster.yaml`` describes it, with limits of pools.

    Dagster's daemon or UI, started by hand beside this process, knows nothing of our lock: databases that it makes are
    waited for, and where it was faster by a moment they are looked at again. Where tables are still missing then, who
    made them was killed, and the others are made.

    Raises:
        HistoryError: the file is not one that Dagster takes, or a table of the history is missing.
    """
    for left in reversed(range(TRIES)):
        try:
            wait_for_databases(home)
            make_databases(home, partial(_placed, DAGSTER_YAML))
            instance = dg.DagsterInstance.from_config(str(home))
            if has_its_tables(instance):
                set_pool_limits(instance)
                return instance
            if left == 1:
                make_missing_tables(instance)
            instance.dispose()
            if not left:
                raise HistoryError(_explained(_MissingTablesError("malformed: tables are missing"), settings))
        except SQLAlchemyError as error:
            # The code of an error of SQL itself: neither a lock nor damage.
            if not left or getattr(getattr(error, "orig", None), "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
                raise
        except CommandError as error:  # alembic's, of versions
            if not left:
                raise HistoryError(_explained(error, settings)) from None
            keep_one_version(home)
        except (HistoryError, sqlite3.Error, OSError):
            raise
        except Exception as error:  # the parser's, Dagster's of wrong keys and of classes that do not exist
            raise HistoryError(_unusable(error, settings)) from None
        time.sleep(SECONDS_BETWEEN)
    raise AssertionError("the last try returns or raises")


@contextmanager
def history_if_there(settings: Settings) -> Iterator[tuple[dg.DagsterInstance | None, str]]:
    """Give the instance of a home that has one and can be opened, else None and why; nothing is made where nothing
    is."""
    folder = Path(settings.environment()["DAGSTER_HOME"])
    if not (folder / "dagster.yaml").is_file():
        yield None, f"there is no {folder / 'dagster.yaml'}"
        return
    with ExitStack() as stack:
        try:
            instance: dg.DagsterInstance | None = stack.enter_context(open_instance(settings))
            reason = ""
        except (OSError, dg.DagsterError) as error:
            instance, reason = None, str(error)
        yield instance, reason


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Two commands on a new home must not make the same tables: the second one waits until the first has."""
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # not on Windows
        yield
        return
    folder = Path(settings.environment()["DAGSTER_HOME"])
    with ExitStack() as stack:
        with suppress(OSError):  # of a home that may only be read, there is nothing to make
            folder.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((folder / LOCK).open("w")), fcntl.LOCK_EX)
        yield


def _explained(error: Exception, settings: Settings) -> str:
    """Return what a database says, and what can be done about it, by the number of the error and not by its words."""
    folder = Path(settings.environment()["DAGSTER_HOME"])
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError):
        what = OF_SYSTEM.get(cause.errno or 0, NO_ANSWER)
    else:
        what = OF_DATABASE.get(getattr(cause, "sqlite_errorcode", 0) & PRIMARY, NO_ANSWER)
    message = str(cause).splitlines()[0]
    return f"Dagster's history in {folder} {what.format(folder=folder)} ({message}). {WITHOUT}"


def _unusable(error: Exception, settings: Settings) -> str:
    """Return what is wrong with ``dagster.yaml``, and what can be done about it."""
    config = Path(settings.environment()["DAGSTER_HOME"]) / "dagster.yaml"
    reason = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())[:300]
    return (
        f"{config} is not a configuration that Dagster takes ({reason}). Correct it, or move it away: the next command "
        f"writes it anew. {WITHOUT}"
    )


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Give pools that have none an explicit limit: under a default one alone, a first batch of runs is not limited."""
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        limited = {limit.name for limit in storage.get_pool_limits() if not limit.from_default}
        for pool, limit in POOLS.items():
            if pool not in limited:
                storage.set_concurrency_slots(pool, limit)
