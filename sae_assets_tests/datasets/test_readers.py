"""What holds for every reader: all layouts have one, opening is cheap, splits can be drawn, and imports stay light."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import layouts
from sae_assets.datasets import Reader, open_dataset
from sae_assets.datasets.records import draw_split
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import (
    entry_of,
    square,
    write_broden,
    write_coco,
    write_csv,
    write_image,
    write_lines,
    write_words,
)

NAMES = [f"e{number:02d}" for number in range(24)]
DRAWN = {"train": 0.5, "cal": 0.25, "test": 0.25, "seed": 1}


def _images(root: Path, concept: str) -> None:
    for name in NAMES:
        write_image(root / f"images/{name}.png")
    write_csv(root / "metadata.csv", [{"image_path": f"images/{name}.png", concept: 1} for name in NAMES])


def _clevr(root: Path) -> tuple[str, dict[str, Any]]:
    _images(root, "car")
    return "car", {}


def _coco(root: Path) -> tuple[str, dict[str, Any]]:
    _images(root, "car")
    part = {"category_id": 3, "segmentation": square(0, 0, 2, 2)}
    write_coco(root, {f"{name}.png": [part] for name in NAMES})
    return "car", {}


def _broden(root: Path) -> tuple[str, dict[str, Any]]:
    _images(root, "object::car")
    write_broden(root, [{"image": f"{name}.png", "object": "5"} for name in NAMES])
    return "object::car", {}


def _words(root: Path) -> tuple[str, dict[str, Any]]:
    for name in NAMES:
        (root / f"{name}.txt").write_text("a b")
    write_csv(root / "metadata.csv", [{"text_path": f"{name}.txt", "joy": 1} for name in NAMES])
    rows = [[place, word, 1] for place in range(1, len(NAMES) + 1) for word in "ab"]
    write_words(root, rows, "paragraph_id word joy")
    return "joy", {}


def _spans(root: Path) -> tuple[str, dict[str, Any]]:
    write_lines(root / "a.jsonl", [{"text": "ab", "spans": [[0, 1, "joy"]], "id": name} for name in NAMES])
    return "joy", {"columns": {"id": "id"}}


def _table(root: Path) -> tuple[str, dict[str, Any]]:
    _images(root, "car")
    return "car", {}


def _huggingface(root: Path) -> tuple[str, dict[str, Any]]:
    datasets = pytest.importorskip("datasets")
    rows = {"text": ["ab"] * len(NAMES), "id": NAMES, "joy": [1] * len(NAMES)}
    datasets.Dataset.from_dict(rows).save_to_disk(str(root))
    return "joy", {"columns": {"id": "id"}, "modality": "text"}


WRITERS: dict[str, Callable[[Path], tuple[str, dict[str, Any]]]] = {
    "clevr": _clevr, "coco": _coco, "broden": _broden, "words": _words, "spans": _spans, "table": _table,
    "huggingface": _huggingface,
}  # fmt: skip


def entry(root: Path, layout: str, **changes: Any) -> Dataset:
    root.mkdir()
    concept, more = WRITERS[layout](root)
    return entry_of(root, layout, (concept,), **{**more, **changes})


def test_every_layout_is_tested_here() -> None:
    """What the catalog allows is what has a writer."""
    assert set(layouts()) == set(WRITERS)


@pytest.mark.parametrize("layout", WRITERS)
def test_splits_are_drawn_by_id_in_every_layout(tmp_path: Path, layout: str) -> None:
    """Without a column the catalog draws; without either, the message names both ways."""
    given = entry(tmp_path / "data", layout, split=DRAWN)
    reader = open_dataset(given)
    assert reader.places_split
    assert given.split is not None
    assert {record.example_id: record.split for record in reader.records} == {
        name: draw_split(given.split, name) for name in NAMES
    }
    with pytest.raises(DatasetError, match=r"let `split` in the catalog draw"):
        open_dataset(given.model_copy(update={"split": None}))


def _described(reader: Reader, example: str) -> Any:
    masks, spans = getattr(reader, "masks", None), getattr(reader, "spans", None)
    regions = {concept: mask.tobytes() for concept, mask in masks(example).items()} if masks else spans(example)
    return *reader.hashes(example), regions


@pytest.mark.parametrize("layout", WRITERS)
def test_two_readers_say_the_same(tmp_path: Path, layout: str) -> None:
    """Hashes and regions do not depend on the order of asking, or on who asks."""
    given = entry(tmp_path / "data", layout, split=DRAWN)
    first, second = open_dataset(given), open_dataset(given)
    forwards = {example: _described(first, example) for example in NAMES[:4]}
    backwards = {example: _described(second, example) for example in reversed(NAMES[:4])}
    assert forwards == backwards
    assert all(len(each[0]) == 64 for each in forwards.values())


@pytest.mark.parametrize("layout", ["clevr", "coco", "broden", "table"])
def test_opening_reads_no_image(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are opened when they are asked for."""
    given = entry(tmp_path / "data", layout, split=DRAWN)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", refuse)
    reader = open_dataset(given)
    assert len(reader.records) == len(NAMES)
    with pytest.raises(AssertionError, match="an image was opened"):
        reader.image(NAMES[0])  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", ["clevr", "coco", "broden", "table"])
def test_a_size_is_told_by_the_header(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pixel is decoded for it (of PNG, they may come before what says how it is turned); a file that is gone is
    named with what to do."""
    given = entry(tmp_path / "data", layout, split=DRAWN)
    reader: Any = open_dataset(given)
    path = reader.root / reader.record(NAMES[0]).path
    Image.new("RGB", (5, 3)).save(path, "JPEG")

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert reader.size(NAMES[0]) == (5, 3)
    (reader.root / reader.record(NAMES[1]).path).unlink()
    with pytest.raises(DatasetError, match=r"does not exist in .*Restore the file"):
        reader.size(NAMES[1])


@pytest.mark.slow
def test_modules_load_nothing_heavy() -> None:
    """Every reader's module imports without torch, Dagster, numpy, Pillow and what the layouts' libraries bring."""
    code = (
        "import json, pkgutil, sys, sae_assets.datasets as p\n"
        "for found in pkgutil.iter_modules(p.__path__): __import__(f'{p.__name__}.{found.name}')\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stdout))
    assert "sae_assets" in loaded
    assert not loaded & {"torch", "dagster", "numpy", "PIL", "pyarrow", "pycocotools", "datasets", "pandas"}
