"""What is remembered of Dagster's history is what Dagster would say, after every kind of change, or is not taken."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration import remembered as module
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.history import history_of
from sae_assets.orchestration.partitions import asset_key, chunks_name
from sae_assets.orchestration.remembered import remembered
from sae_assets.pipeline.planning import History
from sae_assets.storage.address import Address
from sae_assets_tests.helpers.homes import Places, invoke, places_in
from sae_assets_tests.helpers.swift import as_shipped
from sae_assets_tests.pipeline.small import make_dataset, write_catalog
from sae_assets_tests.processes import environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as it ships, for its database is what is looked at."""
    folder = tmp_path_factory.mktemp("remembered")
    places = places_in(folder)
    write_catalog(places["catalog"], make_dataset(places["root"], 6), chunk_size=3, token_kinds=["patch"])
    with as_shipped():
        result = invoke(places, "materialize", "-d", "small", "--to", "labels")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def places(kept: Path, tmp_path: Path) -> Iterator[Places]:
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    places = places_in(tmp_path)
    write_catalog(places["catalog"], places["root"], chunk_size=3, token_kinds=["patch"])
    with as_shipped():
        yield places


def asked(session: Session) -> History:
    return history_of(session.instance, session.catalog.datasets["small"])


def never() -> dg.DagsterInstance:
    raise AssertionError("Dagster was asked")


def look(session: Session) -> History:
    return remembered(session.settings, session.catalog.datasets["small"], lambda: session.instance)


def materialize_more(session: Session) -> None:
    session.materialize(["small"], last="examples", force=True)


def materialize_elsewhere(session: Session) -> None:
    """By something that renews no look, as the UI."""
    folder = session.settings.dagster_home / module.FOLDER
    kept = {file: file.read_bytes() for file in folder.iterdir()}
    materialize_more(session)
    for file, content in kept.items():
        file.write_bytes(content)


def fail(session: Session) -> None:
    run = session.instance.create_run_for_job(dg.GraphDefinition("nothing").to_job())
    session.instance.report_run_failed(run)


def create(session: Session) -> None:
    """No event tells of it."""
    session.instance.create_run_for_job(dg.GraphDefinition("nothing").to_job())


def begin(session: Session) -> None:
    key = asset_key(Address("small", "labels", chunk="0000"))
    job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
    part = job.get_subset(asset_selection={key})
    session.instance.create_run_for_job(part, tags={"dagster/partition": "0000"}, asset_selection=frozenset({key}))
    assert look(session).running == {Address("small", "labels", chunk="0000")}


def wipe(session: Session) -> None:
    session.instance.wipe_assets([asset_key(Address("small", "labels"))])


def remove_partition(session: Session) -> None:
    session.instance.delete_dynamic_partition(chunks_name("small"), "0001")


def note(session: Session) -> None:
    key = asset_key(Address("small", "labels"))
    session.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="0001"))


@pytest.mark.parametrize("change", [materialize_elsewhere, fail, create, begin, wipe, remove_partition, note])
def test_every_change_of_the_history_is_seen(places: Places, change: Callable[[Session], None]) -> None:
    with open_session(places["home"], places["catalog"]) as session:
        before = look(session)
        assert before == replace(asked(session), running=frozenset())
    with open_session(places["home"], places["catalog"]) as session:
        assert remembered(session.settings, session.catalog.datasets["small"], never) == before
    with open_session(places["home"], places["catalog"]) as session:
        change(session)
        with pytest.raises(AssertionError, match="Dagster was asked"):
            remembered(session.settings, session.catalog.datasets["small"], never)
        for _ in range(2):
            assert look(session) == asked(session)


def test_heartbeats_of_a_daemon_are_no_change(places: Places) -> None:
    """They stand in the file of runs, and come every half minute while the UI is open."""
    with open_session(places["home"], places["catalog"]) as session:
        before = look(session)
        for second in range(2):
            session.instance.add_daemon_heartbeat(DaemonHeartbeat(1.0 + second, "SENSOR", "id", []))
        assert remembered(session.settings, session.catalog.datasets["small"], never) == before


def test_a_command_renews_what_was_looked_at(places: Places) -> None:
    """Also for who looks when it has ended, and its connections have written their log back."""
    with open_session(places["home"], places["catalog"]) as session:
        look(session)
        materialize_more(session)
        expected = asked(session)
    with open_session(places["home"], places["catalog"]) as session:
        assert remembered(session.settings, session.catalog.datasets["small"], never) == expected


def test_another_catalog_entry_or_a_copied_home_is_another_question(places: Places, tmp_path: Path) -> None:
    with open_session(places["home"], places["catalog"]) as session:
        look(session)
        entry = session.catalog.datasets["small"]
        with pytest.raises(AssertionError, match="Dagster was asked"):
            remembered(session.settings, entry.model_copy(update={"models": []}), never)
        copied = replace(session.settings, home=tmp_path / "copied")
    shutil.copytree(places["home"], copied.home)
    with pytest.raises(AssertionError, match="Dagster was asked"):
        remembered(copied, entry, never)


@pytest.mark.parametrize("content", ["", "[]", '{"key": 1}', "null"])
def test_what_is_no_look_is_not_taken(places: Places, content: str) -> None:
    with open_session(places["home"], places["catalog"]) as session:
        look(session)
        file = session.settings.dagster_home / module.FOLDER / "small.json"
        whole = json.loads(file.read_text())
        for text in (content, json.dumps({**whole, "files": {}}), json.dumps({**whole, "recorded": [["a"]]})):
            file.write_text(text)
            assert look(session) == asked(session)


def test_status_and_show_of_a_home_in_which_nothing_happens_do_without_dagster_and_torch(places: Places) -> None:
    statement = (
        "import sys; from typer.testing import CliRunner; from sae_assets.cli import app; "
        "print(CliRunner().invoke(app, ['status', '-d', 'small', '--json']).stdout); "
        "assert CliRunner().invoke(app, ['show', 'small', 'clip-mini', 'labels', '--json']).exit_code == 0; "
        "print([name for name in ('dagster', 'torch', 'pandas', 'transformers', 'sqlalchemy') if name in sys.modules])"
    )
    first = invoke(places, "status", "-d", "small", "--json").stdout
    done = subprocess.run(
        [sys.executable, "-c", statement], env=environment(places["home"], places["catalog"]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, loaded = done.stdout.rsplit("[", 1)
    assert loaded.strip() == "]" and told.strip() == first.strip()
    assert json.loads(told)["small"]["stages"]["labels"] == {"0000": "current", "0001": "current"}
