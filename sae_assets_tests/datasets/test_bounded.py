"""Files far larger than anybody's are refused before memory is taken for them: sparse ones cost nobody room."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sae_assets.datasets import bounded, open_dataset
from sae_assets.datasets.images import open_image
from sae_assets.datasets.reader import hash_files, hash_parts
from sae_assets.datasets.texts import read_text
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of

TERABYTE = 2**40
MOST_GROWTH = 2**29


def grown(path: Path, start: bytes = b"", size: int = TERABYTE) -> None:
    """A file that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


@pytest.mark.parametrize(
    ("layout", "file", "start", "said"),
    [
        ("table", "metadata.csv", b"text,split,calm", "line 1 has more than 1,048,576 characters"),
        ("table", "metadata.csv", b"text,split,calm\na,cal,1\n", "line 3 has more than 33,554,432 characters"),
        ("spans", "a.jsonl", b'{"text": "a", "split": "cal"}\n', "line 2 has more than 33,554,432 characters"),
    ],
)
def test_tables_with_a_line_of_a_terabyte(tmp_path: Path, layout: str, file: str, start: bytes, said: str) -> None:
    grown(tmp_path / file, start)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError, match=said):
        open_dataset(entry_of(tmp_path, layout, ("calm",), modality="text"))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_GROWTH


def test_a_text_of_a_terabyte(tmp_path: Path) -> None:
    grown(tmp_path / "a.txt")
    (tmp_path / "metadata.csv").write_text("text_path,split,calm\na.txt,cal,1\n")
    reader = open_dataset(entry_of(tmp_path, "table", ("calm",), modality="text"))
    with pytest.raises(DatasetError, match=r"a\.txt has 1,099,511,627,776 bytes, expected 134,217,728 at most"):
        reader.text("a")  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_text_that_is_no_file_is_missing(tmp_path: Path, kind: str) -> None:
    """Nobody waits for what is written into a pipe."""
    (tmp_path / "a.txt").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "metadata.csv").write_text('text_path,split,calm,spans\na.txt,cal,1,"[[0, 1, ""calm""]]"\n')
    reader = open_dataset(entry_of(tmp_path, "table", ("calm",), modality="text"))
    assert "does not exist" in " ".join(reader.missing(reader.records[0]))


@pytest.mark.parametrize("spans", ["", '"[[0, 1, ""calm""]]"'])
def test_a_file_that_is_no_text_holds_up_no_other(tmp_path: Path, spans: str) -> None:
    """It is registered by its bytes, and said to be no text by whoever reads it."""
    (tmp_path / "a.txt").write_bytes(b"\xff\xfebad")
    (tmp_path / "b.txt").write_text("calm")
    (tmp_path / "metadata.csv").write_text(f"text_path,split,calm,spans\na.txt,cal,1,{spans}\nb.txt,test,1,{spans}\n")
    reader = open_dataset(entry_of(tmp_path, "table", ("calm",), modality="text"))
    assert reader.hashes("a")[0] == hash_files([tmp_path / "a.txt"]) != reader.hashes("b")[0]
    with pytest.raises(DatasetError, match=r"a\.txt' is not UTF-8 text"):
        reader.text("a")  # type: ignore[attr-defined]


def test_annotations_that_are_no_json(tmp_path: Path) -> None:
    grown(tmp_path / "instances.json")
    (tmp_path / "metadata.csv").write_text("image_path,split,calm\na.png,cal,1\n")
    reader = open_dataset(entry_of(tmp_path, "coco", ("calm",)))
    with pytest.raises(DatasetError, match="begins with a zero byte"):
        [*reader.missing(reader.records[0])]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a\r\nb\n\nc\rd")
    with path.open("rb") as opened:
        assert [*bounded.lines_of(opened)] == [b"a\r\n", b"b\n", b"\n", b"c\rd"]
    with path.open(newline="") as text:
        assert "".join(bounded.lines_of_text(text)) == "a\r\nb\n\nc\rd"


def test_files_are_hashed_as_their_bytes_are(tmp_path: Path) -> None:
    parts = [b"", b"ab", bytes(3_000_000)]
    paths = [tmp_path / str(number) for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    assert hash_files(paths) == hash_parts(parts) != hash_parts(parts[::-1])


IN_STRIPS = """
import resource, sys
from pathlib import Path
from PIL import Image
from sae_assets.datasets.images import open_image
open_image("d", Path(sys.argv[1]), "small.png")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_image("d", Path(sys.argv[1]), sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_a_large_picture_takes_the_memory_of_two(tmp_path: Path, mode: str) -> None:
    """16 million pixels of 4 bytes, stored and shown; it was six copies, and of 16 bits as many in float64."""
    Image.new(mode, (8, 8), 40_000 if mode == "I;16" else (1, 2, 3, 100)).save(tmp_path / "small.png")
    Image.new(mode, (4096, 4096), 40_000 if mode == "I;16" else (1, 2, 3, 100)).save(tmp_path / f"{mode[0]}.png")
    command = [sys.executable, "-c", IN_STRIPS, str(tmp_path), f"{mode[0]}.png"]
    kilobytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert kilobytes < 3 * 4096 * 4096 * 4 / 1024


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_pipes_in_a_data_set_are_waited_for_by_nobody(tmp_path: Path) -> None:
    """An archive may hold them, and one may take a file's place; a folder is none either."""
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    for name in ("a.png", "b.png"):
        with pytest.raises(DatasetError, match="is no file, but a folder, a pipe or a device"):
            open_image("x", tmp_path, name)
        with pytest.raises(OSError, match="is no file"):
            hash_files([tmp_path / name])
        with pytest.raises(OSError, match="is no file"):
            read_text("x", tmp_path, name)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/a.jsonl").write_text('{"text": "a", "split": "cal", "calm": 1}\n')
    os.mkfifo(tmp_path / "lines/b.jsonl")
    with pytest.raises(DatasetError, match="is no file"):
        open_dataset(entry_of(tmp_path / "lines", "spans", ("calm",), modality="text"))
