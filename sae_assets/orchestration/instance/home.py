"""The Dagster instance of a home folder: its ``dagster.yaml``, written once, and opening it.

A ``DAGSTER_HOME`` that is set already is used as it is.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from sae_assets.orchestration.instance.abandoned import settle
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
EVENTS = re.compile(r"(?<=^    base_dir: ).*(?=  # in this home, wherever it is moved$)", re.MULTILINE)
POOLS = {"gpu": 1}  # encoding runs at a time; change it in the UI (Deployment, Concurrency)


def prepare(settings: Settings) -> Path:
    """Make the instance's folder with its ``dagster.yaml``; an existing one is told where folder and launcher are now.

    Dagster takes the place of events as a whole path only.
    """
    home = Path(settings.environment()["DAGSTER_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    before = config.read_text(encoding="utf-8") if config.exists() else None
    text = DAGSTER_YAML if before is None else before.replace(FORMER_LAUNCHER, LAUNCHER)
    text = EVENTS.sub(lambda _: json.dumps(str(home.absolute() / "history" / "events")), text)
    if text != before:
        config.write_text(text, encoding="utf-8")
    return home


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance, its tables made before anything else can race for them, and what killed processes left settled."""
    keep_engines()
    with dg.DagsterInstance.from_config(str(prepare(settings))) as instance:
        set_pool_limits(instance)
        settle(instance)
        yield instance


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Give pools that have none an explicit limit: under a default one alone, a first batch of runs is not limited."""
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        given = {limit.name for limit in storage.get_pool_limits() if not limit.from_default}
        for pool, limit in POOLS.items():
            if pool not in given:
                storage.set_concurrency_slots(pool, limit)
