"""Dagster's private interface, as far as it is used: one small function for each use, with the reason.

Nothing else imports a private name of Dagster (ruff holds that), but for ``instance.launcher``, which every launcher
outside Dagster must. When Dagster is upgraded, this is what to look at.

Dagster's modules of backfills, switches and workers' runs are imported where they are asked for: a process that only
loads definitions has no use for them.
"""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    CachingStaleStatusResolver,
    DataProvenance,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.partitions.context import partition_loading_context, use_partition_loading_context
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import EngineEventData
from dagster._core.execution import compute_logs
from dagster._core.execution.api import ExecuteRunWithPlanIterable, create_execution_plan, job_execution_iterator
from dagster._core.execution.context_creation_job import (
    PlanOrchestrationContextManager,
    orchestration_context_event_generator,
)
from dagster._core.execution.execute_in_process import merge_run_tags
from dagster._core.execution.plan import instance_concurrency_context as pools
from dagster._core.instance import InstanceRef
from dagster._core.instance.types import CachingDynamicPartitionsLoader
from dagster._core.loader import LoadingContext
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.snap import snapshot_from_execution_plan
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.storage.sqlite import LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION
from dagster._core.storage.tags import MAX_RETRIES_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._serdes import deserialize_value
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt, pop_captured_interrupt

if TYPE_CHECKING:
    from dagster._core.storage.event_log.base import EventLogStorage

# The version that Dagster writes down for tables of which nobody has written one.
EARLIER_VERSION = LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION
MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
NEVER_AGAIN = {MAX_RETRIES_TAG: "0"}  # tags of a run that the daemon is not to make again by itself


_targets: WeakKeyDictionary[Any, dict[dg.AssetKey, Any]] = WeakKeyDictionary()  # by step: what its checks are of
LAST_TABLES = ("dynamic_partitions", "asset_check_executions")  # of nine the fifth and the last that are made


def has_its_tables(instance: dg.DagsterInstance) -> bool:
    """Return whether the database of events has been made: Dagster takes any file in its place for one that has.

    Two of its tables stand for all: the last that is made, and one whose loss was seen.
    """
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    storage = instance.event_log_storage
    return not isinstance(storage, SqlEventLogStorage) or all(map(storage.has_table, LAST_TABLES))


def make_missing_tables(instance: dg.DagsterInstance) -> None:
    """Go on where a process was killed that made the tables of the database of events; what is there stays.

    Dagster does so by itself for its other databases. One that holds events was finished once: it is damaged.
    """
    from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
    from sqlalchemy import select

    storage = instance.event_log_storage
    if not isinstance(storage, ConsolidatedSqliteEventLogStorage):
        return
    if storage.has_table(SqlEventLogStorageTable.name):
        with storage.index_connection() as connection:
            if connection.execute(select(SqlEventLogStorageTable.c.id).limit(1)).first() is not None:
                return
    storage._init_db()


def sqlite_storages() -> tuple[ModuleType, ...]:
    """Return the modules of Dagster's SQLite storages: each makes engines and compares versions by names of its own.

    How a storage connects is nothing that a public interface lets one choose (``instance.engines``).
    """
    from dagster._core.storage.event_log.sqlite import consolidated_sqlite_event_log, sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage  # noqa: PLC0415 - with the others

    return consolidated_sqlite_event_log, sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage


def files_of_history(instance: dg.DagsterInstance) -> list[Path]:
    """Return the SQLite files that an instance keeps runs and events in; empty where it keeps them otherwise.

    What is kept there is not told by any public call. A file per run, as homes of earlier versions have it, is not
    among it: such homes are asked each time.
    """
    from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
    from dagster._core.storage.runs import SqliteRunStorage
    from sqlalchemy import make_url

    runs, events = instance.run_storage, instance.event_log_storage
    if type(runs) is not SqliteRunStorage or type(events) is not ConsolidatedSqliteEventLogStorage:
        return []
    return [Path(make_url(runs._conn_string).database or ""), Path(events.get_db_path())]


def partitions_not_passed(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]
) -> Iterator[tuple[dg.AssetKey, str, str]]:
    """Yield asset and partition of every check that did not pass when it was last planned, and the run that never
    reached it.

    The run's id is empty where the check was reached and failed.

    No public call gives the last result of a check by partition. The one behind the UI's partition page asks the
    database once for each check and makes an object of each partition; here one question gives what did not pass.
    """
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
    from sqlalchemy import func, select

    storage, status_of = instance.event_log_storage, AssetCheckExecutionRecordStatus
    if not isinstance(storage, SqlEventLogStorage):
        for info in storage.get_asset_check_partition_info(checks):
            if info.latest_execution_status != status_of.SUCCEEDED and info.partition_key:
                only_planned = info.latest_execution_status == status_of.PLANNED
                yield info.check_key.asset_key, info.partition_key, info.latest_planned_run_id if only_planned else ""
        return
    table, asked = AssetCheckExecutionsTable.c, {(key.asset_key.to_string(), key.name): key for key in checks}
    last = (
        select(func.max(table.id))
        .where(table.evaluation_event_storage_id.is_not(None))  # as in Dagster: plans of earlier versions do not count
        .where(table.asset_key.in_({asset for asset, _ in asked}))
        .where(table.check_name.in_({name for _, name in asked}))
        .group_by(table.asset_key, table.check_name, table.partition)
    )
    not_passed = (
        select(table.asset_key, table.check_name, table.partition, table.execution_status, table.run_id)
        .where(table.id.in_(last))
        .where(table.execution_status != status_of.SUCCEEDED.value)
    )
    with storage.index_connection() as connection:
        rows = connection.execute(not_passed).all()
    for asset, name, partition, status, run_id in rows:
        key = asked.get((asset, name))
        if key is not None and partition:
            yield key.asset_key, partition, run_id if status == status_of.PLANNED.value else ""


def active_backfills(instance: dg.DagsterInstance) -> Iterator[tuple[str, Sequence[dg.AssetKey]]]:
    """Yield id and assets of every backfill that has not ended; no public call in Python lists backfills."""
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus  # noqa: PLC0415 - see above

    statuses = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=statuses)):
        yield backfill.backfill_id, backfill.asset_selection or ()


def launched_at(instance: dg.DagsterInstance, backfill_id: str) -> float | None:
    """Return when a backfill was launched, seconds since the epoch; None if there is no such backfill."""
    backfill = instance.get_backfill(backfill_id)
    return None if backfill is None else float(backfill.backfill_timestamp)


def launch_backfill(
    instance: dg.DagsterInstance,
    partitions: Mapping[dg.AssetKey, tuple[dg.PartitionsDefinition, Sequence[str]]],
    *,
    backfill_id: str,
    title: str,
    description: str,
    tags: Mapping[str, str],
) -> bool:
    """Launch a backfill of these partitions; False if one of this id was launched before.

    No public call makes one from Python; this is what the UI's dialog and the automation daemon call.
    """
    from dagster._core.execution.backfill import PartitionBackfill  # noqa: PLC0415 - see above

    if instance.get_backfill(backfill_id) is not None:
        return False
    subsets = {key: each.subset_with_partition_keys(names) for key, (each, names) in partitions.items()}
    instance.add_backfill(
        PartitionBackfill.from_asset_graph_subset(
            backfill_id=backfill_id,
            backfill_timestamp=time.time(),
            tags=dict(tags),
            dynamic_partitions_store=instance,
            asset_graph_subset=AssetGraphSubset(partitions_subsets_by_asset_key=subsets),  # type: ignore[call-arg]
            title=title,
            description=description,
            run_config=None,
        )
    )
    return True


def carry_switches_over(instance: dg.DagsterInstance, location: str, renamed: Callable[[str], str | None]) -> None:
    """Give what is on in a code location under a former name its name of today, with its cursor.

    Dagster keeps for ever that a sensor or schedule whose name went away is on, and runs nothing of it. No public call
    reads or writes what it keeps without the definition of that name.

    Args:
        renamed: today's name of a former one; None of any other.
    """
    from dagster._core.scheduler.instigation import (  # noqa: PLC0415 - see above
        InstigatorState,
        InstigatorStatus,
        ScheduleInstigatorData,
    )

    for state in instance.all_instigator_state(instigator_statuses={InstigatorStatus.RUNNING}):
        name = renamed(state.instigator_name)
        if name is None or state.origin.location_name != location:
            continue
        data = state.instigator_data
        if isinstance(data, ScheduleInstigatorData):  # from now on: what was missed is not made up for
            data = ScheduleInstigatorData(data.cron_schedule, time.time())
        origin = state.origin.repository_origin.get_instigator_origin(name)
        today = InstigatorState(origin, state.instigator_type, InstigatorStatus.RUNNING, data)
        if instance.get_instigator_state(today.instigator_origin_id, today.selector_id) is None:
            instance.add_instigator_state(today)
        instance.delete_instigator_state(state.instigator_origin_id, state.selector_id)


class _Loading(LoadingContext):
    """Queries are batched in it: one look."""

    def __init__(self, instance: dg.DagsterInstance):
        self._instance, self._loaders = instance, {}  # type: ignore[var-annotated]

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> Any:
        return self._loaders


def partition_states(
    instance: dg.DagsterInstance, definitions: Mapping[dg.AssetKey, dg.PartitionsDefinition]
) -> Iterator[tuple[dg.AssetKey, Mapping[dg.AssetPartitionStatus, set[str]]]]:
    """Yield each asset that any run ever planned to make: its partitions by what ``get_status_by_partition`` says of
    them.

    That call reads an asset's record again, with its latest event, asks for the newest run that planned to make it, and
    several times which partitions there are. Here each of these is one question for all assets, and what Dagster itself
    keeps of an asset is taken where nothing is newer.
    """
    from dagster._core.storage.event_log.base import AssetRecord

    look, dynamic = _Loading(instance), CachingDynamicPartitionsLoader(instance)
    records = AssetRecord.blocking_get_many(look, list(definitions))
    entries = {record.asset_entry.asset_key: record.asset_entry for record in records if record is not None}
    newest = _newest_attempts(instance, entries)
    for key, entry in entries.items():
        definition, cached = definitions[key], entry.cached_status
        with partition_loading_context(None, dynamic):
            holds = (
                cached is not None
                and cached.latest_storage_id == newest.get(key)
                and cached.earliest_in_progress_materialization_event_id is None
                and cached.partitions_def_id == definition.get_serializable_unique_identifier()
            )
        if not holds:
            cached = get_and_update_asset_status_cache_value(instance, key, definition, dynamic, look)
        partitions = set(definition.get_partition_keys(dynamic_partitions_store=dynamic))
        by_status: dict[dg.AssetPartitionStatus, set[str]] = {}
        for status, subset in {
            dg.AssetPartitionStatus.IN_PROGRESS: cached
            and cached.deserialize_in_progress_partition_subsets(definition),
            dg.AssetPartitionStatus.FAILED: cached and cached.deserialize_failed_partition_subsets(definition),
            dg.AssetPartitionStatus.MATERIALIZED: cached
            and cached.deserialize_materialized_partition_subsets(definition),
        }.items():  # the first that holds a partition tells what it is
            by_status[status] = {partition for partition in partitions if subset and partition in subset}
            partitions -= by_status[status]
        yield key, by_status


def _newest_attempts(instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]) -> Mapping[dg.AssetKey, int]:
    """Number of the newest event by which each asset was planned or made; empty where that is not kept in SQL."""
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
    from sqlalchemy import func, select

    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return {}
    table, by_column = SqlEventLogStorageTable.c, {key.to_string(): key for key in keys}
    question = (
        select(table.asset_key, func.max(table.id))
        .where(table.asset_key.in_(by_column))
        .where(table.dagster_event_type.in_([MATERIALIZATION.value, PLANNED.value]))
        .group_by(table.asset_key)
    )
    with storage.index_connection() as connection:
        return {by_column[asset]: newest for asset, newest in connection.execute(question)}


def newest_event(instance: dg.DagsterInstance) -> int:
    """Number of the newest event of any kind; the public calls tell only that of one asset or of run statuses."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def data_versions(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[tuple[str, str]]:
    """Yield every partition of an asset that was made, with the data version of the last time. Its tag is not
    public."""
    seen: set[str] = set()
    cursor, has_more = None, True
    while has_more:
        page = instance.fetch_materializations(key, limit=1000, cursor=cursor)
        for record in page.records:
            materialization, partition = record.asset_materialization, record.partition_key
            if materialization is not None and partition is not None and partition not in seen:
                seen.add(partition)
                yield partition, (materialization.tags or {}).get(DATA_VERSION_TAG, "")
        cursor, has_more = page.cursor, page.has_more


class _StaleStatus(CachingStaleStatusResolver):
    """Dagster's own, but for a question for every partition that an artifact reads: whether it was made anew since.

    Here one question per asset tells which were; of those alone Dagster's code compares the data versions. Nor is the
    latest materialization of a partition asked for that was read before, or what partitions there are once more.
    """

    def __init__(self, instance: dg.DagsterInstance, asset_graph: Any, look: LoadingContext):
        super().__init__(instance, asset_graph, look)
        self._partition_loading_context = self._partition_loading_context.updated(
            effective_dt=None, dynamic_partitions_store=CachingDynamicPartitionsLoader(instance)
        )
        self._latest_ids: dict[dg.AssetKey, Mapping[str, int]] = {}
        self.read: dict[AssetKeyPartitionKey, dg.EventLogRecord] = {}

    @use_partition_loading_context
    def is_stale(self, key: AssetKeyPartitionKey) -> bool:
        """Return what :meth:`get_status` says of a partition that was made, after the first cause that is found."""
        return next(iter(self._get_stale_causes_materialized(key=key)), None) is not None

    def _get_latest_data_version_record(self, key: AssetKeyPartitionKey) -> dg.EventLogRecord | None:
        return self.read.get(key) or super()._get_latest_data_version_record(key=key)

    def latest_ids(self, key: dg.AssetKey) -> Mapping[str, int]:
        """Return storage id of the latest materialization of every partition, as it was at the first question."""
        if key not in self._latest_ids:
            log = self._instance.event_log_storage
            self._latest_ids[key] = log.get_latest_storage_id_by_partition(key, MATERIALIZATION)
        return self._latest_ids[key]

    def _is_dep_updated(self, provenance: DataProvenance, dep_key: AssetKeyPartitionKey) -> bool:
        seen, partition = provenance.input_storage_ids[dep_key.asset_key], dep_key.partition_key
        if partition is not None and seen is not None and self.latest_ids(dep_key.asset_key).get(partition, 0) <= seen:
            return False
        return super()._is_dep_updated(provenance, dep_key)


class StaleMarker:
    """Dagster's own marker is read here for partitions, as the UI computes it, and told what makes it say otherwise.

    Neither the marker nor the names of the tags by which it compares are public.
    """

    def __init__(self, instance: dg.DagsterInstance, asset_graph: Any):
        self._instance, self._graph = instance, asset_graph
        self._resolver = _StaleStatus(instance, asset_graph, _Loading(instance))

    def is_stale(self, latest: dg.EventLogRecord) -> bool:
        """Return whether the marker says that a partition is out of date, whose latest materialization this is."""
        materialization = latest.asset_materialization
        assert materialization is not None
        key = AssetKeyPartitionKey(materialization.asset_key, materialization.partition)
        self._resolver.read[key] = latest
        return self._resolver.is_stale(key)

    def latest_ids(self, key: dg.AssetKey) -> Mapping[str, int]:
        """Return storage id of the latest materialization of every partition: one question for all of them."""
        return self._instance.event_log_storage.get_latest_storage_id_by_partition(key, MATERIALIZATION)

    def code_version(self, key: dg.AssetKey) -> str:
        """Return the code version of an asset's definition."""
        return str(self._graph.get(key).code_version)

    def recorded(self, key: dg.AssetKey, partitions: Sequence[str]) -> Iterator[dg.EventLogRecord]:
        """Yield the latest materialization of each of these partitions."""
        latest = dg.AssetRecordsFilter(asset_key=key, asset_partitions=list(partitions))
        yielded: set[str | None] = set()
        cursor, has_more = None, True
        while has_more and len(yielded) < len(partitions):
            page = self._instance.fetch_materializations(latest, limit=1000, cursor=cursor)
            for record in page.records:
                if record.partition_key not in yielded:
                    yielded.add(record.partition_key)
                    yield record
            cursor, has_more = page.cursor, page.has_more

    def versions_of(self, record: dg.EventLogRecord) -> tuple[str, Mapping[str, str]]:
        """Return the code version that a materialization recorded, and all its tags."""
        tags = record.asset_materialization.tags or {} if record.asset_materialization else {}
        return tags.get(CODE_VERSION_TAG, ""), tags

    def say(self, record: dg.EventLogRecord, *, stale: str) -> None:
        """Record a materialization anew, without a run, so that the marker is right.

        Args:
            stale: why the partition is to be made; empty says that it is up to date.
        """
        materialization = record.asset_materialization
        assert materialization is not None
        tags = dict(materialization.tags or {})
        if stale:
            tags[CODE_VERSION_TAG] = f"to be made: {stale}"
        else:
            tags[CODE_VERSION_TAG] = self.code_version(materialization.asset_key)
            for parent in self._graph.get(materialization.asset_key).parent_keys:
                latest = self.latest_ids(parent)
                tags.setdefault(get_input_data_version_tag(parent), tags.get(DATA_VERSION_TAG, ""))
                tags[get_input_event_pointer_tag(parent)] = str(max(latest.values(), default=0))
        self._instance.report_runless_asset_event(
            dg.AssetMaterialization(
                materialization.asset_key,
                partition=materialization.partition,
                metadata=materialization.metadata,
                tags=tags,
            )
        )


class CheckResult(dg.AssetCheckResult):
    """The result of a check. All results of an asset in a step are of one materialization, which is read once.

    Dagster reads it for every result anew, with all its metadata.
    """

    def _get_partitioned_target_materialization_data(
        self, step_context: Any, asset_key: dg.AssetKey, partition_key: str
    ) -> Any:
        of_step = _targets.setdefault(step_context, {})
        if asset_key not in of_step:
            read = super()._get_partitioned_target_materialization_data
            of_step[asset_key] = read(step_context, asset_key, partition_key)
        return of_step[asset_key]


class RunsHere:
    """Runs of a code location's assets in this process, as the UI would launch them.

    ``JobDefinition.execute_in_process`` describes the whole job three times for every run (a fifth of what a short run
    costs, and it grows with the catalog), and its runs do not say which code location they are of: the UI then cannot
    make them again (HTTP 500). Here each selection is described once, and a run says where it belongs.

    Args:
        job: all assets.
        module: that the workspace loads the assets from; location: its name there.
    """

    def __init__(self, job: dg.JobDefinition, module: str, location: str):
        target = LoadableTargetOrigin(executable_path=sys.executable, module_name=module)
        origin = ManagedGrpcPythonEnvCodeLocationOrigin(target, location)
        repository = RemoteRepositoryOrigin(origin, SINGLETON_REPOSITORY_NAME)
        self._job, self._origin = job, RemoteJobOrigin(repository, job.name)
        self._parts: dict[frozenset[dg.AssetKey], dg.JobDefinition] = {}

    def execute(
        self,
        instance: dg.DagsterInstance,
        keys: Sequence[dg.AssetKey],
        partition: str,
        *,
        run_config: Mapping[str, Any],
        tags: Mapping[str, str],
        told_to_end: Callable[[], bool] = lambda: False,
    ) -> tuple[str, bool, Sequence[dg.DagsterEvent]]:
        """Make a partition of these assets; the run's id, whether it succeeded, and all its events.

        Args:
            told_to_end: asked after a step that failed: whether a signal has come, of which a library may have made an
                error of its own.

        Raises:
            KeyboardInterrupt: this process was told to end. The run has its end in the history: canceled, unless the
                signal came when nothing was left to do.
        """
        chosen = frozenset(keys)
        if chosen not in self._parts:
            self._parts[chosen] = self._job.get_subset(asset_selection=chosen)
        part = self._parts[chosen]
        job = InMemoryJob(part)
        plan = create_execution_plan(job, run_config=run_config, instance_ref=instance.get_ref())
        events, interrupted = [], False
        with capture_interrupts():  # once there is a run, it is to have an end
            run = instance.create_run(
                job_name=part.name,
                run_id=None,
                run_config=run_config,
                status=None,
                tags=merge_run_tags(part, partition, tags, list(keys), instance, run_config),
                root_run_id=None,
                parent_run_id=None,
                step_keys_to_execute=plan.step_keys_to_execute,
                execution_plan_snapshot=snapshot_from_execution_plan(plan, part.get_job_snapshot_id()),
                job_snapshot=part.get_job_snapshot(),
                parent_job_snapshot=part.get_parent_job_snapshot(),
                asset_selection=chosen,
                asset_check_selection=None,
                resolved_op_selection=None,
                op_selection=None,
                remote_job_origin=self._origin,
                job_code_origin=None,
                asset_graph=part.asset_layer.asset_graph,
            )
            context = PlanOrchestrationContextManager(
                context_event_generator=orchestration_context_event_generator,
                job=job,
                execution_plan=plan,
                dagster_run=run,
                instance=instance,
                run_config=run_config,
                executor_defs=None,
                output_capture=None,
                raise_on_error=False,
            )
            iterator = partial(_canceled_when_interrupted, told_to_end)
            for event in ExecuteRunWithPlanIterable(plan, iterator, context):
                events.append(event)
                interrupted |= check_captured_interrupt() or event.event_type is dg.DagsterEventType.RUN_CANCELED
        if interrupted:
            raise KeyboardInterrupt
        return run.run_id, not any(event.is_job_failure for event in events), events


def _canceled_when_interrupted(
    told_to_end: Callable[[], bool], job_context: Any, execution_plan: Any
) -> Iterator[dg.DagsterEvent]:
    """Yield a job's execution whose run counts as canceled where a signal ends it; Dagster would call it failed."""
    execute = job_context.executor.execute

    def executed(*arguments: Any) -> Iterator[dg.DagsterEvent]:
        failed = False
        try:
            for event in execute(*arguments):
                failed |= event.is_step_failure
                yield event
            if failed and told_to_end():
                raise dg.DagsterExecutionInterruptedError
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            job_context.instance.report_run_canceling(job_context.dagster_run)
            raise

    job_context.executor.execute = executed  # of this run alone
    yield from job_execution_iterator(job_context, execution_plan)


def instance_of(reference: str) -> dg.DagsterInstance:
    """Return the instance that a launcher's serialized reference tells; no public call takes one."""
    return dg.DagsterInstance.from_ref(deserialize_value(reference, InstanceRef))


def execute_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Execute a run that exists; all that happens, failures included, is in Dagster's history.

    What ``dagster api execute_run`` (dagster/_cli/api.py) does; no public call executes a run that exists already.

    Raises:
        RuntimeError: no such run, or one of unknown code.
    """
    from dagster._grpc.impl import core_execute_run  # noqa: PLC0415 - see above
    from dagster._utils.hosted_user_process import recon_job_from_origin  # noqa: PLC0415 - see above

    run = instance.get_run_by_id(run_id)
    if run is None or run.job_code_origin is None:
        raise RuntimeError(f"Run {run_id} is not in the instance, or does not say where its code is.")
    pid = os.getpid()
    instance.report_engine_event(f"Started in worker process {pid}.", run, EngineEventData.in_process(pid))
    with suppress(BaseException):  # it is in the history already
        for _ in core_execute_run(recon_job_from_origin(run.job_code_origin), run, instance, inject_env_vars=True):
            pass


def interruptible() -> AbstractContextManager[None]:
    """Turn signals into Dagster's own exception of an interrupted run, as its processes do."""
    return capture_interrupts()


@contextmanager
def copy_output_by(copy: Callable[..., Any]) -> Iterator[None]:
    """Have what a run prints copied from its log to this process's own output by this context manager."""
    theirs, compute_logs.tail_to_stream = compute_logs.tail_to_stream, copy
    try:
        yield
    finally:
        compute_logs.tail_to_stream = theirs


@contextmanager
def looking_for_slots(most_seconds: float, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Let steps of this process that wait for a slot of a pool sleep, and look again after so long at most.

    Dagster takes the minimum of the waiting times with 0: a run in process then does not sleep at all, and burns a core
    for as long as another run has the slot; and its waiting times grow to 15 s, in which nobody may have it. Nor does
    it heed an interrupt meanwhile.

    Args:
        on_wait: told the id of the waiting run before each sleep.
    """

    def wait(context: pools.InstanceConcurrencyContext) -> float:
        if pop_captured_interrupt():
            raise dg.DagsterExecutionInterruptedError
        on_wait(context._run_id)
        return wait_for_a_slot(context)

    ours = [
        (pools.InstanceConcurrencyContext, "interval_to_next_pending_claim_check", wait),
        (pools, "MAX_CONCURRENCY_CLAIM_BLOCKED_INTERVAL", most_seconds),
    ]
    theirs = [(owner, name, getattr(owner, name)) for owner, name, _ in ours]
    try:
        for owner, name, value in ours:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in theirs:
            setattr(owner, name, value)


def wait_for_a_slot(context: pools.InstanceConcurrencyContext) -> float:
    """Return seconds until a step that waits for a slot of a pool is to ask again."""
    waits = [at - time.time() for at in context._pending_timeouts.values()]
    return max(0.0, min(waits, default=0.0))


def hand_on_slots(storage: "EventLogStorage", pools: Collection[str]) -> None:
    """Give free slots to the steps that wait for them.

    Dagster does so when a slot is freed, in two transactions: a process that is killed in between leaves a free slot
    that no waiting step is told of. No public call tells them.
    """
    from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

    if not isinstance(storage, SqlEventLogStorage):
        return
    for pool in pools:
        info = storage.get_concurrency_info(pool)
        for _ in range(min(info.slot_count - info.assigned_step_count, info.pending_step_count)):
            storage.assign_pending_steps([pool])


def serve(arguments: Sequence[str], webserver: str) -> None:
    """``dagster dev`` with these arguments, in which a module of ours is the webserver; ends with the process.

    It starts ``python -m dagster_webserver`` and lets nobody put anything in front of it.

    Raises:
        RuntimeError: Dagster starts its webserver in another way than this: nothing is served then.
    """
    from dagster._cli import dev  # noqa: PLC0415 - nobody else needs it

    start, replaced = dev.open_ipc_subprocess, False

    def start_ours(parts: list[str], **options: Any) -> Any:
        nonlocal replaced
        if not replaced and parts[1:3] != ["-m", "dagster_webserver"]:
            raise RuntimeError(f"expected Dagster to start its webserver first, found {parts[:3]}")
        replaced, parts = True, [webserver if part == "dagster_webserver" else part for part in parts]
        return start(parts, **options)

    setattr(dev, "open_ipc_subprocess", start_ours)  # noqa: B010
    dev.dev_command.main(list(arguments), prog_name="sae-assets ui")


def webserver_behind(guard: Callable[[Any], Any]) -> None:
    """Dagster's webserver with the arguments of this process, its application behind a guard; ends with the process."""
    from dagster_webserver import cli  # noqa: PLC0415 - for this process alone

    application = cli.create_app_from_workspace_process_context

    def guarded(*arguments: Any, **named: Any) -> Any:
        return guard(application(*arguments, **named))

    setattr(cli, "create_app_from_workspace_process_context", guarded)  # noqa: B010
    cli.main()
