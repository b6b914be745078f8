"""Dagster's history tells of a data set what was made, what failed and why, and what is running."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sae_assets.catalog import Dataset
from sae_assets.errors import SaeAssetsError, without_class_path
from sae_assets.orchestration.checks import blocking_checks
from sae_assets.orchestration.internals import active_backfills, data_versions, partition_states, partitions_not_passed
from sae_assets.orchestration.metadata import SIZES
from sae_assets.orchestration.partitions import (
    address_of,
    asset_key,
    chunks_name,
    keys_of,
    partition_key,
    partitions_of,
)
from sae_assets.pipeline.checks import READABLE
from sae_assets.pipeline.forecast import Cost
from sae_assets.pipeline.measuring import READING
from sae_assets.pipeline.planning import History
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address

CHECK_FAILED = "DagsterAssetCheckFailedError"
MEASURED = ("seconds", "peak_bytes", "bytes")
PAGE = 1000  # materializations asked for at once
REMEMBERED = 8  # by which the next one is forecast
ACTIVE = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


def history_of(instance: dg.DagsterInstance, entry: Dataset) -> History:
    """Return what Dagster remembers of a data set's artifacts.

    What failed is held until something that it reads was made since; an aggregate then may be tried again. Runs are
    asked for before and after the rest: one that ends meanwhile is running, and not one of which nothing is recorded.
    """
    running = running_artifacts(instance, entry.name)
    definitions = {key: partitions_of(stage, entry) for key, stage in keys_of(entry)}
    planned_once: list[dg.AssetKey] = []
    recorded: set[Address] = set()
    failed: set[Address] = set()
    for key, states in partition_states(instance, definitions):
        planned_once.append(key)
        keys, lost = states[dg.AssetPartitionStatus.MATERIALIZED], states[dg.AssetPartitionStatus.FAILED]
        if lost or states[dg.AssetPartitionStatus.IN_PROGRESS]:  # they may have been made before
            keys = instance.get_materialized_partitions(key)
        failed |= {address_of(key.path, partition) for partition in lost}
        recorded |= {address_of(key.path, partition) for partition in keys}
    unchecked, interrupted = _without_checks(instance, planned_once)
    failed = {address for address in failed | unchecked if not _may_go_now(instance, address)}
    return History(recorded, running | running_artifacts(instance, entry.name), failed, unchecked, interrupted)


def running_artifacts(instance: dg.DagsterInstance, dataset: str) -> set[Address]:
    """Return artifacts of a data set that queued or running runs are to make."""
    running: set[Address] = set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=ACTIVE)):
        run = record.dagster_run
        partition = run.tags.get("dagster/partition")
        for key in run.asset_selection or ():
            if key.path[0] == dataset and partition:
                running.add(address_of(key.path, partition))
    return running


def recorded_versions(instance: dg.DagsterInstance, entry: Dataset) -> Iterator[tuple[Address, str]]:
    """Yield every artifact of a data set that Dagster recorded as made, with the beginning of its content hash."""
    keys = [key for key, _ in keys_of(entry)]
    for key in with_history(instance, keys):
        for partition, version in data_versions(instance, key):
            yield address_of(key.path, partition), version


def known_chunks(instance: dg.DagsterInstance, dataset: str) -> Sequence[str]:
    """Return chunks that Dagster knows, whether they have a manifest or were added by hand."""
    return instance.get_dynamic_partitions(chunks_name(dataset))


def was_imported(instance: dg.DagsterInstance, address: Address) -> bool:
    """Return whether the history says so: of a file whose own header cannot be read."""
    latest = dg.AssetRecordsFilter(asset_key=asset_key(address), asset_partitions=[partition_key(address)])
    for record in instance.fetch_materializations(latest, limit=1).records:
        materialization = record.asset_materialization
        return materialization is not None and "imported" in materialization.metadata
    return False


def with_history(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
    """Return those of these assets that any run ever planned to make: one question in place of several for each
    asset."""
    candidates = list(keys)
    recorded = {record.asset_entry.asset_key for record in instance.get_asset_records(candidates)}
    return [key for key in candidates if key in recorded]


def _without_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> tuple[set[Address], set[Address]]:
    """Return artifacts of which a blocking check did not pass when it was last planned, and those that canceled runs
    left so.

    The file of such an artifact may be there and its fingerprint right, but nothing may be made from it. A check that a
    killed run had planned and never made counts too: what an earlier one found does not hold any more.
    """
    checks = [dg.AssetCheckKey(key, name) for key in keys for name in blocking_checks(STAGES[key.path[-1]])]
    planned_by: dict[Address, set[str]] = {}  # "" for a check that failed
    for key, partition, run_id in partitions_not_passed(instance, checks):
        planned_by.setdefault(address_of(key.path, partition), set()).add(run_id)
    canceled = _canceled(instance, set().union(*planned_by.values()) - {""})
    return set(planned_by), {address for address, run_ids in planned_by.items() if run_ids <= canceled}


def _canceled(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> set[str]:
    """Return those of these runs that somebody ended."""
    ids, canceled = sorted(run_ids), set[str]()
    for start in range(0, len(ids), PAGE):
        ended = dg.RunsFilter(run_ids=ids[start : start + PAGE], statuses=[dg.DagsterRunStatus.CANCELED])
        canceled |= {record.dagster_run.run_id for record in instance.get_run_records(ended)}
    return canceled


def _may_go_now(instance: dg.DagsterInstance, address: Address) -> bool:
    """Return whether a failed aggregate reads something that was made since it was tried."""
    stage = STAGES[address.stage]
    if stage.level != "model":
        return False
    last = _last_failed_run(instance, asset_key(address), partition_key(address))
    if last is None:
        return False
    run_id, started = last
    for name in stage.inputs:
        records = instance.fetch_materializations(asset_key(STAGES[name].beside(address)), limit=20).records
        times = [record.timestamp for record in records if record.run_id not in ("", run_id)]  # "": a note, see `tell`
        if times and max(times) > started:
            return True
    return False


def _last_failed_run(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> tuple[str, float] | None:
    """Return id and start (seconds since the epoch) of the last failed run that was to make a partition."""
    failures = dg.RunsFilter(tags={"dagster/partition": partition}, statuses=[dg.DagsterRunStatus.FAILURE])
    for record in instance.get_run_records(failures, limit=50):
        if key in (record.dagster_run.asset_selection or ()):
            return record.dagster_run.run_id, record.start_time or record.create_timestamp.timestamp()
    return None


def active_backfill(instance: dg.DagsterInstance, dataset: str) -> str | None:
    """Return id of a backfill of this data set that has not ended, whoever launched it."""
    for backfill_id, keys in active_backfills(instance):
        if any(key.path[0] == dataset for key in keys):
            return backfill_id
    return None


def first_cause(events: Iterable[dg.DagsterEvent]) -> str | None:
    """Return the innermost error message of the first failed step (or of the run itself), without its traceback.

    Of a failed check: its name and what it found.
    """
    events = list(events)
    error = _first_error(events)
    if error is None:
        return None
    failed = failed_checks(events, dg.AssetCheckSeverity.ERROR) if error.cls_name == CHECK_FAILED else []
    return "\n".join(failed) or without_class_path(str(error.message).strip())


def is_of_data(events: Iterable[dg.DagsterEvent]) -> bool:
    """Return whether examples or files of one chunk are at fault (unreadable, changed, a failed check), not their
    reader."""
    error = _first_error(list(events))
    return error is not None and error.cls_name in {CHECK_FAILED, *_errors_of_data()}


def _errors_of_data() -> Iterator[str]:
    """Yield names of the errors, ours and their subclasses, that speak of one chunk's data; an event holds names
    only."""
    kinds: list[type[BaseException]] = [SaeAssetsError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if getattr(kind, "of_data", False):
            yield kind.__name__
    yield PermissionError.__name__


def _first_error(events: Sequence[dg.DagsterEvent]) -> Any:
    """Return the innermost error of the first failed step, or of the run itself."""
    steps = [event.step_failure_data for event in events if event.is_step_failure]
    runs = [event.event_specific_data for event in events if event.is_failure and not event.is_step_failure]
    for failure in (*steps, *runs):
        error = getattr(failure, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return error
    return None


def failed_checks(events: Iterable[dg.DagsterEvent], severity: dg.AssetCheckSeverity) -> list[str]:
    """Name and findings of each check of this severity that failed; where a file does not read back, that alone."""
    evaluations = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    failed = [one for one in evaluations if not one.passed and one.severity == severity]
    unreadable = [one for one in failed if one.check_name == READABLE]
    return [
        f"Check {one.check_name!r} of {one.asset_key.to_user_string()} failed. "
        + " ".join(f"{name}: {value.value}." for name, value in one.metadata.items())
        for one in unreadable or failed
    ]


@dataclass(frozen=True)
class Taken:
    """A stage's costs are sums over all its partitions.

    Attributes:
        seconds: its share of each pass, added up.
        stored_bytes: of its files; peak_bytes: the most memory that a process held in a pass, with all its libraries;
            None where no record tells.
    """

    seconds: float = 0.0
    stored_bytes: int | None = None
    peak_bytes: int | None = None


def taken_by(instance: dg.DagsterInstance, address: Address, chunks: Sequence[str]) -> Taken:
    """Return what the last materialization of a stage took, over these chunks."""
    stage = STAGES[address.stage]
    keys: Sequence[str | None] = [None] if stage.level == "model" else chunks
    partitions = {partition_key(stage.beside(address, chunk)) for chunk in keys}
    latest: dict[str | None, Mapping[str, Any]] = {}
    cursor, has_more = None, True
    while has_more and len(latest) < len(partitions):  # latest first; a page holds many partitions
        page = instance.fetch_materializations(asset_key(address), limit=PAGE, cursor=cursor)
        for record in page.records:
            if record.partition_key in partitions and record.partition_key not in latest:
                metadata = record.asset_materialization.metadata if record.asset_materialization else {}
                if "kept" not in metadata:  # otherwise an earlier run took the time
                    latest[record.partition_key] = metadata
        cursor, has_more = page.cursor, page.has_more

    def numbers(name: str) -> list[float]:
        values = (metadata.get(name) for metadata in latest.values())
        numeric = (dg.FloatMetadataValue, dg.IntMetadataValue)
        return [value.value for value in values if isinstance(value, numeric) and value.value is not None]

    stored, peaks = numbers("stored_bytes"), numbers("peak_bytes")
    return Taken(sum(numbers("seconds")), int(sum(stored)) if stored else None, int(max(peaks)) if peaks else None)


def measured(instance: dg.DagsterInstance, address: Address) -> dict[str, dict[str, float]]:
    """Return what parts of the last materialization cost, ``{"seconds": {part: …}, "bytes": …}``; empty without one."""
    figures: dict[str, dict[str, float]] = {}
    latest = dg.AssetRecordsFilter(asset_key=asset_key(address), asset_partitions=[partition_key(address)])
    for record in instance.fetch_materializations(latest, limit=1).records:
        materialization = record.asset_materialization
        for name, value in (materialization.metadata if materialization else {}).items():
            kind, _, part = name.partition("[")
            if kind in MEASURED and part.endswith("]") and isinstance(value, dg.FloatMetadataValue):
                figures.setdefault(kind, {})[part[:-1]] = value.value or 0.0
    return figures


def costs_of(instance: dg.DagsterInstance, address: Address) -> list[Cost]:
    """Return what the last artifacts of this stage, token kind and model cost, of any chunk; the latest first.

    Only of those made on the device of the latest. What was kept or imported, and what earlier versions made, tells
    nothing; nor does what a pass did once and no other does (``once_cpu_seconds``).
    """
    costs: list[tuple[Any, Cost]] = []
    for limit in (REMEMBERED, PAGE):  # other models' chunks may have been made since
        page = instance.fetch_materializations(asset_key(address), limit=limit)
        for record in page.records:
            materialization, key = record.asset_materialization, record.partition_key
            if materialization is None or not key or address_of(asset_key(address).path, key).model != address.model:
                continue
            values: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
            if "cpu_seconds" in values and SIZES in values:
                seconds = values.get("cpu_seconds_of_pass", values["cpu_seconds"])
                seconds = max(0.0, seconds - values.get("once_cpu_seconds", 0.0))
                examples, rows = (values[SIZES][size] for size in ("examples", "rows"))
                n_bytes, peak = values.get("stored_bytes"), values.get("peak_bytes")
                first, whole_bytes = bool(values.get("first_of_process")), values.get(f"peak_bytes[{READING}]", 0.0)
                cost = Cost(examples, rows, n_bytes, seconds, peak, first, whole_bytes=whole_bytes)
                costs.append((values.get("device"), cost))
        if costs or not page.has_more:
            break
    return [cost for device, cost in costs[:REMEMBERED] if device == costs[0][0]]
