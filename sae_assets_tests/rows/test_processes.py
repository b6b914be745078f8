"""Images that other processes decode: the bits and the errors of threads, and nothing that stays when they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sae_assets.catalog import Dataset
from sae_assets.datasets import ImageReader, open_dataset
from sae_assets.datasets.images import open_image
from sae_assets.errors import CatalogError, DatasetError, DecodingError
from sae_assets.rows import processes
from sae_assets.rows.images import input_of, open_geometry, open_image_rows
from sae_assets.rows.loaded import KEPT
from sae_assets.rows.processes import AT_ONCE, Processes, number_of_processes
from sae_assets.rows.threads import prepared
from sae_assets.settings import PIXELS_VARIABLE, PROCESSES_VARIABLE
from sae_assets_tests.rows.tiny_model import catalog_model, local

pytestmark = pytest.mark.slow

N = 3 * AT_ONCE + 5
# Work for processes whose parent ends by a signal; it prints their ids once they are at work.
PROGRAM = """
import os, sys, time
from sae_assets.rows.processes import Processes

def work(item):
    time.sleep(item)
    return os.getpid()

if __name__ == "__main__":
    workers = Processes(work, 2)
    assert workers.wait()
    found = workers.prepared([0] * 64 + [0.2] * 640, 32, apart=True)
    print(*{next(found) for _ in range(32)}, flush=True)
    for _ in found:
        pass
"""


def process_of(_item: object) -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JPEG files of several sizes, one of them of one colour, and the table that lists them."""
    folder, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    lines = ["image_path,split,thing"]
    for number in range(N):
        pixels = noise.integers(0, 256, (40 + number, 60 - number, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels) if number else Image.new("RGB", (50, 40), "red")
        picture.save(folder / f"{number:02d}.jpg")
        lines.append(f"{number:02d}.jpg,train,{number % 2}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def reader(images: Path) -> ImageReader:
    entry = Dataset(root=images / "table.csv", layout="table", modality="image", concepts=("thing",), models=("m",))
    reader = open_dataset(entry.named("made"))
    assert isinstance(reader, ImageReader)
    return reader


@pytest.fixture(scope="module")
def made(tiny: Path) -> Iterator[Processes[Callable[[], Image.Image], tuple[np.ndarray, bool]]]:
    """Two processes that make the tiny model's inputs."""
    workers = Processes(partial(input_of, open_geometry(local(tiny))), 2)
    assert workers.wait()
    yield workers


def test_rows_are_the_bits_of_threads(tiny: Path, reader: ImageReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, through the whole model, and what shows nothing is said of the same images."""
    model, found = catalog_model(tiny, Path("no-sae.pt")), []
    ids = [record.example_id for record in reader.records]
    for chosen in ("0", "2"):
        monkeypatch.setenv(PROCESSES_VARIABLE, chosen)
        KEPT.clear()
        source = open_image_rows(reader, model, ("patch",), "cpu", "float32", None)
        assert source._inputs.wait() is (chosen == "2")
        found.append([*source.embed(ids)])
    KEPT.clear()
    assert [each.blank for each in found[0]] == [True] + [False] * (N - 1)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.rows["patch"], other.rows["patch"])
        assert one.blank == other.blank


def test_inputs_of_the_other_library_are_the_bits_of_threads(
    transformer: Callable[[str], Path], reader: ImageReader
) -> None:
    geometry = open_geometry(local(transformer("vit")).model_copy(update={"library": "transformers"}))
    workers = Processes(partial(input_of, geometry), 1)
    assert workers.wait()
    deferred = [reader.deferred_image(record.example_id) for record in reader.records]
    ours = [*prepared(partial(input_of, geometry), deferred, 4)]
    for (one, _), (other, _) in zip(ours, workers.prepared(deferred, 16, apart=True), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_images_are_decoded_elsewhere_only_where_they_can_be_sent() -> None:
    workers = Processes(process_of, 2)
    assert workers.wait()
    assert os.getpid() not in {*workers.prepared(range(N), 16, apart=True)}
    assert {*workers.prepared(range(N), 16, apart=False)} == {os.getpid()}
    assert {*Processes(process_of, 0).prepared(range(N), 16, apart=True)} == {os.getpid()}


def test_a_damaged_image_is_named(
    images: Path, tmp_path: Path, made: Processes[Callable[[], Image.Image], tuple[np.ndarray, bool]]
) -> None:
    """As by threads: the same words; what was made before it has come out."""
    whole = (images / "05.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    said = []
    deferred = [partial(open_image, "made", images, f"{number:02d}.jpg") for number in range(AT_ONCE)]
    deferred.append(partial(open_image, "made", tmp_path, "cut.jpg"))
    for found in (made.prepared(deferred, 16, apart=True), made.prepared(deferred, 16, apart=False)):
        assert len([next(found) for _ in range(AT_ONCE)]) == AT_ONCE
        with pytest.raises(DatasetError, match=r"'made': 'cut\.jpg' is not a readable image") as error:
            next(found)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_the_limit_of_pixels_holds_there(tiny: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIXELS_VARIABLE, "100")
    workers = Processes(partial(input_of, open_geometry(local(tiny))), 1)
    assert workers.wait()
    with pytest.raises(DatasetError, match=PIXELS_VARIABLE):
        next(workers.prepared([partial(open_image, "made", images, "05.jpg")], 16, apart=True))


def test_a_process_that_is_killed_is_said_and_threads_go_on() -> None:
    workers = Processes(process_of, 2)
    assert workers.wait()
    found = workers.prepared([0] * 4096, 16, apart=True)
    os.kill(next(found), signal.SIGKILL)
    with pytest.raises(DecodingError, match=PROCESSES_VARIABLE):
        list(found)
    assert {*workers.prepared(range(N), 16, apart=True)} == {os.getpid()}


def test_processes_that_cannot_start_leave_the_work_to_threads(capsys: pytest.CaptureFixture[str]) -> None:
    started = Processes(process_of, 1)
    assert started.wait()
    without = Processes.__new__(Processes)
    without.__init__(process_of, 0)  # type: ignore[misc]
    broken = processes._pool(process_of, 1)
    broken.shutdown()
    without._start(broken, 1)
    assert "decoded by threads" in capsys.readouterr().err
    assert {*without.prepared(range(N), 16, apart=True)} == {os.getpid()}


def test_processes_end_with_what_they_were_made_for() -> None:
    workers = Processes(process_of, 1)
    assert workers.wait()
    process = next(workers.prepared([0], 16, apart=True))
    del workers
    _expect_gone([process])


def test_a_program_that_keeps_them_ends_in_silence(tmp_path: Path) -> None:
    """As a command does that has a model loaded until it ends."""
    kept = """
    from sae_assets.rows.loaded import KEPT
    KEPT.get("vision", "key", "cpu", lambda: workers)
    print("done by", *workers.prepared([0], 8, apart=True), file=sys.stderr, flush=True)
    del workers
"""
    (tmp_path / "program.py").write_text(PROGRAM.partition("    found")[0] + kept)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    words = done.stderr.split()
    assert words[:2] == ["done", "by"] and len(words) == 3, done.stderr
    _expect_gone([int(words[2])])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    """Killed, ended, or interrupted as by Ctrl-C, which reaches the whole group."""
    (tmp_path / "program.py").write_text(PROGRAM)
    started = subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert started.stdout is not None and started.stderr is not None
    ids = [int(number) for number in started.stdout.readline().split()]
    assert ids, started.stderr.read()
    if how == signal.SIGINT:
        os.killpg(started.pid, how)
    else:
        started.send_signal(how)
    _out, said = started.communicate(timeout=60)
    _expect_gone(ids)
    if how == signal.SIGINT:
        assert said.count("KeyboardInterrupt") == 1, said  # of the parent alone


def _expect_gone(ids: list[int]) -> None:
    end = time.monotonic() + 30
    while [number for number in ids if Path(f"/proc/{number}").exists()]:
        assert time.monotonic() < end, ids
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("device", "cores", "chosen", "expected"),
    [
        ("cuda", 16, "", 16),
        ("cuda:1", 4, "auto", 4),
        ("cuda", 3, "", 0),
        ("cpu", 16, "", 0),
        ("cpu", 2, "3", 3),
        ("cuda", 16, "0", 0),
    ],
)
def test_there_are_processes_where_they_pay(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, chosen: str, expected: int
) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, chosen)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(processes, "_loads_quietly", lambda: True)
    assert number_of_processes(device) == expected
    monkeypatch.setattr(processes, "_loads_quietly", lambda: False)
    assert number_of_processes(device) == (expected if chosen.isdigit() else 0)


def test_a_script_that_would_be_carried_out_again_gets_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so one with a guard, as pip installs `sae-assets`; nor a module; nor what was typed in."""
    script, main = tmp_path / "script.py", sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", str(script), raising=False)
    assert not processes._loads_quietly()
    script.write_text("encode()")
    assert not processes._loads_quietly()
    script.write_text("if __name__ == '__main__':\n    encode()")
    assert processes._loads_quietly()
    monkeypatch.delattr(main, "__file__")
    assert processes._loads_quietly()
    monkeypatch.setattr(main, "__spec__", os.__spec__)
    monkeypatch.setattr(main, "__file__", "nowhere", raising=False)
    assert processes._loads_quietly()


@pytest.mark.parametrize("chosen", ["-1", "many", "1000", "1.5"])
def test_a_number_of_processes_is_a_number(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, chosen)
    with pytest.raises(CatalogError, match=PROCESSES_VARIABLE):
        number_of_processes("cpu")
