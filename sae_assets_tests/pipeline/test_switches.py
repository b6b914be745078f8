"""Names of switches: a data set's stand together, no two data sets share one, and what is on stays on."""

import time
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.storage.event_log.sqlite import consolidated_sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.catalog.names import name_of
from sae_assets.commands.session import open_session
from sae_assets.orchestration.automation.backfills import look_at_files
from sae_assets.orchestration.instance.home import open_instance
from sae_assets.orchestration.switches import BACKFILL, CHECK_CONTENTS, FOLLOW, SWITCHES, renamed
from sae_assets.settings import load_settings
from sae_assets_tests.helpers.homes import Places
from sae_assets_tests.strategies import PROPERTY

SENSOR, SCHEDULE = InstigatorType.SENSOR, InstigatorType.SCHEDULE
RUNNING, STOPPED = InstigatorStatus.RUNNING, InstigatorStatus.STOPPED
DATASETS = st.builds(str.__add__, st.sampled_from("abc"), st.text("abcA_0", max_size=6))
ACTIONS = [switch.action for switch in SWITCHES if switch.of_each]


@settings(PROPERTY, max_examples=100)
@given(st.lists(DATASETS, unique=True, max_size=6))
def test_no_two_data_sets_share_a_name(datasets: list[str]):
    names = [name_of(dataset, action) for dataset in datasets for action in ACTIONS]
    assert len(set(names)) == len(names)


def test_switches_of_data_sets_whose_names_begin_alike_stand_together():
    datasets = ["clevr", "clevr_mini", "clevr_a", "clevr2", "clevrA"]
    ordered = sorted(name_of(dataset, action) for dataset in datasets for action in ACTIONS)
    owners = [name.rsplit("__", 1)[0] for name in ordered]
    assert owners == [owner for owner in dict.fromkeys(owners) for _ in ACTIONS]


def test_former_names_are_known_and_no_other():
    assert renamed("follow_clevr_mini") == FOLLOW.name("clevr_mini") == "clevr_mini__follow"
    assert renamed("verify_follow_contents") == CHECK_CONTENTS.name("follow") and renamed("verify_birds") is None
    assert renamed("birds__verify_contents") == CHECK_CONTENTS.name("birds")
    assert renamed("post_failed_runs") is renamed("follow_") is renamed("mine") is None
    for dataset in ("birds", "follow_birds", "verify_a"):
        assert all(renamed(switch.name(dataset)) is None for switch in SWITCHES)


def origin(name: str, location: str):
    code = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(python_file="x.py"), location)
    return RemoteRepositoryOrigin(code, "__repository__").get_instigator_origin(name)


def states(instance: dg.DagsterInstance) -> dict[tuple[str, str], InstigatorState]:
    return {(state.origin.location_name, state.instigator_name): state for state in instance.all_instigator_state()}


def test_what_was_on_under_a_former_name_is_on_and_what_was_off_is_off(tmp_path: Path):
    settings, before = load_settings(tmp_path), time.time()
    cursor = SensorInstigatorData(cursor="seen")
    with open_instance(settings) as instance:
        for name, kind, status, data, location in (
            ("follow_birds", SENSOR, RUNNING, cursor, "sae_assets"),
            ("backfill_birds", SCHEDULE, RUNNING, ScheduleInstigatorData("* * * * *", 1.0), "sae_assets"),
            ("register_birds_chunks", SENSOR, STOPPED, cursor, "sae_assets"),
            ("follow_birds", SENSOR, RUNNING, cursor, "another"),
            ("follow_pets", SENSOR, RUNNING, cursor, "sae_assets"),
            ("pets__follow", SENSOR, STOPPED, cursor, "sae_assets"),  # somebody chose this since
        ):
            instance.add_instigator_state(InstigatorState(origin(name, location), kind, status, data))
    for _ in range(2):  # the second opening finds nothing to do
        with open_instance(settings) as instance:
            found = states(instance)
        assert found["sae_assets", "birds__follow"].status == RUNNING
        assert found["sae_assets", "birds__follow"].instigator_data == cursor
        assert found["sae_assets", BACKFILL.name("birds")].status == RUNNING
        backfill = found["sae_assets", BACKFILL.name("birds")].instigator_data
        assert isinstance(backfill, ScheduleInstigatorData) and (backfill.start_timestamp or 0) >= before
        assert found["another", "follow_birds"].status == RUNNING and ("another", "birds__follow") not in found
        assert found["sae_assets", "pets__follow"].status == STOPPED
        assert not {("sae_assets", name) for name in ("follow_birds", "backfill_birds", "follow_pets")} & set(found)
        assert ("sae_assets", "birds__register_chunks") not in found


def test_whoever_looks_keeps_engines(small: Places, monkeypatch: pytest.MonkeyPatch):
    """A server of code launches nothing, and nothing else would tell it not to make an engine for every query."""
    storages = (consolidated_sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)
    with open_session(small["home"], small["catalog"]) as session:
        instance = session.instance
        for storage in storages:
            monkeypatch.setattr(storage, "create_engine", sqlalchemy.create_engine)
        look_at_files(session.catalog, session.store, instance, "small")
        assert not [each for each in storages if each.create_engine is sqlalchemy.create_engine]
