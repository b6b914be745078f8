"""Bad input, as a person meets it: the message says what and where, nothing is half-written, no traceback."""

import csv
import json
from pathlib import Path

import dagster as dg
import pytest
import torch
import yaml
from typer.testing import CliRunner

from sae_assets.cli import app
from sae_assets.commands.session import open_session
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.history import first_cause
from sae_assets.orchestration.partitions import multi_key
from sae_assets.pipeline.stages import ORDER
from sae_assets_tests.helpers.homes import Places, places_in
from sae_assets_tests.pipeline.planned import launched, only, plan_of, states_of
from sae_assets_tests.pipeline.small import CONCEPTS, make_dataset, write_catalog, write_metadata


def run(small: dict[str, Path], *arguments: str):
    command = ["materialize", "-d", "small", "--home", str(small["home"]), "--catalog", str(small["catalog"])]
    return CliRunner().invoke(app, [*command, *arguments])


def rows(small: dict[str, Path]) -> list[dict[str, str]]:
    with (small["root"] / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def one_chunk(tmp_path: Path) -> Places:
    """A data set of one chunk, with an example of each split: for what is refused before anything is encoded."""
    places = places_in(tmp_path)
    write_catalog(places["catalog"], make_dataset(places["root"], 3), token_kinds=["patch"])
    return places


def refused(small: dict[str, Path], *parts: str, code: int = 1, arguments: tuple[str, ...] = ()) -> str:
    """The command fails with a message that holds all parts, and leaves no file but registered manifests."""
    result = run(small, *arguments)
    assert result.exit_code == code, result.output
    assert "\nError: " in f"\n{result.stderr}" and "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr, result.stderr
    manifests = ("chunks", "examples", "labels")
    made = [path for path in (small["home"] / "store").rglob("*.*") if path.parent.name not in manifests]
    assert not [path for path in made if "unit" in str(path) or path.name.startswith(".tmp-")]
    return result.stderr


def test_missing_image(small):
    gone = rows(small)[4]["image_path"]
    (small["root"] / gone).unlink()
    refused(small, "line 6", "image_path", gone, "does not exist")


@pytest.mark.long
@pytest.mark.parametrize("vanished", [False, True])
def test_image_that_changes_or_vanishes_after_registration(tmp_path, made_home, vanished):
    """Nothing of its chunk is written; other chunks are, new ones too, and aggregates wait."""
    small = made_home(tmp_path, "labels")
    make_dataset(small["root"], 18)
    everything = rows(small)
    gone = small["root"] / everything[7]["image_path"]
    content = gone.read_bytes()
    gone.unlink() if vanished else gone.write_bytes(b"not an image")
    write_metadata(small["root"], everything)
    what = "vanished" if vanished else "changed"
    refused(
        small, f"({everything[7]['image_path']}) {what}", "small clip-mini 0001",
        "1 of 6 examples of chunk 0001 are not what was registered", "sae-assets remove ", " small --chunks ",
    )  # fmt: skip
    made = sorted(path.name for path in (small["home"] / "store").rglob("sparse_activations/*"))
    assert made == ["0000.parquet", "0002.parquet"]
    with open_session(small["home"], small["catalog"]) as session:
        states = states_of(session)
        assert list(states["examples"].values()) == ["current"] * 3
        assert list(states["patch/clip-mini/sparse_activations"].values()) == ["current", "failed", "current"]
        again = only(launched(plan_of(session)), "sparse_activations")
        assert again == {("small/patch/sparse_activations", "0001|clip-mini")}
        definitions = build_definitions(session.catalog, session.resources)
        job = definitions.get_repository_def().get_job("small__check_contents")
        (found,) = job.execute_in_process(instance=session.instance).get_asset_check_evaluations()
        assert not found.passed and f"{gone.stem} ({what})" in str(found.metadata["examples"].value)
        # Making its chunk's `examples` anew fails the blocking check, which says what to do.
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=session.instance, asset_selection=[dg.AssetKey(["small", "examples"])], partition_key="0001",
            raise_on_error=False, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
        assert [check.check_name for check in failed] == ["contents_as_registered"]
        assert "Restore the files" in str(failed[0].metadata["what_to_do"].value)
    gone.write_bytes(content)
    assert run(small, "--to", "unit_stats").exit_code == 0


def test_wrong_row_holds_up_new_examples_and_its_own_chunk_only(tmp_path, made_home):
    """Garbage in a row that was just added is no matter of the chunks that are registered."""
    small = made_home(tmp_path, "labels")
    make_dataset(small["root"], 18)
    everything = rows(small)
    everything[12]["shape::cube"] = "maybe"
    write_metadata(small["root"], everything)
    refused(small, "line 14: column 'shape::cube': found 'maybe', expected 0 or 1")
    with open_session(small["home"], small["catalog"]) as session:
        assert set(states_of(session)["examples"].values()) == {"current"}
        job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()

        def made(chunk: str) -> dg.ExecuteInProcessResult:
            keys = [dg.AssetKey(["small", "patch", stage]) for stage in ("ground_truth", "sparse_activations")]
            return job.execute_in_process(
                instance=session.instance, asset_selection=keys, partition_key=multi_key("clip-mini", chunk),
                raise_on_error=False, run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )  # fmt: skip

        assert made("0000").success
        everything[7]["shape::cube"] = "perhaps"
        write_metadata(small["root"], everything)
        path = everything[7]["image_path"]
        said = f"{Path(path).stem} ({path}) vanished from the table, or its row is wrong"
        assert not (result := made("0001")).success and said in first_cause(result.all_events)
        states = states_of(session)["examples"]
        assert states == {"0000": "current", "0001": "stale"}


def test_every_bad_chunk_is_named_and_the_others_are_made(tmp_path, made_home):
    """A night's work does not end with the first damaged image."""
    small = made_home(tmp_path, "labels", n=6, chunk_size=2)
    for place in (1, 5):
        (small["root"] / rows(small)[place]["image_path"]).write_bytes(b"not an image")
    said = ["2 runs failed; 1 that do not need them were made, 3 were up to date"]
    refused(small, *said, "small clip-mini 0000 ground_truth", "small clip-mini 0002 ground_truth", "1 of 2 examples")
    made = sorted(path.name for path in (small["home"] / "store").rglob("patch/*/sparse_activations/*"))
    assert made == ["0001.parquet"]
    assert run(small, "--allow-missing-chunks", "--to", "unit_stats").exit_code == 1
    assert list((small["home"] / "store").rglob("patch/*/unit_stats/*"))


@pytest.mark.long
def test_changed_image_is_refused_however_often_it_is_asked(tmp_path, made_home):
    """A check that failed is not forgotten by the next command, and no stage reads other contents than registered."""
    small = made_home(tmp_path, "labels", n=18)
    image, other = (small["root"] / rows(small)[place]["image_path"] for place in (7, 8))
    content = image.read_bytes()
    image.write_bytes(other.read_bytes())
    parts = ("Check 'contents_as_registered' of small/examples failed", image.stem, "(changed)", "Restore the files")
    refused(small, *parts, arguments=("--to", "examples", "--force"))
    refused(small, *parts)
    refused(small, image.stem, "not what was registered", arguments=("--from", "ground_truth"))
    command = ["status", "-d", "small", "--json", "--home", str(small["home"]), "--catalog", str(small["catalog"])]
    states = json.loads(CliRunner().invoke(app, command).stdout)["small"]["stages"]
    assert list(states["examples"].values()) == ["current", "failed", "current"]
    assert states["patch/clip-mini/sparse_activations"]["0001"] in ("missing", "failed")
    image.write_bytes(content)
    assert run(small, "--to", "sparse_activations").exit_code == 0
    states = json.loads(CliRunner().invoke(app, command).stdout)["small"]["stages"]
    assert set(states["examples"].values()) == {"current"}


def test_corrected_labels_and_new_concepts_encode_nothing_again(tmp_path, made_home):
    """Rows are made from images; what is counted with labels becomes stale, activations do not."""
    small = made_home(tmp_path)
    changed = [{**row, "shape::cone": "0"} for row in rows(small)]
    changed[0]["shape::cube"] = str(1 - int(changed[0]["shape::cube"]))
    write_metadata(small["root"], changed)
    write_catalog(small["catalog"], small["root"], concepts=[*CONCEPTS, "shape::cone"], token_kinds=["patch"])
    result = run(small, "--json", "--to", "best_pairs")  # figures beside those of later stages, of fewer concepts
    assert result.exit_code == 0, result.stderr
    command = ["status", "-d", "small", "--json", "--home", str(small["home"]), "--catalog", str(small["catalog"])]
    made = json.loads(result.stdout)
    assert len(made["figures"]["small/patch/clip-mini"]["concepts"]) == 7
    states = json.loads(CliRunner().invoke(app, command).stdout)["small"]["stages"]
    later = {f"patch/clip-mini/{stage}" for stage in ORDER[ORDER.index("best_pairs") + 1 :]}
    assert {state for name in states.keys() - later for state in states[name].values()} == {"current"}
    with open_session(small["home"], small["catalog"]) as session:
        for stage, times in (("sparse_activations", 2), ("ground_truth", 4)):
            key = dg.AssetKey(["small", "patch", stage])
            found = session.instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=key), limit=100)
            assert len(found.records) == times


def test_unknown_split(small):
    changed = rows(small)
    changed[2]["split"] = "validation"
    write_metadata(small["root"], changed)
    refused(small, "line 4", "'validation'", "train, cal, test")


def test_misspelt_label_column(small):
    write_catalog(small["catalog"], small["root"], concepts=["color::bleu", "shape::cube"])
    refused(small, "'color::bleu'", "did you mean 'color::blue'?")


def test_all_problems_of_a_table_at_once(small):
    changed = rows(small)
    changed[0]["split"], changed[1]["color::red"], changed[3]["image_path"] = "dev", "yes", "../outside.jpg"
    write_metadata(small["root"], changed)
    refused(small, "3 problem(s)", "line 2", "line 3", "line 5", "inside the data set's folder")


def test_empty_cal_split_is_said_before_any_work(small):
    changed = [{**row, "split": "test" if row["split"] == "cal" else row["split"]} for row in rows(small)]
    write_metadata(small["root"], changed)
    refused(small, "no calibration examples", "train 6, cal 0, test 12")
    assert not list((small["home"] / "store").rglob("*.parquet"))


def test_chunks_without_cal_are_refused_by_the_aggregate(small):
    """Chunks materialized so far hold no cal example, though the data set has some."""
    write_catalog(small["catalog"], small["root"], token_kinds=["patch"], chunk_size=1)
    changed = rows(small)[:2]
    for place, row in enumerate(changed):
        row["split"] = "cal" if place == 1 else "train"
    write_metadata(small["root"], changed)
    refused(small, "hold no calibration examples", arguments=("--chunks", "0", "--allow-missing-chunks"))


@pytest.mark.long
def test_concept_without_positives_keeps_its_row_and_its_figures_are_null(tmp_path, made_home):
    """Not an error: the table says so with nulls, a warning check names it, other concepts have figures."""
    small = made_home(tmp_path)
    changed = [{**row, "shape::cube": "0"} for row in rows(small)]
    write_metadata(small["root"], changed)
    result = run(small, "--json")
    assert result.exit_code == 0, result.stderr
    concepts = json.loads(result.stdout)["figures"]["small/patch/clip-mini"]["concepts"]
    assert concepts["shape::cube"]["unit_id"] is None and concepts["shape::cube"]["test_f1"] is None
    assert concepts["color::blue"]["test_f1"] is not None
    shown = run(small)
    assert "–" in next(line for line in shown.output.splitlines() if "shape::cube" in line)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda c: c["model_state_dict"].pop("enc"), ["model_state_dict.enc is missing"]),
        (lambda c: c.pop("k"), ["key k is missing"]),
        (
            lambda c: c["model_state_dict"].update(enc=torch.zeros(64, 1024)),
            ["model_state_dict.enc has shape (64, 1024)", "expected (128, 1024)"],
        ),
    ],
)
def test_checkpoint_with_other_keys_or_shapes(one_chunk, change, parts):
    import sae_assets

    packaged = Path(sae_assets.__file__).parent / "demo" / "checkpoints" / "clip-mini-sae.pt"
    content = torch.load(packaged, weights_only=True)
    change(content)
    broken = one_chunk["root"].parent / "broken.pt"
    torch.save(content, broken)
    catalog = yaml.safe_load(one_chunk["catalog"].read_text())
    catalog["models"] = {"clip-mini": {"sae": {"format": "clipscope", "path": "broken.pt"}}}
    one_chunk["catalog"].write_text(yaml.safe_dump(catalog))
    refused(one_chunk, str(broken), *parts)


def test_sae_of_another_width_names_both(one_chunk):
    n, d = 32, 64
    state = {"pre_b": torch.zeros(d), "enc": torch.ones(d, n), "dec": torch.ones(n, d)}
    torch.save({"k": 4, "n_features": n, "d_in": d, "model_state_dict": state}, one_chunk["root"].parent / "narrow.pt")
    catalog = yaml.safe_load(one_chunk["catalog"].read_text())
    catalog["models"] = {"clip-mini": {"sae": {"format": "clipscope", "path": "narrow.pt"}}}
    one_chunk["catalog"].write_text(yaml.safe_dump(catalog))
    refused(one_chunk, "width 64", "width 128", "block 3")


def test_unknown_names_suggest_the_nearest(small):
    arguments = ["materialize", "--home", str(small["home"]), "--catalog", str(small["catalog"])]
    for extra, parts in (
        (["-d", "smal"], ["Unknown data set 'smal'", "Did you mean 'small'?", "Known: small"]),
        (["-d", "small", "-m", "clip_mini"], ["Unknown model 'clip_mini'", "clip-mini"]),
        (["-d", "small", "--from", "treshold"], ["Unknown stage 'treshold'", "thresholds"]),
        (["-d", "small", "--from", "thresholds", "--to", "examples"], ["comes after"]),
        (["-d", "small", "--sample-type", "token"], ["Unknown token kind 'token'", "patch"]),
        (["-d", "small", "--pruning", "best"], ["adaptive, fixed"]),
        (["-d", "small", "--precision", "fp8"], ["float32, bfloat16, float16"]),
        (["-d", "small", "--tail-fractions", "a,b"], ["must be numbers"]),
        (["-d", "small", "--format", "csv"], ["--format: found 'csv'"]),
    ):
        result = CliRunner().invoke(app, [*arguments, *extra])
        assert result.exit_code == 2, result.output
        for part in parts:
            assert part in result.stderr, result.stderr
    assert not (small["home"] / "store").exists()


def test_unknown_chunk(small):
    assert "no chunk 0007" in refused(small, "0000 … 0002", code=2, arguments=("--chunks", "7"))


def test_gaps_are_refused_unless_allowed(tmp_path, made_home):
    """An aggregate over part of the chunks is never made silently."""
    small = made_home(tmp_path, "labels")
    refused(small, "registered chunks of", "0001", "allow_missing_chunks", arguments=("--chunks", "0"))


def test_another_models_chunks_are_not_mixed_in(tmp_path, made_home):
    """A chunk encoded with another k_stored does not go into one aggregate with the others."""
    small = made_home(tmp_path, "sparse_activations")
    assert run(small, "--to", "sparse_activations", "--chunks", "1", "--k-stored", "3").exit_code == 0
    refused(small, "different encoder", "sparse_activations/0001", arguments=("--from", "unit_stats"))


def test_fixed_rules_that_keep_nothing_show_the_counts(tmp_path, made_home):
    small = made_home(tmp_path, "unit_mapping")
    catalog = yaml.safe_load(small["catalog"].read_text())
    rules = {"min_active": 10**9, "max_density": 0.5, "strength_percentile": 0, "target_units": 5}
    catalog["models"] = {"clip-mini": {"pruning": rules}}
    small["catalog"].write_text(yaml.safe_dump(catalog))
    result = run(small, "--pruning", "fixed")
    assert result.exit_code == 1 and "No unit is left" in result.stderr and "rare" in result.stderr


def test_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(app, ["demo", "--home", str(tmp_path / "file" / "home")])
    assert result.exit_code == 1 and "\nError: " in result.stderr and "Traceback" not in result.output
