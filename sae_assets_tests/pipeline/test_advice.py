"""What messages advise is done, word for word, in a home and with a catalog that are not the defaults."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sae_assets import settings
from sae_assets.cli import app
from sae_assets.cli.advice import COMMAND, advice
from sae_assets_tests.helpers.homes import Homes, Places, invoke, places_in
from sae_assets_tests.pipeline.small import damaged_payload, make_dataset, write_catalog

pytestmark = pytest.mark.slow


@pytest.fixture
def places(tmp_path: Path, made_home: Homes) -> Places:
    """Everything materialized, in a folder whose name has to be quoted."""
    return made_home(tmp_path / "my work")


def advised(text: str) -> list[str]:
    """The one command that a message names, as words."""
    found = re.findall(r"sae-assets ((?:'[^']*'|[^`()'\n;])+)", text)
    assert len(found) == 1, text
    return shlex.split(found[0].rstrip(". "))


def follow(text: str) -> Any:
    """Do what a message says; only what it says tells where."""
    command = advised(text)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (command, result.output)
    return result


def states(places: Places) -> dict[str, set[str]]:
    told = json.loads(invoke(places, "status", "-d", "small", "--json").stdout)["small"]["stages"]
    return {stage: {*partitions.values()} for stage, partitions in told.items()}


def test_show_of_what_was_not_made(tmp_path: Path, made_home: Homes) -> None:
    places = made_home(tmp_path / "my work", "labels")
    shown = invoke(places, "show", "small", "clip-mini", "ground_truth")
    assert shown.exit_code == 1
    follow(shown.stderr)
    assert invoke(places, "show", "small", "clip-mini", "ground_truth").exit_code == 0


@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_damaged_file(places: Places, command: str) -> None:
    path = places["home"] / "store" / "small" / "patch" / "clip-mini" / "thresholds" / "all.parquet"
    path.write_bytes(damaged_payload(path.read_bytes()))
    arguments = ["verify"] if command == "verify" else ["show", "small", "clip-mini", "thresholds"]
    result = invoke(places, *arguments)
    assert result.exit_code == 1
    follow(result.stderr)
    assert invoke(places, *arguments).exit_code == 0


@pytest.mark.long
def test_a_removed_chunk(places: Places) -> None:
    removed = invoke(places, "remove", "small", "--chunks", "1", "--yes")
    assert "aggregates become stale" in removed.stdout
    follow(removed.stdout.splitlines()[-1])
    assert {state for found in states(places).values() for state in found} == {"current"}


def test_a_stale_report(places: Places, tmp_path: Path) -> None:
    """It is handed out as it is, with the command that makes it of now."""
    command = ["report", "small", "clip-mini", "--out", str(tmp_path / "page.html")]
    assert invoke(places, *command).stderr == ""
    (places["home"] / "store" / "small" / "patch" / "clip-mini" / "coalitions" / "all.parquet").unlink()
    said = invoke(places, *command)
    assert said.exit_code == 0 and said.stderr.startswith("Stale (")
    follow(said.stderr.partition("For the figures of now: ")[2])
    assert invoke(places, *command).stderr == ""


def test_examples_that_have_changed(places: Places) -> None:
    image = sorted((places["root"] / "images").iterdir())[-1]
    image.write_bytes(image.read_bytes() + b"\0")
    failed = invoke(places, "materialize", "-d", "small", "--to", "labels", "--force")
    assert failed.exit_code == 1
    follow(failed.stderr)
    again = invoke(places, "materialize", "-d", "small", "--to", "labels")
    assert again.exit_code == 0, again.output


def test_examples_that_wait(tmp_path: Path) -> None:
    places = places_in(tmp_path / "my work")
    root = make_dataset(places["root"], 5)
    arrivals = {"settle_seconds": 0}
    write_catalog(places["catalog"], root, chunk_size=4, arrivals=arrivals)
    waiting = invoke(places, "register", "-d", "small")
    assert waiting.exit_code == 0, waiting.output
    follow(waiting.stdout)
    assert len(json.loads(invoke(places, "close-chunk", "small", "--json").stdout)["small"]["keys"]) == 2


def test_what_a_run_ends_with(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last lines say how the UI is opened on what it made."""
    started: dict[str, Any] = {}
    monkeypatch.setattr(os, "execve", lambda path, arguments, environment: started.update(environment))
    done = invoke(places, "materialize", "-d", "small")
    line = next(line for line in done.stdout.splitlines() if line.startswith("UI:"))
    follow(line.partition("   (http")[0])
    assert started["SAE_ASSETS_HOME"] == str(places["home"])
    assert started["SAE_ASSETS_CATALOG"] == str(places["catalog"])


def test_token_kinds_that_are_left(tmp_path: Path, made_home: Homes) -> None:
    places = made_home(tmp_path / "my work", "labels", token_kinds=["patch", "cls"])
    command = ["materialize", "-d", "small", "--to", "ground_truth"]
    said = invoke(places, *command).stderr.splitlines()[0]
    assert said.startswith("small: makes patch, leaves cls (")
    options = said.partition("(")[2].partition(" makes all")[0].split()
    assert invoke(places, *command, *options).exit_code == 0
    assert states(places)["cls/clip-mini/ground_truth"] == {"current"}


def test_a_damaged_import_names_the_whole_command() -> None:
    from sae_assets.storage.address import Address

    words = shlex.split(Address("small", "sparse_activations", "patch", "clip-mini", "0000").importing)
    result = CliRunner().invoke(app, words[1:])
    assert "FILE does not exist" in result.output or "unknown" in result.output.lower(), result.output


def test_defaults_are_not_named_and_places_only_where_a_command_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_assets.cli.advice._given", {})
    text = "Run: sae-assets materialize -d x, then sae-assets demo or (sae-assets detect y)."
    assert advice(text) == text  # of a command that takes no home
    monkeypatch.setattr("sae_assets.cli.advice._given", {"home": None, "catalog": None})
    assert advice(text) == text
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path / "a b"))
    monkeypatch.setenv(settings.CATALOG_VARIABLE, "/c.yaml")
    home = f"--home '{tmp_path}/a b'"
    assert advice(text) == (
        f"Run: sae-assets materialize {home} --catalog /c.yaml -d x, then sae-assets demo {home} or "
        "(sae-assets detect y)."
    )
    monkeypatch.setattr("sae_assets.cli.advice._given", {"home": None})  # as `demo`, which takes no catalog
    assert "--catalog" not in advice(text)


def test_every_command_that_code_names_is_one() -> None:
    """And has the options that advice gives it."""
    import typer

    import sae_assets

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    named = set()
    for path in Path(sae_assets.__file__).parent.rglob("*.py"):
        named |= {found["name"] for found in COMMAND.finditer(path.read_text())}
    assert named - {*commands} == set() and {"materialize", "remove", "close-chunk"} <= named
    for name, command in commands.items():
        options = {option for one in getattr(command, "declared", command).params for option in one.opts}
        assert ("--home" in options) == (name != "detect")
        assert ("--catalog" in options) == (name not in ("detect", "demo"))
