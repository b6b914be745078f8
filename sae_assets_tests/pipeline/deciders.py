"""Everybody who decides what is to be made, asked about one home: the command, status, switches, Dagster's marker.

Each gives artifacts as (asset key, partition). The worlds that they are asked about stand in the tests.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from sae_assets.catalog.names import name_of
from sae_assets.commands.session import Session
from sae_assets.commands.status import states
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.instance.home import CODE_LOCATION
from sae_assets.orchestration.internals import RunsHere
from sae_assets.orchestration.partitions import asset_key, partition_key
from sae_assets.storage.address import Address

Named = set[tuple[str, str]]
MOST_TICKS = 40
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def named(addresses: Iterable[Address]) -> Named:
    return {(asset_key(address).to_user_string(), str(partition_key(address))) for address in addresses}


def stale_by_status(session: Session, dataset: str) -> Named:
    """What ``status`` does not call current."""
    wanted: Named = set()
    for label, chunks in states(session, [dataset])[dataset]["stages"].items():
        *kind_and_model, stage = label.split("/")
        kind, model = kind_and_model or (None, None)
        for chunk, state in chunks.items():
            if state != "current":
                wanted |= named([Address(dataset, stage, kind, model, None if chunk == "all" else chunk)])
    return wanted


def stale_by_dagster(session: Session, dataset: str, definitions: dg.Definitions | None = None) -> Named:
    """What Dagster's own marker in the UI calls stale or missing; ``definitions`` are made unless a switch has them."""
    graph = (definitions or build_definitions(session.catalog, session.resources)).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(session.instance, graph, LoadingContextForTest(session.instance))
    scope = session.outlook(dataset).scope.addresses()
    return {
        (key.to_user_string(), str(partition))
        for key, partition in ((asset_key(address), partition_key(address)) for address in scope)
        if resolver.get_status(key, partition) != StaleStatus.FRESH
    }


@dataclass
class Switch:
    """A switch of a data set, flipped by hand: what its ticks ask for is made, as the daemon would make it.

    Attributes:
        made: how often each artifact was made.
    """

    session: Session
    dataset: str
    made: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.definitions = build_definitions(self.session.catalog, self.session.resources)
        self.repository = self.definitions.get_repository_def()
        self._runs = RunsHere(self.definitions.resolve_implicit_global_asset_job_def(), *CODE_LOCATION)
        self._minute = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)

    def follow(self) -> Named:
        """What one look of ``…__follow`` asks for."""
        sensor = self.repository.get_sensor_def(name_of(self.dataset, "follow"))
        with dg.build_sensor_context(
            instance=self.session.instance, repository_def=self.repository, resources=self.session.resources
        ) as context:
            answer = sensor(context)
        requests = [] if isinstance(answer, dg.SkipReason) else answer
        return {
            (key.to_user_string(), str(each.partition_key)) for each in requests for key in each.asset_selection or ()
        }

    def backfill(self, kind: str = "backfill") -> Named:
        """What one tick of ``…__backfill`` launches; the backfill is taken out of Dagster's hands."""
        self._minute += timedelta(minutes=1)
        schedule = self.repository.get_schedule_def(name_of(self.dataset, kind))
        with dg.build_schedule_context(
            instance=self.session.instance, repository_def=self.repository, resources=self.session.resources,
            scheduled_execution_time=self._minute,
        ) as context:  # fmt: skip
            requests = schedule.evaluate_tick(context).run_requests or []
        wanted: Named = set()
        for request in requests:
            job = self.repository.get_job(name_of(self.dataset, f"launch_{kind}"))
            assert job.execute_in_process(
                instance=self.session.instance, run_config={**request.run_config, **QUIET}
            ).success
            launched = self.session.instance.get_backfill(str(request.run_key))
            assert launched is not None
            wanted |= self._taken_over(launched)
        return wanted

    def _taken_over(self, backfill: Any) -> Named:
        from dagster._core.execution.backfill import BulkActionStatus

        self.session.instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))
        subset = backfill.asset_backfill_data.target_subset
        return {
            (key.to_user_string(), str(partition))
            for key in subset.asset_keys
            for partition in subset.get_partitions_subset(key).get_partition_keys()
        }

    def make(self, wanted: Named) -> None:
        """Make what was asked for, one run per partition and level, inputs first."""
        from sae_assets.pipeline.stages import ORDER, STAGES

        runs: dict[tuple[int, str], list[dg.AssetKey]] = {}
        segment, level, segments = 0, "", {}
        for name in ORDER:
            segment += STAGES[name].level != level
            level, segments[name] = STAGES[name].level, segment
        for key, partition in sorted(wanted):
            path = key.split("/")
            runs.setdefault((segments[path[-1]], partition), []).append(dg.AssetKey(path))
            self.made[key, partition] += 1
        for (_, partition), keys in sorted(runs.items(), key=lambda run: run[0][0]):
            _, succeeded, _ = self._runs.execute(
                self.session.instance, keys, _key(partition), run_config=QUIET, tags={}
            )
            assert succeeded

    def settle(self, tick: str = "follow") -> Named:
        """Tick and make until nothing is asked for; everything that was made since."""
        before = Counter(self.made)
        for _ in range(MOST_TICKS):
            wanted = self.follow() if tick == "follow" else self.backfill(tick)
            if not wanted:
                return set(self.made - before)
            self.make(wanted)
        raise AssertionError(f"still asking after {MOST_TICKS} ticks: {wanted}")


def _key(partition: str) -> str:
    from sae_assets.orchestration.partitions import multi_key

    chunk, _, model = partition.partition("|")
    return multi_key(model, chunk) if model else partition


def made_by_command(session: Session, dataset: str, **options: Any) -> tuple[Named, int]:
    """What ``materialize`` makes until it is content, and in how many runs."""
    made: Named = set()
    runs, _ = session.materialize([dataset], on_batch=lambda batch, *_: made.update(named(batch.addresses)), **options)
    return made, runs
