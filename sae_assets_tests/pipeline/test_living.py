"""A data set grows: each chunk is made once, what depends on it follows, reruns change nothing, a freeze holds."""

import csv
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration.automation.backfills import (
    active_backfill,
    failed_partitions,
    launch,
    may_go_now,
    partition_keys,
    plan_backfill,
)
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.history import first_cause, partitions_with_failed_checks
from sae_assets.orchestration.partitions import multi_key
from sae_assets.orchestration.runs import RunFailedError
from sae_assets.pipeline.stages import CHUNK_STAGES, MODEL_STAGES
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets_tests.helpers.homes import Homes
from sae_assets_tests.pipeline.living import Follower, land, land_without_calibration
from sae_assets_tests.pipeline.small import write_metadata

MODEL = "clip-mini"


@pytest.fixture
def living(request: pytest.FixtureRequest, tmp_path: Path, made_home: Homes) -> Iterator[tuple[Session, Path]]:
    """An open session on twelve examples in two chunks, everything made up to the stage of the mark ``made_to``."""
    mark = request.node.get_closest_marker("made_to")
    places = made_home(tmp_path, mark.args[0] if mark else "register")
    with open_session(places["home"], places["catalog"]) as session:
        yield session, places["root"]


everything_made = pytest.mark.made_to(None)


def everything(chunks: list[str]) -> set[tuple[str, str]]:
    found = {("small/examples", chunk) for chunk in chunks}
    found |= {(f"small/patch/{stage}", multi_key(MODEL, chunk)) for stage in CHUNK_STAGES for chunk in chunks}
    return found | {(f"small/patch/{stage}", MODEL) for stage in MODEL_STAGES}


def of_small(follower: Follower) -> set[tuple[str, str]]:
    return {found for found in follower.settle() if found[0].startswith("small/")}


def test_automation_makes_everything_once_and_follows_what_arrives(living):
    session, root = living
    follower = Follower(session)
    assert of_small(follower) == everything(["0000", "0001"])
    assert set(follower.made.values()) == {1}
    assert {state for part in session.status(["small"])["small"]["stages"].values() for state in part.values()} == {
        "current"
    }

    land(root, 18)
    session.register("small")
    made = of_small(follower)
    new = {(key, partition) for key, partition in everything(["0002"]) if partition == multi_key(MODEL, "0002")}
    assert {("small/examples", "0002"), *new} <= made
    # No chunk that was there is encoded again; aggregates follow.
    encoded = {partition for key, partition in made if key.endswith(("sparse_activations", "examples", "ground_truth"))}
    assert encoded == {"0002", multi_key(MODEL, "0002")}
    assert {(f"small/patch/{stage}", MODEL) for stage in MODEL_STAGES} <= made
    assert {state for part in session.status(["small"])["small"]["stages"].values() for state in part.values()} == {
        "current"
    }


@everything_made
def test_rerun_with_the_same_content_ripples_no_further(living):
    session, _ = living
    follower = Follower(session)
    assert follower.settle() == set()  # what a command has made
    follower.run({("small/patch/sparse_activations", multi_key(MODEL, "0000"))})
    assert of_small(follower) == set()


@everything_made
def test_corrected_labels_encode_nothing_again_whoever_asks(living, monkeypatch):
    """Dagster knows one version of `examples`, so it takes activations for stale; what is there is kept."""
    session, root = living
    follower = Follower(session)
    follower.settle()
    changed = list(csv.DictReader((root / "metadata.csv").read_text().splitlines()))
    changed[0]["shape::cube"] = str(1 - int(changed[0]["shape::cube"]))
    write_metadata(root, changed)
    session.materialize(["small"], last="examples")
    files = {path: path.stat().st_mtime_ns for path in session.store.root.rglob("sparse_activations/*")}
    monkeypatch.setattr("sae_assets.rows.encoding.encode_chunk", None)
    made = of_small(follower)
    key, partition = "small/patch/sparse_activations", multi_key(MODEL, "0000")
    assert {stage for stage, name in made if name == partition} >= {key, "small/patch/ground_truth"}
    assert {path: path.stat().st_mtime_ns for path in session.store.root.rglob("sparse_activations/*")} == files
    last = session.instance.get_latest_materialization_event(dg.AssetKey(key.split("/")))
    assert last is not None and last.asset_materialization is not None
    assert "nothing was computed" in str(last.asset_materialization.metadata["kept"].value)
    assert "rows_per_second" not in last.asset_materialization.metadata
    # What follows from it follows, once: the mark "stale" is gone everywhere.
    assert {state for part in session.status(["small"])["small"]["stages"].values() for state in part.values()} == {
        "current"
    }
    graph = follower.definitions.get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(session.instance, graph, LoadingContextForTest(session.instance))
    states = {
        (asset.to_user_string(), name): resolver.get_status(asset, name)
        for asset, names in partition_keys(session.instance, session.catalog, "small").items()
        for name in names
    }
    assert {found for found, state in states.items() if state != StaleStatus.FRESH} == set()


@everything_made
def test_chunk_without_calibration_rows_changes_no_statistics(living):
    session, root = living
    follower = Follower(session)
    follower.settle()
    before = {
        stage: session.store.header(address(stage)).content_hash
        for stage in ("unit_stats", "unit_mapping", "thresholds")
    }
    land_without_calibration(root, 12, 6)
    session.register("small")
    made = of_small(follower)
    assert ("small/patch/filtered_activations", multi_key(MODEL, "0002")) in made
    assert ("small/patch/filtered_activations", multi_key(MODEL, "0000")) not in made
    assert ("small/patch/detection_stats", MODEL) in made
    after = {stage: session.store.header(address(stage)).content_hash for stage in before}
    assert after == before
    states = session.status(["small"])["small"]["stages"]
    assert {state for part in states.values() for state in part.values()} == {"current"}


def address(stage: str, chunk: str | None = None) -> Address:
    return Address("small", stage, "patch", MODEL, chunk)


def test_freeze_keeps_what_was_fitted_and_extends_the_rest(tmp_path, made_home):
    places = made_home(tmp_path, calibration="freeze")
    with open_session(places["home"], places["catalog"]) as session:
        follower = Follower(session)
        follower.settle()
        fitted = {
            s: session.store.header(address(s)).content_hash for s in ("unit_stats", "unit_mapping", "thresholds")
        }
        land(places["root"], 18)
        session.register("small")
        made = of_small(follower)
        assert not {(f"small/patch/{stage}", MODEL) for stage in fitted} & made
        assert ("small/patch/filtered_activations", multi_key(MODEL, "0002")) in made
        assert ("small/patch/best_pairs", MODEL) in made
        assert {s: session.store.header(address(s)).content_hash for s in fitted} == fitted
        states = session.status(["small"])["small"]["stages"]
        assert {state for part in states.values() for state in part.values()} == {"current"}
        # The command line agrees: nothing is left to do.
        made_runs, _ = session.materialize(["small"])
        assert made_runs == 0


def work_of(session: Session, limit: int = 1000, **more: object):
    chunks = session.chunks_of("small")
    return plan_backfill(session.catalog, session.store, "small", chunks, limit=limit, **more)


def flat(work) -> set[tuple[str, str]]:
    return {
        (key.to_user_string(), partition) for key, partitions in work.partitions.items() for partition in partitions
    }


def test_backfill_is_exactly_what_is_missing_or_stale_in_two_waves(living):
    session, root = living
    first = work_of(session)
    until_mapping = {"examples", "ground_truth", "sparse_activations", "unit_stats", "unit_mapping"}
    all_of_it = everything(["0000", "0001"])
    assert flat(first) == {found for found in all_of_it if found[0].rsplit("/")[-1] in until_mapping}
    assert (first.wave, first.left) == (1, 0)
    session.materialize(["small"], last="unit_mapping")
    second = work_of(session)
    assert flat(second) == {found for found in all_of_it if found[0].rsplit("/")[-1] not in until_mapping}
    session.materialize(["small"])
    assert work_of(session).partitions == {}

    land(root, 18)
    session.register("small")
    third = flat(work_of(session))
    assert {partition for key, partition in third if not key.endswith(("unit_stats", "unit_mapping"))} == {
        "0002", multi_key(MODEL, "0002"),
    }  # fmt: skip


def test_limit_takes_the_first_chunks_and_no_aggregate_over_the_rest(living):
    session, _ = living
    work = work_of(session, limit=3)
    assert flat(work) == {
        ("small/examples", "0000"), ("small/examples", "0001"),
        ("small/patch/ground_truth", multi_key(MODEL, "0000")),
    }  # fmt: skip
    assert work.left == 3


def test_schedule_launches_one_backfill_that_the_ui_shows(living):
    session, _ = living
    definitions = build_definitions(session.catalog, session.resources)
    repository = definitions.get_repository_def()
    schedule = repository.get_schedule_def("backfill_small")

    def tick(minute: int) -> str:
        with dg.build_schedule_context(
            instance=session.instance, repository_def=repository, resources=session.resources,
            scheduled_execution_time=datetime(2026, 1, 1, 2, minute, tzinfo=UTC),
        ) as context:  # fmt: skip
            return str(schedule.evaluate_tick(context).skip_message)

    assert "Launched backfill backfill-small-20260101T0200 of 8 partitions (wave 1)" in tick(0)
    backfill = session.instance.get_backfill("backfill-small-20260101T0200")
    assert backfill is not None and backfill.tags["sae_assets/dataset"] == "small"
    assert active_backfill(session.instance, "small") == backfill.backfill_id
    assert "still running" in tick(0) and "still running" in tick(1)
    assert len(session.instance.get_backfills()) == 1


@pytest.mark.made_to("examples")
def test_failed_partition_is_shown_and_left_to_the_repair(living):
    session, root = living
    rows_path = root / "images"
    victim = sorted(path for path in rows_path.iterdir())[0]
    content = victim.read_bytes()
    victim.write_bytes(b"nonsense")
    definitions = build_definitions(session.catalog, session.resources)
    job = definitions.resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(["small", "patch", "sparse_activations"])
    for chunk in ("0000", "0001"):
        job.execute_in_process(
            instance=session.instance, asset_selection=[key], partition_key=multi_key(MODEL, chunk),
            raise_on_error=False, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
    failed = failed_partitions(session.instance, session.catalog, "small")
    assert len(failed[key]) == 1
    broken = next(iter(failed[key]))
    states = session.status(["small"])["small"]["stages"]["patch/clip-mini/sparse_activations"]
    assert sorted(states.values()) == ["current", "failed"]
    left_out = flat(work_of(session, leave_out=failed))
    assert ("small/patch/sparse_activations", broken) not in left_out
    assert not [found for found in left_out if found[0].endswith("unit_stats")]  # it would only fail
    assert ("small/patch/sparse_activations", broken) in flat(work_of(session))
    victim.write_bytes(content)
    session.materialize(["small"], last="sparse_activations")
    assert failed_partitions(session.instance, session.catalog, "small") == {}


@everything_made
def test_changed_file_fails_a_check_that_says_what_to_do(living):
    session, root = living
    victim = sorted((root / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes() + b"more")
    definitions = build_definitions(session.catalog, session.resources)
    result = definitions.get_repository_def().get_job("verify_small").execute_in_process(instance=session.instance)
    evaluation = result.get_asset_check_evaluations()[0]
    assert not evaluation.passed
    assert victim.stem in str(evaluation.metadata["examples"].value)
    assert "sae-assets remove" in str(evaluation.metadata["what_to_do"].value)
    # The chunk stays what it was: nothing becomes stale, nothing is encoded from other contents by accident.
    states = session.status(["small"])["small"]["stages"]
    assert {state for part in states.values() for state in part.values()} == {"current"}


@pytest.mark.made_to("examples")
def test_failed_check_holds_its_chunk_until_the_repair(living):
    """Its file is there and current by fingerprint; nothing is made from it, and only a repair makes it again."""
    session, root = living
    key = dg.AssetKey(["small", "examples"])
    victim = sorted((root / "images").iterdir())[0]
    content = victim.read_bytes()
    victim.write_bytes(content + b"more")
    job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
    for chunk in session.chunks_of("small"):
        job.execute_in_process(
            instance=session.instance, asset_selection=[key], partition_key=chunk, raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
    failed = failed_partitions(session.instance, session.catalog, "small")
    assert set(failed) == {key} and len(failed[key]) == 1
    broken = next(iter(failed[key]))
    held = flat(work_of(session, leave_out=failed))
    assert held and not [one for one in held if broken in one[1]]
    repaired = flat(work_of(session, again=failed))
    assert ("small/examples", broken) in repaired and len(repaired) > len(held)
    # A run that only planned to check again, and died before it did, is no reason to trust the file.
    session.instance.create_run_for_job(job, asset_selection=frozenset({key}), tags={"dagster/partition": broken})
    assert partitions_with_failed_checks(session.instance, {key: [broken]}) == {key: {broken}}
    victim.write_bytes(content)
    session.materialize(["small"], last="examples")
    assert failed_partitions(session.instance, session.catalog, "small") == {}


def test_failed_chunk_holds_up_no_chunk_that_a_frozen_mapping_filters(tmp_path, made_home):
    places = made_home(tmp_path, calibration="freeze")
    with open_session(places["home"], places["catalog"]) as session:
        land(places["root"], 24)
        session.register("small")
        session.materialize(["small"], last="sparse_activations")
        file = session.store.find(address("sparse_activations", "0002"))
        assert file is not None
        file.unlink()
        failed = {dg.AssetKey(["small", "patch", "sparse_activations"]): {multi_key(MODEL, "0002")}}
        work = work_of(session, leave_out=failed)
        filtered = ("small/patch/filtered_activations", multi_key(MODEL, "0003"))
        assert work.wave == 2 and filtered in flat(work)
        assert not [found for found in flat(work) if "0002" in found[1]]


def test_failed_aggregate_holds_up_what_reads_it_and_nothing_else(tmp_path, made_home):
    """Nothing is filtered by a mapping of which a check failed; the other token kind goes on."""
    places = made_home(tmp_path, "unit_mapping", token_kinds=["patch", "cls"])
    with open_session(places["home"], places["catalog"]) as session:
        failed = {dg.AssetKey(["small", "patch", "unit_mapping"]): {MODEL}}
        work = work_of(session, leave_out=failed, again=failed)
        later = {"filtered_activations", "thresholds", "detection_stats", "best_pairs"}
        assert work.wave == 2 and {key for key, _ in flat(work)} == {f"small/cls/{stage}" for stage in later}
        repair = work_of(session, again=failed)
        assert repair.wave == 1 and flat(repair) == {("small/patch/unit_mapping", MODEL)}


@pytest.mark.made_to("sparse_activations")
def test_chunk_that_arrives_while_aggregates_run_fails_none_of_them(living):
    """It was not there when they were asked for; what it makes stale is made again."""
    session, root = living
    job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(["small", "patch", stage]) for stage in ("unit_stats", "unit_mapping")]

    def run(**tags: str) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=session.instance, asset_selection=keys, partition_key=MODEL, raise_on_error=False, tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip

    graph = build_definitions(session.catalog, session.resources).get_repository_def().asset_graph
    work = work_of(session)
    assert {name for name, _ in flat(work)} == {"small/patch/unit_stats", "small/patch/unit_mapping"}
    assert launch(session.instance, graph, "small", work, backfill_id="before", kind="backfill")
    land(root, 18)
    session.register("small")
    result = run()  # asked for by itself, after the chunk was registered
    assert not result.success and "1 of 3 registered chunks" in (first_cause(result.all_events) or "")
    failed = failed_partitions(session.instance, session.catalog, "small")
    assert set(failed) == set(keys) and may_go_now(session.instance, failed) == {}
    assert run(**{"dagster/backfill": "before"}).success
    made = session.store.header(address("unit_stats"))
    assert {name.split("/")[1] for name in made.provenance.inputs if "/" in name} == {"0000", "0001"}
    assert session.status(["small"])["small"]["stages"]["patch/clip-mini/unit_stats"] == {"all": "stale"}
    # Of a run of its own likewise.
    manifest = session.store.root / "small" / "chunks" / "0002.json"
    os.utime(manifest, (time.time() + 60, time.time() + 60))
    assert run().success
    session.materialize(["small"], last="unit_stats")
    assert set(session.status(["small"])["small"]["stages"]["patch/clip-mini/unit_stats"].values()) == {"current"}


@pytest.mark.made_to("examples")
def test_failed_aggregate_is_tried_again_once_what_it_reads_was_made(living):
    session, _ = living
    job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(["small", "patch", "unit_stats"])

    def fail() -> dict[dg.AssetKey, set[str]]:
        result = job.execute_in_process(
            instance=session.instance, asset_selection=[key], partition_key=MODEL, raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        assert not result.success
        return failed_partitions(session.instance, session.catalog, "small")

    assert may_go_now(session.instance, fail()) == {}
    session.materialize(["small"], chunks=["0"], last="sparse_activations")
    assert may_go_now(session.instance, failed_partitions(session.instance, session.catalog, "small")) == {key: {MODEL}}
    assert may_go_now(session.instance, fail()) == {}
    # A failed chunk is left to the repair whatever was made since.
    assert may_go_now(session.instance, {dg.AssetKey(["small", "patch", "ground_truth"]): {"0000|clip-mini"}}) == {}


def test_failed_chunk_holds_up_no_aggregate_that_does_not_read_it(tmp_path, made_home):
    """Statistics read chunks with calibration rows and no others; detection reads test rows too."""
    places = made_home(tmp_path, "register")
    land_without_calibration(places["root"], 12, 6)
    with open_session(places["home"], places["catalog"]) as session:
        session.materialize(["small"], last="ground_truth")
        key, other = (dg.AssetKey(["small", "patch", stage]) for stage in ("sparse_activations", "ground_truth"))
        for chunk, held in (("0002", False), ("0001", True)):
            work = work_of(session, leave_out={key: {multi_key(MODEL, chunk)}})
            fitted = {name for name, _ in flat(work)} & {"small/patch/unit_stats", "small/patch/unit_mapping"}
            assert (len(fitted), work.left, work.held) == (0 if held else 2, 0, 1)
        truth = session.store.find(address("ground_truth", "0001"))
        truth.unlink()
        work = work_of(session, leave_out={other: {multi_key(MODEL, "0001")}})
        assert ("small/patch/unit_stats", MODEL) in flat(work) and ("small/patch/unit_mapping", MODEL) not in flat(work)
        # The command line judges alike: a damaged image without calibration rows stops no statistics.
        victim = places["root"] / session.store.read(Address("small", "examples", chunk="0002")).artifact.paths[0]
        victim.write_bytes(b"no image")
        with pytest.raises(RunFailedError):
            session.materialize(["small"])
        states = session.status(["small"])["small"]["stages"]
        assert states["patch/clip-mini/unit_mapping"] == {"all": "current"}
        assert states["patch/clip-mini/filtered_activations"]["0001"] == "current"
        assert states["patch/clip-mini/detection_stats"] == {"all": "missing"}


@pytest.mark.made_to("sparse_activations")
def test_files_of_an_earlier_version_are_stale_and_not_an_error(living, monkeypatch):
    """Headers of `examples` once did not say what its rows are made of."""
    session, _ = living
    header = session.store.header

    def without(self: object, where: Address) -> Header:
        found = header(where)
        scalars = {name: value for name, value in found.scalars.items() if name != "rows_hash"}
        return replace(found, scalars=scalars) if where.stage == "examples" else found

    monkeypatch.setattr(type(session.store), "header", without)
    monkeypatch.setattr("sae_assets.storage.snapshot.StoreSnapshot.header", without)
    states = session.status(["small"])["small"]["stages"]["patch/clip-mini/sparse_activations"]
    assert set(states.values()) == {"stale"}
    assert work_of(session).wave == 1


def test_all_switches_ship_off(living):
    session, _ = living
    repository = build_definitions(session.catalog, session.resources).get_repository_def()
    switches = [*repository.sensor_defs, *repository.schedule_defs]
    names = {switch.name for switch in switches}
    wanted = {"register_{}_chunks", "follow_{}", "backfill_{}", "repair_{}", "verify_{}_contents"}
    assert {name.format("small") for name in wanted} <= names
    assert {str(switch.default_status.value) for switch in switches} == {"STOPPED"}
