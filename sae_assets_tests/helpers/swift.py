"""Homes whose Dagster is quick: what tests of the pipeline run in unless they say that they want one as it ships.

The packaged ``dagster.yaml`` with other storages (see ``swift_storage``), no capture of what steps print (Dagster
starts two processes per step for it), no pictures, of which the runs of small homes would be a fifth, no trial of
other configurations of a model, for which five of six passes through it would be, and models that are built once. The
demo and the homes of real daemons and browsers are as they ship, where all of this is as users have it;
``pipeline/test_plots.py`` draws pictures, ``pipeline/test_model_warnings.py`` tries configurations, and the tests of
``rows/`` build every model twice.
"""

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sae_assets.orchestration.assets import passes
from sae_assets.orchestration.instance import home as homes
from sae_assets.rows import encoding, steady
from sae_assets.settings import Settings

SHIPPED, PICTURES, ALTERNATIVES = homes.prepare, passes.pictures, encoding.better_alternatives
BUILT_TWICE = steady.BUILT_TWICE
STORAGES = {  # where the packaged ones are, so that a home's databases are seen to be there
    "event_log_storage": ("SwiftEvents", "history/events"),
    "run_storage": ("SwiftRuns", "history"),
    "schedule_storage": ("SwiftSchedules", "schedules"),
}
NO_CAPTURE = """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def dagster_yaml(folder: Path) -> str:
    """The packaged settings for an instance in this folder, with other storages."""
    storages = "".join(
        f"{kind}:\n  module: sae_assets_tests.helpers.swift_storage\n  class: {name}\n"
        f"  config:\n    base_dir: {str(folder / place)!r}\n"
        for kind, (name, place) in STORAGES.items()
    )
    return homes.DAGSTER_YAML + storages + NO_CAPTURE


@functools.cache
def _empty() -> dict[Path, bytes]:
    """Files of an instance with its tables and nothing in them, made once per process; no folder is left behind."""
    with tempfile.TemporaryDirectory(prefix="sae_empty_") as temporary:
        folder = Path(temporary)
        (folder / "dagster.yaml").write_text(dagster_yaml(folder), encoding="utf-8")
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            homes.set_pool_limits(instance)
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def settle_in(folder: Path) -> None:
    """Tell the instance in a folder that was copied where it is now."""
    (folder / "dagster.yaml").write_text(dagster_yaml(folder), encoding="utf-8")


def prepare(settings: Settings) -> Path:
    """In place of the package's: the folder of the instance is a copy of an empty one, unless it has settings."""
    folder = Path(settings.environment()["DAGSTER_HOME"])
    if (folder / "dagster.yaml").exists():  # a test's own, or one of ours that was made earlier
        return SHIPPED(settings)
    for path, content in _empty().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    settle_in(folder)
    return folder


def _no_pictures(*_: Any) -> dict[str, Any]:
    return {}


def _no_alternatives(*_: Any) -> list[str]:
    return []


@contextmanager
def swift_homes() -> Iterator[None]:
    """Homes that are made from here on are quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(homes, "prepare", prepare)
        patch.setattr(passes, "pictures", _no_pictures)
        patch.setattr(encoding, "better_alternatives", _no_alternatives)
        patch.setattr(steady, "BUILT_TWICE", 0)
        yield


@contextmanager
def as_shipped() -> Iterator[None]:
    """Homes that are made from here on, and what runs add to them, are as the package makes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(homes, "prepare", SHIPPED)
        patch.setattr(passes, "pictures", PICTURES)
        patch.setattr(encoding, "better_alternatives", ALTERNATIVES)
        patch.setattr(steady, "BUILT_TWICE", BUILT_TWICE)
        yield
