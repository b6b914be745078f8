"""The Dagster instance of a home folder: its ``dagster.yaml``, written once, and opening it.

A ``DAGSTER_HOME`` that is set already is used as it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from sae_assets.orchestration.instance.launcher import keep_engines
from sae_assets.settings import Settings

DAGSTER_YAML = """\
# Written by sae_assets when the home folder was made; edit freely, it is not written again.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 4
  pools:
    granularity: op
    default_limit: 1
event_log_storage:  # one file, in place of one with all tables and indexes per run
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config:
    base_dir:
      env: DAGSTER_HOME
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
POOLS = {"gpu": 1}  # encoding runs at a time; change it in the UI (Deployment, Concurrency)


def prepare(settings: Settings) -> Path:
    """Make the instance's folder with its ``dagster.yaml``; one of an earlier version is told where the launcher is."""
    home = Path(settings.environment()["DAGSTER_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML, encoding="utf-8")
    elif FORMER_LAUNCHER in (text := config.read_text(encoding="utf-8")):
        config.write_text(text.replace(FORMER_LAUNCHER, LAUNCHER), encoding="utf-8")
    return home


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance, its tables made before anything else can race for them."""
    keep_engines()
    home = str(prepare(settings))
    with _named(home):
        opened = dg.DagsterInstance.from_config(home)
    with opened as instance:
        set_pool_limits(instance)
        yield instance


@contextmanager
def _named(home: str) -> Iterator[None]:
    """``DAGSTER_HOME`` is this folder, for what ``dagster.yaml`` reads from the environment."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = home
    try:
        yield
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Give pools that have none an explicit limit: under a default one alone, a first batch of runs is not limited."""
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        given = {limit.name for limit in storage.get_pool_limits() if not limit.from_default}
        for pool, limit in POOLS.items():
            if pool not in given:
                storage.set_concurrency_slots(pool, limit)
