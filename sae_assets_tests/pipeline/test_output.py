"""What a run prints is in its log and on the output of the process that executes it, while the run goes on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sae_assets.orchestration.instance.output import copied_along

SCRIPT = """
import subprocess, sys, time
from dagster._core.execution import compute_logs
from sae_assets.orchestration.instance.output import copied_along
from sae_assets.orchestration.internals import copy_output_by
with copy_output_by(copied_along), compute_logs.mirror_stream_to_file(sys.stdout, sys.argv[1]):
    print("of Python", flush=True)
    subprocess.run(["echo", "of a child"], check=True)
    sys.stdin.readline()
    print("x" * 3_000_000)
print("afterwards")
"""


def test_what_is_printed_comes_while_the_run_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdin is not None and run.stdout is not None
    assert [run.stdout.readline() for _ in range(2)] == ["of Python\n", "of a child\n"]  # it waits for a word
    rest, _ = run.communicate("go on\n")
    assert rest == "x" * 3_000_000 + "\nafterwards\n" and not run.returncode
    assert log.read_text() == "of Python\nof a child\n" + "x" * 3_000_000 + "\n"


def test_no_process_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refused)
    log, seen = tmp_path / "log", tmp_path / "seen"
    log.write_text("of an earlier attempt\n")
    with seen.open("w") as stream, log.open("a") as file, copied_along(str(log), stream):
        print("now", file=file, flush=True)
        deadline = time.monotonic() + 10
        while not seen.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen.read_text() == "now\n"
        print("then", file=file, flush=True)
    assert seen.read_text() == "now\nthen\n"


def test_an_output_that_nobody_reads_any_more_ends_no_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, log.open("a") as file, copied_along(str(log), stream):
        print("now", file=file, flush=True)
