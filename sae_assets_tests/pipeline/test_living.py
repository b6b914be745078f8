"""A data set grows: dependents follow, reruns change nothing, a freeze holds, what failed holds up its own and no more.

That everything is made once, and once more what a new chunk changes, is shown with a real daemon (``test_daemon``).
"""

import csv
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch

from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration import history
from sae_assets.orchestration.automation.backfills import launch
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.history import active_backfill, first_cause, history_of
from sae_assets.orchestration.partitions import multi_key
from sae_assets.orchestration.runs import RunFailedError
from sae_assets.storage import parquet
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets_tests.helpers.homes import USUAL, Homes
from sae_assets_tests.pipeline.deciders import Named, Switch, named, stale_by_dagster
from sae_assets_tests.pipeline.living import land, land_without_calibration
from sae_assets_tests.pipeline.planned import all_states, failed_artifacts, keys, launched, only, plan_of, states_of
from sae_assets_tests.pipeline.small import SMALL_STAGES, make_dataset, write_catalog, write_metadata
from sae_assets_tests.processes import ended, half_written_by

pytestmark = pytest.mark.long
MODEL = "clip-mini"
CHUNK_STAGES = [name for name, stage in SMALL_STAGES.items() if stage.level == "chunk"]
MODEL_STAGES = [name for name, stage in SMALL_STAGES.items() if stage.level == "model"]


@pytest.fixture
def living(request: pytest.FixtureRequest, tmp_path: Path, made_home: Homes) -> Iterator[tuple[Session, Path]]:
    """An open session on twelve examples in two chunks, everything made up to the stage of the mark ``made_to``."""
    mark = request.node.get_closest_marker("made_to")
    places = made_home(tmp_path, mark.args[0] if mark else "register")
    with open_session(places["home"], places["catalog"]) as session:
        yield session, places["root"]


everything_made = pytest.mark.made_to(None)


def everything(chunks: list[str]) -> set[tuple[str, str]]:
    found = {(f"small/{stage}", chunk) for stage in ("examples", "labels") for chunk in chunks}
    found |= {(f"small/patch/{stage}", multi_key(MODEL, chunk)) for stage in CHUNK_STAGES for chunk in chunks}
    return found | {(f"small/patch/{stage}", MODEL) for stage in MODEL_STAGES}


def test_without_a_chunk_nothing_is_asked_for(tmp_path):
    """Aggregates over nothing would only fail: a data set may be followed before its first chunk is registered."""
    catalog = write_catalog(tmp_path / "catalog.yaml", make_dataset(tmp_path / "data", 6), token_kinds=["patch"])
    with open_session(tmp_path / "home", catalog) as session:
        follower = Switch(session, "small")
        assert follower.follow() == follower.backfill() == set()
        assert all_states(session) == {"missing"}


@everything_made
def test_rerun_with_the_same_content_ripples_no_further(living):
    session, _ = living
    follower = Switch(session, "small")
    assert follower.settle() == set()  # what a command has made
    follower.make({("small/patch/sparse_activations", multi_key(MODEL, "0000"))})
    assert follower.settle() == set()


@everything_made
def test_corrected_labels_encode_nothing_again_whoever_asks(living, monkeypatch):
    """Activations do not read labels: Dagster takes none for stale, and runs over none."""
    session, root = living
    follower = Switch(session, "small")
    follower.settle()
    changed = list(csv.DictReader((root / "metadata.csv").read_text().splitlines()))
    changed[0]["shape::cube"] = str(1 - int(changed[0]["shape::cube"]))
    write_metadata(root, changed)
    session.materialize(["small"], last="labels")
    files = {path: path.stat().st_mtime_ns for path in session.store.root.rglob("sparse_activations/*")}
    monkeypatch.setattr("sae_assets.pipeline.stages.sparse_activations.encode_chunk", None)
    made = follower.settle()
    key, partition = "small/patch/sparse_activations", multi_key(MODEL, "0000")
    assert ("small/patch/ground_truth", partition) in made and key not in {name for name, _ in made}
    assert {path: path.stat().st_mtime_ns for path in session.store.root.rglob("sparse_activations/*")} == files
    # What follows from the labels follows, once: the mark "stale" is gone everywhere.
    assert all_states(session) == {"current"}
    assert stale_by_dagster(session, "small") == set()


@everything_made
def test_chunk_without_calibration_rows_changes_no_statistics(living):
    session, root = living
    follower = Switch(session, "small")
    follower.settle()
    before = {
        stage: session.store.header(address(stage)).content_hash
        for stage in ("unit_stats", "unit_mapping", "thresholds")
    }
    land_without_calibration(root, 12, 6)
    session.register("small")
    made = follower.settle()
    assert ("small/patch/filtered_activations", multi_key(MODEL, "0002")) in made
    assert ("small/patch/filtered_activations", multi_key(MODEL, "0000")) not in made
    assert ("small/patch/detection_stats", MODEL) in made
    after = {stage: session.store.header(address(stage)).content_hash for stage in before}
    assert after == before
    assert all_states(session) == {"current"}


def address(stage: str, chunk: str | None = None) -> Address:
    return Address("small", stage, "patch", MODEL, chunk)


def nulls(values: torch.Tensor) -> torch.Tensor:
    """The same with every null as -1, so that nulls are equal."""
    return values.nan_to_num(-1) if values.is_floating_point() else values


def test_freeze_keeps_what_was_fitted_and_extends_the_rest(tmp_path, made_home):
    places = made_home(tmp_path, calibration="freeze")
    with open_session(places["home"], places["catalog"]) as session:
        follower = Switch(session, "small")
        follower.settle()
        fitted = {
            s: session.store.header(address(s)).content_hash for s in ("unit_stats", "unit_mapping", "thresholds")
        }
        chosen = {s: session.store.read(address(s)).artifact for s in ("coalitions", "localization")}
        land(places["root"], 18)
        session.register("small")
        made = follower.settle()
        assert not {(f"small/patch/{stage}", MODEL) for stage in fitted} & made
        assert ("small/patch/filtered_activations", multi_key(MODEL, "0002")) in made
        assert ("small/patch/best_pairs", MODEL) in made
        assert {s: session.store.header(address(s)).content_hash for s in fitted} == fitted
        # What these chose on cal is kept, and counted on the chunk more.
        for stage, names in {"coalitions": ("unit_ids", "thresholds"), "localization": ("cutoffs",)}.items():
            before, after = chosen[stage], session.store.read(address(stage)).artifact
            assert all(torch.equal(nulls(getattr(before, each)), nulls(getattr(after, each))) for each in names)
            assert stage == "localization" or int(after.counts.sum()) > int(before.counts.sum())
        assert all_states(session) == {"current"}
        # The command line agrees: nothing is left to do.
        made_runs, _ = session.materialize(["small"])
        assert made_runs == 0
    # No longer frozen, all of it is chosen anew.
    write_catalog(places["catalog"], places["root"], **USUAL, calibration="refit")
    with open_session(places["home"], places["catalog"]) as session:
        states = states_of(session)
        assert {states[f"patch/{MODEL}/{stage}"]["all"] for stage in (*fitted, *chosen)} == {"stale"}


def test_backfill_is_exactly_what_is_missing_or_stale_in_one_sequence(living):
    session, root = living
    assert launched(plan_of(session)) == everything(["0000", "0001"])
    session.materialize(["small"])
    assert plan_of(session).batches == ()

    land(root, 18)
    session.register("small")
    made = launched(plan_of(session))
    of_activations = (
        "unit_stats",
        "unit_mapping",
        "pruning_audit",
        "row_alignment",
        "localization",
        "coalitions",
        "unit_rows",
        "report",
    )
    assert {partition for key, partition in made if not key.endswith(of_activations)} == {
        "0002", multi_key(MODEL, "0002"),
    }  # fmt: skip
    # What is filtered by a mapping that is still to come may be stale then: what reads all of it waits.
    assert {
        each.stage for batch in plan_of(session).batches for each in batch.addresses if batch.model and not batch.chunk
    } == {*MODEL_STAGES}


def test_what_ends_while_history_is_read_counts_as_running(living, monkeypatch):
    """Its file is there and its event came too late to be read: it must not be made once more."""
    session, _ = living
    chunk = Address("small", "examples", chunk="0000")
    answers = iter([{chunk}, set()])
    monkeypatch.setattr(history, "running_artifacts", lambda *_: next(answers))
    assert history_of(session.instance, session.catalog.datasets["small"]).running == {chunk}


def test_limit_takes_the_first_chunks_and_no_aggregate_over_the_rest(living):
    session, _ = living
    plan = plan_of(session, limit=3)
    assert launched(plan) == {
        ("small/examples", "0000"), ("small/examples", "0001"),
        ("small/labels", "0000"),
    }  # fmt: skip
    assert plan.over_limit == 2 * (2 + len(CHUNK_STAGES)) - 3


def test_schedule_launches_one_backfill_that_the_ui_shows(living):
    session, _ = living
    definitions = build_definitions(session.catalog, session.resources)
    repository = definitions.get_repository_def()
    schedule = repository.get_schedule_def("small__backfill")

    def tick(minute: int) -> Any:
        with dg.build_schedule_context(
            instance=session.instance, repository_def=repository, resources=session.resources,
            scheduled_execution_time=datetime(2026, 1, 1, 2, minute, tzinfo=UTC),
        ) as context:  # fmt: skip
            return schedule.evaluate_tick(context)

    (request,) = tick(0).run_requests  # the tick has succeeded, and says what it asks for
    assert request.run_key == "backfill-small-20260101T0200"
    job = repository.get_job("small__launch_backfill")
    half_written = session.store.root / "small" / half_written_by(ended())
    half_written.touch()
    for _ in range(2):  # the same tick, tried again
        assert job.execute_in_process(instance=session.instance, run_config=request.run_config).success
    backfill = session.instance.get_backfill("backfill-small-20260101T0200")
    assert backfill is not None and backfill.tags["sae_assets/dataset"] == "small"
    assert active_backfill(session.instance, "small") == backfill.backfill_id
    assert not half_written.exists()
    assert "still running" in tick(0).skip_message and "still running" in tick(1).skip_message
    assert len(session.instance.get_backfills()) == 1


@pytest.mark.made_to("labels")
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
    (broken,) = {partition for name, partition in failed_artifacts(session) if name == key.to_user_string()}
    failed = {key: {broken}}
    states = states_of(session)["patch/clip-mini/sparse_activations"]
    assert sorted(states.values()) == ["current", "failed"]
    left_out = launched(plan_of(session, failed=failed))
    assert ("small/patch/sparse_activations", broken) not in left_out
    assert not [found for found in left_out if found[0].endswith("unit_stats")]  # it would only fail
    assert ("small/patch/sparse_activations", broken) in launched(plan_of(session))
    victim.write_bytes(content)
    session.materialize(["small"], last="sparse_activations")
    assert failed_artifacts(session) == set()


@everything_made
def test_changed_file_fails_a_check_that_says_what_to_do(living):
    session, root = living
    victim = sorted((root / "images").iterdir())[0]
    victim.write_bytes(victim.read_bytes() + b"more")
    definitions = build_definitions(session.catalog, session.resources)
    job = definitions.get_repository_def().get_job("small__check_contents")
    result = job.execute_in_process(instance=session.instance)
    evaluation = result.get_asset_check_evaluations()[0]
    assert not evaluation.passed
    assert victim.stem in str(evaluation.metadata["examples"].value)
    assert "sae-assets remove" in str(evaluation.metadata["what_to_do"].value)
    # The chunk stays what it was: nothing becomes stale, nothing is encoded from other contents by accident.
    assert all_states(session) == {"current"}


@pytest.mark.made_to("labels")
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
    ((name, broken),) = failed_artifacts(session)
    assert name == key.to_user_string()
    failed = {key: {broken}}
    held = launched(plan_of(session, failed=failed))
    assert held and not [one for one in held if broken in one[1]]
    repaired = launched(plan_of(session, unchecked=failed))
    assert ("small/examples", broken) in repaired and len(repaired) > len(held)
    # A run that only planned to check again, and died before it did, is no reason to trust the file.
    session.instance.create_run_for_job(job, asset_selection=frozenset({key}), tags={"dagster/partition": broken})
    assert named(history_of(session.instance, session.catalog.datasets["small"]).unchecked) == {(name, broken)}
    victim.write_bytes(content)
    session.materialize(["small"], last="labels")
    assert failed_artifacts(session) == set()


def test_failed_chunk_holds_up_no_chunk_that_a_frozen_mapping_filters(tmp_path, made_home):
    places = made_home(tmp_path, calibration="freeze")
    with open_session(places["home"], places["catalog"]) as session:
        land(places["root"], 24)
        session.register("small")
        session.materialize(["small"], last="control_inputs")
        file = session.store.find(address("sparse_activations", "0002"))
        assert file is not None
        file.unlink()
        failed = {dg.AssetKey(["small", "patch", "sparse_activations"]): {multi_key(MODEL, "0002")}}
        made = launched(plan_of(session, failed=failed))
        assert ("small/patch/filtered_activations", multi_key(MODEL, "0003")) in made
        assert not [partition for _, partition in made if "0002" in partition]


def test_failed_aggregate_holds_up_what_reads_it_and_nothing_else(tmp_path, made_home):
    """Nothing is filtered by a mapping of which a check failed; the other token kind goes on."""
    places = made_home(tmp_path, "unit_mapping", token_kinds=["patch", "cls"])
    with open_session(places["home"], places["catalog"]) as session:
        failed = {dg.AssetKey(["small", "patch", "unit_mapping"]): {MODEL}}
        later = {
            "pruning_audit",
            "filtered_activations",
            "thresholds",
            "detection_stats",
            "chosen_pairs",
            "best_pairs",
            "localization",
            "coalitions",
            "report",
        }
        made = launched(plan_of(session, failed=failed, unchecked=failed))
        on_rows = {f"small/{kind}/row_alignment" for kind in ("patch", "cls")}  # read nothing of the mapping
        assert keys(made) == {f"small/cls/{stage}" for stage in later} | on_rows
        repair = keys(launched(plan_of(session, unchecked=failed)))
        assert repair == {
            "small/patch/unit_mapping",
            *(f"small/{kind}/{s}" for kind in ("patch", "cls") for s in later),
            *on_rows,
        }


@pytest.mark.made_to("sparse_activations")
def test_chunk_that_arrives_while_aggregates_run_fails_none_of_them(living):
    """It was not there when they were asked for; what it makes stale is made again."""
    session, root = living
    job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
    fitted = [dg.AssetKey(["small", "patch", stage]) for stage in ("unit_stats", "unit_mapping")]

    def run(**tags: str) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=session.instance, asset_selection=fitted, partition_key=MODEL, raise_on_error=False, tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip

    batches = plan_of(session).in_sequence
    assert only(launched(plan_of(session)), "examples", "sparse_activations", "unit_stats") == {
        ("small/patch/unit_stats", MODEL)
    }
    assert launch(session.instance, session.catalog, batches, backfill_id="before", kind="backfill")
    land(root, 18)
    session.register("small")
    result = run()  # asked for by itself, after the chunk was registered
    assert not result.success and "1 of 3 registered chunks" in (first_cause(result.all_events) or "")
    assert failed_artifacts(session) == {(key.to_user_string(), MODEL) for key in fitted}  # and not to be tried again
    assert run(**{"dagster/backfill": "before"}).success
    made = session.store.header(address("unit_stats"))
    assert {name.split("/")[1] for name in made.provenance.inputs if "/" in name} == {"0000", "0001"}
    assert states_of(session)["patch/clip-mini/unit_stats"] == {"all": "stale"}
    # Of a run of its own likewise.
    manifest = session.store.root / "small" / "chunks" / "0002.json"
    os.utime(manifest, (time.time() + 60, time.time() + 60))
    assert run().success
    session.materialize(["small"], last="unit_stats")
    assert set(states_of(session)["patch/clip-mini/unit_stats"].values()) == {"current"}


@pytest.mark.made_to("labels")
def test_failed_aggregate_is_tried_again_once_what_it_reads_was_made(living):
    session, _ = living
    job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(["small", "patch", "unit_stats"])

    def fail() -> Named:
        result = job.execute_in_process(
            instance=session.instance, asset_selection=[key], partition_key=MODEL, raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        assert not result.success
        return failed_artifacts(session)

    held = {("small/patch/unit_stats", MODEL)}
    assert fail() == held
    session.materialize(["small"], chunks=["0"], last="sparse_activations")
    assert failed_artifacts(session) == set()
    assert fail() == held


def test_failed_chunk_holds_up_no_aggregate_that_does_not_read_it(tmp_path, made_home):
    """Statistics read chunks with calibration rows and no others; detection reads test rows too."""
    places = made_home(tmp_path, "register")
    land_without_calibration(places["root"], 12, 6)
    with open_session(places["home"], places["catalog"]) as session:
        session.materialize(["small"], last="ground_truth")
        key, other = (dg.AssetKey(["small", "patch", stage]) for stage in ("sparse_activations", "ground_truth"))
        for chunk, held in (("0002", False), ("0001", True)):
            plan = plan_of(session, failed={key: {multi_key(MODEL, chunk)}})
            fitted = only(launched(plan), "unit_stats", "unit_mapping")
            assert (len(fitted), plan.over_limit, len(plan.left_out)) == (0 if held else 2, 0, 1)
        truth = session.store.find(address("ground_truth", "0001"))
        truth.unlink()
        made = launched(plan_of(session, failed={other: {multi_key(MODEL, "0001")}}))
        assert ("small/patch/unit_stats", MODEL) in made and ("small/patch/unit_mapping", MODEL) not in made
        # The command line judges alike: a damaged image without calibration rows stops no statistics.
        victim = places["root"] / session.store.read(Address("small", "examples", chunk="0002")).artifact.paths[0]
        victim.write_bytes(b"no image")
        with pytest.raises(RunFailedError):
            session.materialize(["small"])
        states = states_of(session)
        assert states["patch/clip-mini/unit_mapping"] == {"all": "current"}
        assert states["patch/clip-mini/filtered_activations"]["0001"] == "current"
        assert states["patch/clip-mini/detection_stats"] == {"all": "missing"}


def test_home_of_an_earlier_version_is_made_anew_without_encoding(living, monkeypatch):
    """`examples` once held splits and labels, and had a hash of all; activations named what is its hash now."""
    session, _ = living
    session.materialize(["small"])
    for chunk in session.chunks_of("small"):
        where = Address("small", "examples", chunk=chunk)
        item = session.store.read(where)
        older = parquet.dump(
            item.artifact,
            lambda scalars, made=item.provenance: Header(
                "examples", "ab" * 32, {**scalars, "concepts": []}, replace(made, code_version="2")
            ),
        )
        session.store.find(where).write_bytes(older)
        session.store.find(Address("small", "labels", chunk=chunk)).unlink()
    states = states_of(session)
    assert (set(states["examples"].values()), set(states["labels"].values())) == ({"stale"}, {"missing"})
    work = launched(plan_of(session))
    assert {
        (f"small/{stage}", chunk) for stage in ("examples", "labels") for chunk in session.chunks_of("small")
    } <= work
    monkeypatch.setattr("sae_assets.pipeline.stages.sparse_activations.encode_chunk", None)
    files = {path: path.stat().st_mtime_ns for path in session.store.root.rglob("sparse_activations/*")}
    session.materialize(["small"])
    assert {path: path.stat().st_mtime_ns for path in session.store.root.rglob("sparse_activations/*")} == files
    assert all_states(session) == {"current"}


def test_all_switches_ship_off(living):
    session, _ = living
    repository = build_definitions(session.catalog, session.resources).get_repository_def()
    switches = [*repository.sensor_defs, *repository.schedule_defs]
    names = {switch.name for switch in switches}
    wanted = {"register_chunks", "follow", "backfill", "repair", "check_contents"}
    assert {f"small__{name}" for name in wanted} <= names
    assert {str(switch.default_status.value) for switch in switches} == {"STOPPED"}
