"""The Dagster instance of a home folder: its ``dagster.yaml``, written once, and opening it.

A ``DAGSTER_HOME`` that is set already is used as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from sae_assets.settings import Settings

DAGSTER_YAML = """\
# Written by sae_assets when the home folder was made; edit freely, it is not written again.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: op
    default_limit: 1
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 60
"""


def prepare(settings: Settings) -> Path:
    """Make the instance's folder with its ``dagster.yaml``."""
    home = Path(settings.environment()["DAGSTER_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML, encoding="utf-8")
    return home


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance, its tables made before anything else can race for them."""
    with dg.DagsterInstance.from_config(str(prepare(settings))) as instance:
        yield instance
