"""Checks that did not pass: the rows that one question gives are those of Dagster's own call, in which they are asked
for one check at a time.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from sae_assets.orchestration.internals import partitions_not_passed

ASSETS = [dg.AssetKey(["small", "patch", name]) for name in ("labels", "thresholds", "unit_stats")]
CHECKS = [dg.AssetCheckKey(asset, name) for asset in ASSETS for name in ("readable", "sums_up", "is_new")]
ROW = st.tuples(
    st.sampled_from(CHECKS),
    st.sampled_from([None, "", "tiny", "0000|tiny", "0001|tiny"]),
    st.sampled_from(list(Status)),
    st.sampled_from(["first", "second", "third"]),
    st.sampled_from([None, 1]),
)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def record(instance: dg.DagsterInstance, rows: list[Any]) -> None:
    """These are all executions of checks that there are, the first one first."""
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        connection.execute(AssetCheckExecutionsTable.delete())
        for key, partition, status, run, event_id in rows:
            connection.execute(
                AssetCheckExecutionsTable.insert().values(
                    asset_key=key.asset_key.to_string(), check_name=key.name, partition=partition, run_id=run,
                    execution_status=status.value, evaluation_event_storage_id=event_id,
                )
            )  # fmt: skip


def by_dagster(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]) -> set[tuple[dg.AssetKey, str, str]]:
    """What did not pass, by the call behind the UI's partition page."""
    found = [
        info
        for info in instance.event_log_storage.get_asset_check_partition_info(checks)
        if info.latest_execution_status != Status.SUCCEEDED and info.partition_key
    ]
    return {
        (
            info.check_key.asset_key,
            info.partition_key,
            info.latest_planned_run_id if info.latest_execution_status == Status.PLANNED else "",
        )
        for info in found
    }


@given(st.lists(ROW, max_size=30, unique_by=lambda row: (row[0], row[1], row[3])), st.sets(st.sampled_from(CHECKS)))
def test_those_are_found_that_dagster_finds(
    instance: dg.DagsterInstance, rows: list[Any], asked: set[dg.AssetCheckKey]
) -> None:
    """Of the checks that are asked for, whatever is recorded of others."""
    record(instance, rows)
    checks = sorted(asked, key=str)
    assert set(partitions_not_passed(instance, checks)) == by_dagster(instance, checks)


def test_the_database_is_asked_once(instance: dg.DagsterInstance) -> None:
    """Of how many checks and partitions ever."""
    record(instance, [(key, "tiny", Status.FAILED, "first", 1) for key in CHECKS])
    storage: Any = instance.event_log_storage
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("PRAGMA"):
            asked.append(statement)

    with storage.index_connection() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        found = list(partitions_not_passed(instance, CHECKS))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert set(found) == {(key.asset_key, "tiny", "") for key in CHECKS}
    assert len(asked) == 1
