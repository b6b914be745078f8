"""Rates and remaining times are of what was seen, and lines in a file are few."""

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sae_assets.cli import progress
from sae_assets.cli.progress import Loop, Runs, duration
from sae_assets.progress import track


def batch(*stages: str, label: str = "") -> Any:
    return SimpleNamespace(stages=stages, label=label or "+".join(stages))


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (42, "42 s"), (100, "2 min"), (3599, "60 min"), (7500, "2 h 5 min"), (86400, "24 h 0 min")],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_loop_tells_its_rate_and_what_is_left() -> None:
    loop = Loop("encode", 1, 41, 10.0)
    assert loop.pace == ""
    loop.heard(2, 10.1)
    assert loop.pace == ""  # too short for a rate
    loop.heard(21, 20.0)
    assert loop.pace == "2 examples/s, 10 s left"
    assert loop.goes_on("encode", 22, 41)
    assert not loop.goes_on("encode", 1, 41) and not loop.goes_on("masks", 22, 41)


def test_runs_tell_what_is_left_from_runs_like_those_to_come() -> None:
    clock = Clock()
    runs = Runs(clock)
    encode, aggregate = batch("sparse_activations"), batch("unit_stats")
    runs.begins(encode, [encode, encode, encode, aggregate])
    assert runs.left == ""  # nothing was seen
    clock.now += 70
    runs.begins(encode, [encode, encode, aggregate])
    assert runs.left == ""  # the first one alone does not say what is usual: it compiles
    clock.now += 60
    runs.begins(encode, [encode, aggregate])
    assert runs.left == "at least 2 min left"
    clock.now += 30
    assert runs.left == "at least 90 s left"
    clock.now += 30
    runs._took[("sparse_activations",)].append(900.0)  # one that had to wait: the others say what is usual
    runs.begins(encode, [])
    clock.now += 50
    assert runs.left == "about 10 s left"
    clock.now += 9.5  # hardly a second is left, of which nothing is said
    assert runs.left == ""
    clock.now += 50  # longer than the ones before: nothing is known any more
    assert runs.left == ""


def test_lines_in_a_file_come_when_a_run_begins_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress._lines(Console(stderr=True, **progress.PLAIN), clock) as on_batch:
        encode = [batch("sparse_activations", label=f"birds dino 000{chunk} encode") for chunk in range(3)]
        on_batch(encode[0], 1, 3, encode[1:])
        for _ in track(range(100), "encode"):
            clock.now += 1
        on_batch(encode[1], 2, 3, encode[2:])
        clock.now += 100
        on_batch(encode[2], 3, 3, [])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[1/3] birds dino 0000 encode"
    assert lines[1] == "    encode: 30 of 100 examples, 1 examples/s, 70 s left"
    assert len(lines) == 6 and lines[4] == "[2/3] birds dino 0001 encode"
    assert lines[5] == "[3/3] birds dino 0002 encode  (about 2 min left)"


def test_loops_count_examples_whatever_an_item_holds() -> None:
    heard: list[tuple[str, int, int]] = []
    with progress.listening(lambda *told: heard.append(told)):
        for _ in track([["a", "b"], ["c"]], "encode", len):
            pass
    assert heard == [("encode", 2, 3), ("encode", 3, 3)]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar(quiet=True) as on_batch:
        on_batch(batch("labels"), 1, 1, [])
    assert capsys.readouterr().err == ""
