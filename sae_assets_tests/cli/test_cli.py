"""The command line's manners: help, version, JSON errors, registering, and how the UI is started."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import sae_assets
from sae_assets.cli import app
from sae_assets.cli.ui import be_the_only_one
from sae_assets_tests.pipeline.small import make_dataset, write_catalog

ROOT = Path(sae_assets.__file__).parent.parent


def test_help_names_every_command_and_version_is_printed():
    runner = CliRunner()
    text = runner.invoke(app, ["--help"]).output
    for command in ("demo", "materialize", "register", "status", "show", "verify", "ui"):
        assert command in text
    # What makes things comes first, then what shows what was found.
    places = [text.index(f" {each} ") for each in ("materialize", "What was found", "report", "Take it elsewhere")]
    assert places == sorted(places)
    assert runner.invoke(app, ["--version"]).output.strip() == f"sae-assets {sae_assets.__version__}"


def test_a_former_name_of_a_command_does_the_same_and_is_not_listed():
    runner = CliRunner()
    former, today = (runner.invoke(app, [name, "moods_mini", "--json"]) for name in ("check", "inspect"))
    assert former.exit_code == today.exit_code == 0
    assert former.stdout == today.stdout and "deprecated" in former.stderr and not today.stderr
    assert " check " not in runner.invoke(app, ["--help"]).output


def test_errors_are_json_when_asked_and_tracebacks_only_with_debug(tmp_path):
    runner = CliRunner()
    result = runner.invoke(app, ["status", "-d", "clevr", "--home", str(tmp_path), "--json"])
    assert result.exit_code == 2
    assert "clevr_mini" in json.loads(result.stderr)["error"]
    debug = runner.invoke(app, ["status", "-d", "clevr", "--home", str(tmp_path), "--debug"])
    assert debug.exception is not None and not isinstance(debug.exception, SystemExit)


def test_whoever_reads_no_further_gets_no_error(tmp_path):
    """As behind ``| head``: nothing on stderr, and no success either, for not all was said."""
    code = """
from sae_assets.cli import app, run
from sae_assets.cli.common import echo, errors_without_traceback

@app.command()
def talk() -> None:
    with errors_without_traceback(as_json=False, debug=False):
        echo("a sentence")

run()
"""
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-c", code, "talk"]
        done = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_register_is_idempotent_and_computes_nothing(tmp_path):
    catalog = write_catalog(tmp_path / "catalog.yaml", make_dataset(tmp_path / "data", 9), chunk_size=4)
    places = ["--home", str(tmp_path), "--catalog", str(catalog), "--json"]
    for _ in range(2):  # files that were written this moment wait, and so does a chunk that is not full
        waiting = json.loads(CliRunner().invoke(app, ["register", "-d", "small", *places]).stdout)["small"]
        assert waiting["keys"] == [] and waiting["unsettled"] + waiting["tail"] == 9
    for _ in range(2):
        result = CliRunner().invoke(app, ["close-chunk", "small", *places])
        assert json.loads(result.stdout) == {
            "small": {"keys": ["0000", "0001", "0002"], "unsettled": 0, "tail": 0, "missing": ""}
        }
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_second_ui_on_a_home_is_refused(tmp_path):
    """Two daemons would make things twice; the message says where the other one is."""
    be_the_only_one(tmp_path, "http://127.0.0.1:3000")
    result = CliRunner().invoke(app, ["ui", "--home", str(tmp_path), "--port", "3999"])
    assert result.exit_code == 1
    assert f"runs on {tmp_path} already (http://127.0.0.1:3000, process {os.getpid()})" in result.stderr


def test_new_examples_become_new_chunks_and_old_ones_stay(tmp_path):
    """A chunk is never extended, also when it is not full."""
    root = make_dataset(tmp_path / "data", 5)
    catalog = write_catalog(tmp_path / "catalog.yaml", root, chunk_size=4)
    arguments = ["close-chunk", "small", "--home", str(tmp_path), "--catalog", str(catalog), "--json"]
    assert json.loads(CliRunner().invoke(app, arguments).stdout)["small"]["keys"] == ["0000", "0001"]
    before = {path.name: path.read_text() for path in (tmp_path / "store").rglob("chunks/*.json")}
    make_dataset(root, 7)
    assert json.loads(CliRunner().invoke(app, arguments).stdout)["small"]["keys"] == ["0000", "0001", "0002"]
    after = {path.name: path.read_text() for path in (tmp_path / "store").rglob("chunks/*.json")}
    assert {name: after[name] for name in before} == before
    assert len(json.loads(after["0002.json"])["example_ids"]) == 2


def test_ui_listens_on_loopback_with_this_homes_history(tmp_path, monkeypatch):
    """The process becomes ``dagster dev`` on 127.0.0.1, with the location name of workspace.yaml."""
    started: dict[str, object] = {}

    def execve(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        started.update(arguments=arguments, environment=environment)

    monkeypatch.setattr(os, "execve", execve)
    result = CliRunner().invoke(app, ["ui", "--home", str(tmp_path), "--port", "3999"])
    assert result.exit_code == 0, result.output
    arguments, environment = started["arguments"], started["environment"]
    assert arguments[arguments.index("-h") + 1] == "127.0.0.1" and arguments[arguments.index("-p") + 1] == "3999"
    assert environment["DAGSTER_HOME"] == str(tmp_path / "dagster")
    assert environment["SAE_ASSETS_HOME"] == str(tmp_path)
    used = yaml.safe_load(Path(arguments[arguments.index("-w") + 1]).read_text())
    assert used == yaml.safe_load((ROOT / "workspace.yaml").read_text())
    config = yaml.safe_load((tmp_path / "dagster" / "dagster.yaml").read_text())
    assert config["telemetry"] == {"enabled": False}


@pytest.mark.long
@pytest.mark.slow
def test_dagsters_own_tools_load_the_workspace(tmp_path):
    """``dagster definitions validate`` in the clone, as ``dagster dev`` would load it."""
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "SAE_ASSETS_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sae_assets" in done.stderr + done.stdout
