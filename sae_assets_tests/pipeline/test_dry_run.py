"""A dry run says what ``materialize`` makes next, and why, and makes nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sae_assets.commands.session import open_session
from sae_assets.pipeline.planning import Batch
from sae_assets_tests.helpers.homes import Homes, Places, invoke, places_in
from sae_assets_tests.pipeline.small import make_dataset, packaged_rows, write_catalog, write_metadata
from sae_assets_tests.processes import environment

pytestmark = pytest.mark.slow


def files(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in (home / "store").rglob("*") if path.is_file()}


def dry_run(places: Places, *options: str) -> dict[str, Any]:
    before = files(places["home"])
    result = invoke(places, "materialize", "-d", "small", "--dry-run", "--json", *options)
    assert result.exit_code == 0, result.output
    assert files(places["home"]) == before
    told = json.loads(result.stdout)
    assert [*told] == ["datasets", "token_kinds"]
    told["datasets"]["small"]["token_kinds"] = told["token_kinds"]["small"]
    return told["datasets"]["small"]


def made(places: Places, **options: Any) -> list[list[str]]:
    """Artifacts of each run that ``materialize`` makes."""
    runs: list[list[str]] = []

    def on_batch(batch: Batch, *_: object) -> None:
        runs.append([str(address) for address in batch.addresses])

    with open_session(places["home"], places["catalog"]) as session:
        session.materialize(["small"], token_kinds=(), on_batch=on_batch, **options)
    return runs


def planned(told: dict[str, Any]) -> list[list[str]]:
    return [[one["artifact"] for one in run["artifacts"]] for run in told["runs"]]


def test_of_a_data_set_that_was_never_registered(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    write_catalog(places["catalog"], make_dataset(places["root"], 9), chunk_size=6)
    told = dry_run(places, "--to", "ground_truth")
    assert not (places["home"] / "store").exists()
    assert told["new_chunks"] == ["0000", "0001"] and told["token_kinds"] == {"made": ["patch"], "left": ["cls"]}
    assert {one["why"] for run in told["runs"] for one in run["artifacts"]} == {"missing"}
    runs = planned(told)
    assert runs == made(places, last="ground_truth")
    again = dry_run(places, "--to", "ground_truth")
    assert again["runs"] == again["later"] == again["new_chunks"] == []
    forced = dry_run(places, "--to", "ground_truth", "--force")
    assert {one["why"] for run in forced["runs"] for one in run["artifacts"]} == {"current, and --force is given"}
    assert planned(forced) == runs


def test_of_a_home_in_which_something_has_changed(tmp_path: Path, made_home: Homes) -> None:
    """Each artifact is named with what has changed, and what may have to follow is, too."""
    places = made_home(tmp_path, "unit_mapping")
    (places["home"] / "store" / "small" / "patch" / "clip-mini" / "ground_truth" / "0001.parquet").unlink()
    rows = packaged_rows()[:12]
    for place, row in enumerate(rows):
        row["split"] = ("cal", "test", "train")[place % 3]
    rows[0]["color::red"] = str(1 - int(rows[0]["color::red"]))
    write_metadata(places["root"], rows)
    told = dry_run(places, "--to", "unit_mapping")
    why = {one["artifact"]: one["why"] for run in told["runs"] for one in run["artifacts"]}
    assert why["small/patch/clip-mini/ground_truth/0001"] == "missing"
    assert why["small/labels/0000"].startswith(("inputs: ", "made with another"))
    assert "small/labels/0001" not in why and not told["new_chunks"]
    assert "small/patch/clip-mini/unit_mapping" in [one["artifact"] for one in told["later"]]
    assert "small/patch/clip-mini/unit_stats" in told["may_follow"]
    text = invoke(places, "materialize", "-d", "small", "--dry-run", "--to", "unit_mapping").output
    assert invoke(places, "plan", "-d", "small", "--to", "unit_mapping").output == text
    assert "ground_truth (0001): missing" in text and text.endswith("Nothing was made.\n")
    assert made(places, last="unit_mapping")[: len(told["runs"])] == planned(told)
    (places["home"] / "store" / "small" / "patch" / "clip-mini" / "sparse_activations" / "0001.parquet").unlink()
    told = dry_run(places, "--to", "unit_stats")
    why = {one["stage"]: one["why"] for run in told["runs"] for one in run["artifacts"]}
    assert why["sparse_activations"] == "missing"
    assert why["unit_stats"] == "not there of what it reads: sparse_activations"


def test_a_wrong_request_is_refused_as_without_it(tmp_path: Path, made_home: Homes) -> None:
    places = made_home(tmp_path, "register")
    for wrong in (["--chunks", "7"], ["-m", "nothing"], ["--from", "report", "--to", "labels"]):
        result = invoke(places, "materialize", "-d", "small", "--dry-run", *wrong)
        assert result.exit_code == 2, result.output


def test_the_first_line_says_which_token_kinds_are_made_before_dagster_is_loaded(
    tmp_path: Path, made_home: Homes
) -> None:
    places = made_home(tmp_path, "register", token_kinds=["patch", "cls"])
    statement = (
        "import sys; from sae_assets.cli import run, states, materializing\n"
        "told = materializing.print_kinds\n"
        "def first(kinds):\n"
        "    told(kinds)\n"
        "    print([name for name in ('dagster', 'torch', 'sqlalchemy') if name in sys.modules])\n"
        "    sys.exit()\n"
        "materializing.print_kinds = first\n"
        "run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", statement, "materialize", "-d", "small"], capture_output=True, text=True,
        env=environment(places["home"], places["catalog"]), check=False,
    )  # fmt: skip
    assert done.stderr == "small: makes patch, leaves cls (--token-kind patch,cls makes all)\n"
    assert done.stdout == "[]\n"
