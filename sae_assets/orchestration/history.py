"""What failed and why, as Dagster's history tells it: for the command line, for schedules and for alerts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from sae_assets.errors import DatasetError, StoredFileError, without_class_path
from sae_assets.orchestration.checks import READABLE, blocking_checks

CHECK_FAILED = "DagsterAssetCheckFailedError"


def first_cause(events: Iterable[dg.DagsterEvent]) -> str | None:
    """The innermost error message of the first failed step (or of the run itself), without its traceback.

    Of a failed check: its name and what it found.
    """
    events = list(events)
    error = _first_error(events)
    if error is None:
        return None
    failed = failed_checks(events, dg.AssetCheckSeverity.ERROR) if error.cls_name == CHECK_FAILED else []
    return "\n".join(failed) or without_class_path(str(error.message).strip())


def is_of_data(events: Iterable[dg.DagsterEvent]) -> bool:
    """Whether examples or files of one chunk are at fault (unreadable, changed, a failed check), not their reader."""
    error = _first_error(list(events))
    of_files = (DatasetError.__name__, StoredFileError.__name__, PermissionError.__name__, CHECK_FAILED)
    return error is not None and error.cls_name in of_files


def _first_error(events: Sequence[dg.DagsterEvent]) -> Any:
    """The innermost error of the first failed step, or of the run itself."""
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
    found = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    failed = [one for one in found if not one.passed and one.severity == severity]
    unreadable = [one for one in failed if one.check_name == READABLE]
    return [
        f"Check {one.check_name!r} of {one.asset_key.to_user_string()} failed. "
        + " ".join(f"{name}: {value.value}." for name, value in one.metadata.items())
        for one in unreadable or failed
    ]


def with_history(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
    """Those of these assets that any run ever planned to make: one question in place of several for each asset."""
    there = {record.asset_entry.asset_key for record in instance.get_asset_records(list(keys))}
    return [key for key in keys if key in there]


def partitions_with_failed_checks(
    instance: dg.DagsterInstance, partitions: Mapping[dg.AssetKey, Sequence[str]]
) -> dict[dg.AssetKey, set[str]]:
    """Of these partitions, those of which a blocking check did not pass the last time it was planned.

    The file of such a partition may be there and its fingerprint right, but nothing may be made from it. A check that a
    killed run had planned and never made counts too: what it found before is not known any more.
    """
    # No public call gives the last result of a check by partition; this is the one behind the UI's partition page.
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

    known = with_history(instance, partitions)
    checks = [dg.AssetCheckKey(key, name) for key in known for name in blocking_checks(key.path[-1])]
    found: dict[dg.AssetKey, set[str]] = {}
    for info in instance.event_log_storage.get_asset_check_partition_info(checks):
        key = info.check_key.asset_key
        if info.latest_execution_status != AssetCheckExecutionRecordStatus.SUCCEEDED and info.partition_key:
            found.setdefault(key, set()).add(info.partition_key)
    return {key: kept for key, failed in found.items() if (kept := failed & set(partitions[key]))}
