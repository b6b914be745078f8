"""What a person repairs, changes and sees by the command line: damaged payloads, options of a run, stale figures."""

import asyncio
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

import sae_assets
from sae_assets.catalog import Dataset
from sae_assets.cli.ui import WORKSPACE
from sae_assets.commands.figures import summarize
from sae_assets.commands.session import open_session
from sae_assets.orchestration import runs
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.history import history_of
from sae_assets.orchestration.instance.home import CODE_LOCATION, open_instance
from sae_assets.orchestration.partitions import asset_key, multi_key
from sae_assets.pipeline.planning import History
from sae_assets.pipeline.staleness import Staleness
from sae_assets.settings import load_settings
from sae_assets.storage.address import Address
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.planned import all_states, plan_of
from sae_assets_tests.pipeline.small import damaged_payload, make_dataset, write_catalog
from sae_assets_tests.processes import environment


@pytest.fixture
def made(tmp_path: Path, made_home: Homes) -> Places:
    """A data set of two chunks of patches, everything materialized."""
    return made_home(tmp_path)


def best_pairs(places: Places, kind: str):
    with open_session(places["home"], places["catalog"]) as session:
        return session.store.read(Address("small", "best_pairs", kind, "clip-mini"))


def test_what_two_commands_make_at_once_is_made_once_by_each(
    tmp_path: Path, made_home: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks of what another one is making are still to come, after one's own have passed: it is not due again."""
    places, looks = made_home(tmp_path, "register"), []
    contested = Address("small", "unit_stats", "patch", "clip-mini")

    def beside_another(instance: dg.DagsterInstance, entry: Dataset) -> History:
        found = history_of(instance, entry)
        looks.append(found)
        return replace(found, running={*found.running, contested}, unchecked={*found.unchecked, contested})

    monkeypatch.setattr(runs, "history_of", beside_another)
    result = invoke(places, "materialize", "-d", "small", "--to", "unit_stats", "--json")
    assert result.exit_code == 0, result.output
    with open_session(places["home"], places["catalog"]) as session:
        assert len(session.instance.fetch_materializations(asset_key(contested), limit=9).records) == 1
    assert len(looks) > 1


@pytest.mark.parametrize(
    ("place", "reader"),
    [
        pytest.param("patch/clip-mini/sparse_activations/0001", "unit_stats", marks=pytest.mark.long),
        ("patch/clip-mini/thresholds/all", "chosen_pairs"),
    ],
)
def test_damaged_payload_is_made_again_by_the_command_that_the_message_names(made, place, reader):
    """Its header is whole, so that it counts as current."""
    path = made["home"] / "store" / "small" / f"{place}.parquet"
    content = path.read_bytes()
    path.write_bytes(damaged_payload(content))
    with open_session(made["home"], made["catalog"]) as session:
        assert all_states(session) <= {"current", "failed"}
    stages = ["--from", reader, "--to", reader, "--force"]
    failed = invoke(made, "materialize", "-d", "small", *stages)
    assert failed.exit_code == 1 and "sae_assets." not in failed.stderr
    assert invoke(made, "verify").exit_code == 1
    said = re.search(r"Run: sae-assets (materialize .*--force)$", failed.stderr, re.M)
    assert said and said[0] in invoke(made, "verify").stderr
    assert invoke(made, *shlex.split(said[1])).exit_code == 0
    assert path.read_bytes() == content
    assert invoke(made, "verify").exit_code == 0


def test_seconds_are_those_of_the_run_that_encoded(made):
    """A later run that kept the file took none."""
    with open_session(made["home"], made["catalog"]) as session:
        taken = summarize(session, ["small"])["small/patch/clip-mini"]["seconds"]["sparse_activations"]
        job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=session.instance, asset_selection=[dg.AssetKey(["small", "patch", "sparse_activations"])],
            partition_key=multi_key("clip-mini", "0000"),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        assert result.success and taken > 0
        assert summarize(session, ["small"])["small/patch/clip-mini"]["seconds"]["sparse_activations"] == taken


def test_runs_say_where_their_code_is(made):
    """As ``workspace.yaml`` and ``sae-assets ui`` name it: only then can the UI make a run of the command again."""
    (place,) = yaml.safe_load((Path(sae_assets.__file__).parents[1] / "workspace.yaml").read_text())["load_from"]
    expected = (place["python_module"]["module_name"], place["python_module"]["location_name"])
    assert CODE_LOCATION == expected == tuple(re.findall(r"_name: (\S+)", WORKSPACE))
    with open_session(made["home"], made["catalog"]) as session:
        runs = [record.dagster_run for record in session.instance.get_run_records()]
        repository = build_definitions(session.catalog, session.resources).get_repository_def()
    origins = {run.remote_job_origin for run in runs}
    assert len(runs) > 1 and {origin.location_name for origin in origins} == {expected[1]}
    assert {origin.repository_origin.repository_name for origin in origins} == {repository.name}
    assert all(repository.has_job(run.job_name) for run in runs)


AGAIN = """mutation ($run: String!) {
    launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: ALL_STEPS}) {
        __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message }
    }
}"""


@pytest.mark.slow
def test_the_ui_makes_runs_of_the_command_again(made, monkeypatch, tmp_path):
    """What its button "Re-execute" sends: the code is found, and the same assets of the same partition are queued."""
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(WORKSPACE, encoding="utf-8")
    for name, value in environment(made["home"], made["catalog"]).items():  # of the server that loads the code
        monkeypatch.setenv(name, value)
    with (
        open_instance(load_settings(made["home"])) as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)])) as server,
    ):
        from dagster_graphql.schema import create_schema  # half a second, of every process that collects tests

        first = instance.get_runs(limit=1)[0]
        context = server.create_request_context()
        asked = create_schema().execute_async(AGAIN, context_value=context, variables={"run": first.run_id})
        answer = asyncio.run(asked)
        assert answer.errors is None, answer.errors
        launched = answer.data["launchRunReexecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        again = instance.get_run_by_id(launched["run"]["id"])
        assert again.status is dg.DagsterRunStatus.QUEUED and again.parent_run_id == first.run_id
        assert again.asset_selection == first.asset_selection
        assert again.tags["dagster/partition"] == first.tags["dagster/partition"]


def test_settings_of_the_catalog_hold_for_whoever_asks(tmp_path):
    """A schedule sets nothing: what the catalog says is not stale for it, and an option goes before the catalog."""
    detection = {"tail_fractions": [0.1, 0.5], "n_permutations": 3, "n_folds": 2, "seed": 6}
    root = make_dataset(tmp_path / "data", 6)
    catalog = write_catalog(tmp_path / "catalog.yaml", root, token_kinds=["patch"], detection=detection)
    content = yaml.safe_load(catalog.read_text())
    catalog.write_text(yaml.safe_dump({**content, "models": {"clip-mini": {"forward_batch": 2}}}))
    places = {"home": tmp_path / "home", "catalog": catalog}
    assert invoke(places, "materialize", "-d", "small").exit_code == 0
    fractions = {"tail_fractions": detection.pop("tail_fractions")}
    with open_session(places["home"], catalog) as session:
        pairs = {name: detection[name] for name in ("n_permutations", "seed")}
        choice = {name: detection[name] for name in ("n_folds", "seed")}
        for stage, expected in (("thresholds", fractions), ("chosen_pairs", choice), ("best_pairs", pairs)):
            found = session.store.read(Address("small", stage, "patch", "clip-mini")).provenance.config
            assert {name: found[name] for name in expected} == expected
        sparse = session.store.read(Address("small", "sparse_activations", "patch", "clip-mini", "0000"))
        assert sparse.provenance.config["forward_batch"] == 2
        assert all_states(session) == {"current"}
        assert plan_of(session).batches == ()
    assert invoke(places, "materialize", "-d", "small", "--to", "best_pairs", "--seed", "7").exit_code == 0
    assert dict(best_pairs(places, "patch").provenance.config) == {**pairs, "pooling": "max", "seed": 7}


@pytest.mark.long
def test_options_of_detection_and_of_fixed_pruning(tmp_path, made_home):
    """They reach the stages, and the token kind that was made with others is marked."""
    made = made_home(tmp_path, n=6, token_kinds=["patch", "cls"])
    counts = {"n-permutations": 7, "n-folds": 2, "seed": 5}
    options = [part for name, value in counts.items() for part in (f"--{name}", str(value))]
    done = invoke(made, "materialize", "-d", "small", *options, "--json")
    assert done.exit_code == 0, done.stderr
    assert dict(best_pairs(made, "patch").provenance.config) == {
        "pooling": "max", "n_permutations": 7, "seed": 5,
    }  # fmt: skip
    figures = json.loads(done.stdout)["figures"]
    assert figures["small/patch/clip-mini"]["stale_stages"] == []
    assert figures["small/cls/clip-mini"]["stale_stages"] == ["chosen_pairs", "best_pairs"]
    shown = invoke(made, "materialize", "-d", "small", *options).output
    assert shown.count("STALE") == 1
    assert "STALE" in shown[shown.index("small/cls/clip-mini") :].splitlines()[1]

    rules = ["--pruning", "fixed", "--min-active", "2", "--max-density", "0.9", "--strength-percentile", "1"]
    done = invoke(made, "materialize", "-d", "small", "--to", "unit_mapping", *rules)
    assert done.exit_code == 0, done.stderr
    with open_session(made["home"], made["catalog"]) as session:
        config = session.store.read(Address("small", "unit_mapping", "patch", "clip-mini")).provenance.config
    assert {name: config[name] for name in ("pruning", "min_active", "max_density", "strength_percentile")} == {
        "pruning": "fixed", "min_active": 2, "max_density": 0.9, "strength_percentile": 1.0,
    }  # fmt: skip


def test_missing_inputs_name_the_command_that_makes_them(tmp_path, made_home):
    places = made_home(tmp_path, "register")
    for first, inputs in (("unit_mapping", "unit_stats"), ("ground_truth", "examples")):
        failed = invoke(places, "materialize", "-d", "small", "--from", first)
        said = re.search(r"Run: sae-assets (materialize .*-d small.* --to (\w+))$", failed.stderr, re.M)
        assert failed.exit_code == 1 and said and said[2] == inputs, failed.stderr
    assert invoke(places, *shlex.split(said[1])).exit_code == 0


def test_what_is_never_current_ends_with_the_reason(made, monkeypatch):
    """Files that change while a command works, or a rule that no file satisfies, must not keep it at work for ever."""
    reason = Staleness.reason

    def never(staleness: Staleness, address: Address) -> str:
        return "the moon is full" if address.stage == "best_pairs" else reason(staleness, address)

    monkeypatch.setattr(Staleness, "reason", never)
    result = invoke(made, "materialize", "-d", "small")
    assert result.exit_code == 1
    assert "best_pairs" in result.stderr and "was made 3 times and is due again (the moon is full)" in result.stderr
