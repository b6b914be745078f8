"""A data set that grows, and Dagster's automation driven tick by tick in one process."""

import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context

from sae_assets.commands.session import Session
from sae_assets.orchestration.build import build_definitions
from sae_assets.pipeline.stages import STAGES
from sae_assets_tests.pipeline.small import PACKAGED, make_dataset, packaged_rows, write_metadata

MOST_TICKS = 40
LANDING = Path(__file__).with_name("landing.py")


def land(root: Path, n: int) -> None:
    """Let the first ``n`` packaged examples be there: an independent script, as whatever writes images would be."""
    subprocess.run([sys.executable, "-I", str(LANDING), str(PACKAGED), str(root), str(n)], check=True)


def land_without_calibration(root: Path, before: int, more: int) -> None:
    """``before`` examples as ever, and ``more`` that are all test or train."""
    make_dataset(root, before + more)
    rows = packaged_rows()[: before + more]
    for place, row in enumerate(rows):
        row["split"] = ("cal", "test", "train")[place % 3] if place < before else ("test", "train")[place % 2]
    write_metadata(root, rows)


class Follower:
    """The automation conditions of a session's data sets, evaluated and obeyed until nothing more is asked for.

    Attributes:
        made: how often each (asset, partition) was materialized.
    """

    def __init__(self, session: Session):
        self.session = session
        self.definitions = build_definitions(session.catalog, session.resources)
        self.made: Counter[tuple[str, str]] = Counter()
        self._cursor: Any = None

    def tick(self) -> set[tuple[str, str]]:
        """What one evaluation asks for, as (asset key, partition)."""
        instance = self.session.instance
        # The daemon asks for the partitions once in a tick; Dagster's function for tests asks thousands of times.
        asked_once = functools.cache(instance.get_dynamic_partitions)
        with (
            mock.patch.object(instance, "get_dynamic_partitions", asked_once),
            partition_loading_context(datetime.now(UTC), instance),
        ):
            result = dg.evaluate_automation_conditions(
                defs=self.definitions,
                instance=instance,
                asset_selection=dg.AssetSelection.groups("small"),
                cursor=self._cursor,
            )
            self._cursor = result.cursor
            return {
                (found.key.to_user_string(), partition)
                for found in result.results
                for _, partition in found.true_subset.expensively_compute_asset_partitions()
            }

    @staticmethod
    def together(wanted: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Stages asked for at once with an input that has other partitions: two runs, whose order nobody knows."""
        stages = {key.rsplit("/")[-1] for key, _ in wanted}
        return {
            (stage, name)
            for stage in stages
            for name in (*STAGES[stage].chunk_inputs, *STAGES[stage].model_inputs)
            if name in stages and STAGES[name].level != STAGES[stage].level
        }

    def run(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Materialize what was asked for, one run per partition, as the daemon does."""
        by_partition: dict[str, list[dg.AssetKey]] = {}
        for key, partition in sorted(wanted):
            by_partition.setdefault(partition, []).append(dg.AssetKey(key.split("/")))
            self.made[key, partition] += 1
        job = self.definitions.resolve_implicit_global_asset_job_def()
        for partition, keys in by_partition.items():
            for group in ([key for key in keys if len(key.path) == 2], [key for key in keys if len(key.path) == 3]):
                if group:
                    result = job.execute_in_process(
                        instance=self.session.instance, asset_selection=group, partition_key=partition,
                        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    )  # fmt: skip
                    assert result.success

    def settle(self) -> set[tuple[str, str]]:
        """Tick and run until four ticks in a row ask for nothing; everything that was made."""
        quiet, before = 0, Counter(self.made)
        for _ in range(MOST_TICKS):
            wanted = self.tick()
            assert self.together(wanted) == set()
            quiet = 0 if wanted else quiet + 1
            if quiet == 4:
                return set(self.made - before)
            self.run(wanted)
        raise AssertionError(f"still asking after {MOST_TICKS} ticks: {wanted}")
