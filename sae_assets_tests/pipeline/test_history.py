"""What few questions to Dagster's history tell is what Dagster itself tells, asset by asset and check by check."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from sae_assets.commands.session import Session, open_session
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.checks import blocking_checks
from sae_assets.orchestration.history import history_of
from sae_assets.orchestration.internals import partition_states, partitions_not_passed
from sae_assets.orchestration.partitions import chunks_name, keys_of, partitions_of
from sae_assets.pipeline.stages import STAGES
from sae_assets_tests.helpers.homes import Homes
from sae_assets_tests.strategies import PROPERTY

LABELS, EXAMPLES = dg.AssetKey(["small", "labels"]), dg.AssetKey(["small", "examples"])
MOST_QUESTIONS = 12  # of a look that finds nothing new, however many assets and checks there are
ASSETS = [dg.AssetKey(["small", "patch", name]) for name in ("labels", "thresholds", "unit_stats")]
CHECKS = [dg.AssetCheckKey(asset, name) for asset in ASSETS for name in ("readable", "sums_up", "is_new")]
ROW = st.tuples(
    st.sampled_from(CHECKS),
    st.sampled_from([None, "", "tiny", "0000|tiny", "0001|tiny"]),
    st.sampled_from(list(Status)),
    st.sampled_from(["first", "second", "third"]),
    st.sampled_from([None, 1]),
)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Statements that are given to databases meanwhile."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("PRAGMA"):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def definitions_of(session: Session) -> dict[dg.AssetKey, dg.PartitionsDefinition]:
    entry = session.catalog.datasets["small"]
    return {key: partitions_of(stage, entry) for key, stage in keys_of(entry)}


def expect_what_dagster_tells(session: Session) -> None:
    """Twice: what the first look found out, Dagster keeps for the second."""
    instance, definitions = session.instance, definitions_of(session)
    for _ in range(2):
        states = dict(partition_states(instance, definitions))
        for key, definition in definitions.items():
            of = {partition: status for status, some in states.get(key, {}).items() for partition in some}
            expected = instance.get_status_by_partition(key, definition.get_partition_keys(
                dynamic_partitions_store=instance), definition)  # fmt: skip
            assert of == {partition: status for partition, status in (expected or {}).items() if status}, key
    checks = [dg.AssetCheckKey(key, name) for key in definitions for name in blocking_checks(STAGES[key.path[-1]])]
    assert set(partitions_not_passed(instance, checks)) == not_passed_by_dagster(instance, checks)


def not_passed_by_dagster(
    instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]
) -> set[tuple[dg.AssetKey, str, str]]:
    """Partitions whose checks did not pass, by the call behind the UI's partition page: a question for each check."""
    return {
        (info.check_key.asset_key, info.partition_key,
         info.latest_planned_run_id if info.latest_execution_status == Status.PLANNED else "")
        for info in instance.event_log_storage.get_asset_check_partition_info(checks)
        if info.latest_execution_status != Status.SUCCEEDED and info.partition_key
    }  # fmt: skip


def test_states_and_checks_are_those_that_dagster_tells(
    made_home: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything by which they change."""
    places = made_home(tmp_path, "labels")
    with open_session(places["home"], places["catalog"]) as session:
        instance = session.instance
        expect_what_dagster_tells(session)

        instance.report_runless_asset_event(dg.AssetMaterialization(LABELS, partition="0000"))
        expect_what_dagster_tells(session)
        name = blocking_checks(STAGES["labels"])[0]
        failed = dg.AssetCheckEvaluation(LABELS, name, passed=False, metadata={}, partition="0001")
        instance.report_runless_asset_event(failed)
        expect_what_dagster_tells(session)
        instance.add_dynamic_partitions(chunks_name("small"), ["0009"])
        expect_what_dagster_tells(session)

        def fails(*_: object) -> None:
            raise SaeAssetsError("cannot be made")

        monkeypatch.setitem(STAGES, "labels", replace(STAGES["labels"], make=fails))
        with pytest.raises(SaeAssetsError, match="cannot be made"):
            session.materialize(["small"], last="labels", force=True)
        history = history_of(instance, session.catalog.datasets["small"])
        assert {address.chunk for address in history.failed} >= {"0000"}  # and its checks were planned and not made
        expect_what_dagster_tells(session)
        instance.wipe_assets([EXAMPLES])
        expect_what_dagster_tells(session)


def test_a_look_asks_few_questions(made_home: Homes, tmp_path: Path) -> None:
    """Not one or several of each asset and check, of which a data set has dozens."""
    places = made_home(tmp_path)
    with open_session(places["home"], places["catalog"]) as session:
        entry = session.catalog.datasets["small"]
        history_of(session.instance, entry)
        with counted() as statements:
            history_of(session.instance, entry)
        assert len(statements) <= MOST_QUESTIONS < len(definitions_of(session)), statements


@pytest.fixture(scope="module")
def empty_instance() -> Iterator[dg.DagsterInstance]:
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


@settings(PROPERTY, max_examples=40)
@given(st.lists(ROW, max_size=30, unique_by=lambda row: (row[0], row[1], row[3])), st.sets(st.sampled_from(CHECKS)))
def test_whatever_is_recorded_of_checks_those_are_found_that_dagster_finds(
    empty_instance: dg.DagsterInstance, rows: list[Any], asked: set[dg.AssetCheckKey]
) -> None:
    """By one statement, of the checks that are asked for, whatever is recorded of others."""
    record(empty_instance, rows)
    checks = sorted(asked, key=str)
    with counted() as statements:
        found = set(partitions_not_passed(empty_instance, checks))
    assert found == not_passed_by_dagster(empty_instance, checks)
    assert len(statements) == 1
