"""Folders that the library ``datasets`` saved: classes, lists of classes, 0/1 columns, images, splits."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sae_assets.datasets import ImageReader, TextReader, open_dataset
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of

datasets = pytest.importorskip("datasets")

CONCEPTS = ("cat", "dog")
NAMES = ["bird", "cat", "dog"]


def opened(root: Path, **changes: Any) -> Any:
    reader = open_dataset(entry_of(root, "huggingface", CONCEPTS, **changes))
    assert isinstance(reader, (ImageReader, TextReader))
    return reader


def png(level: int) -> dict[str, Any]:
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (level, 0, 0)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def labels(reader: Any) -> list[tuple[bool, ...]]:
    return [record.labels for record in reader.records]


def saved(root: Path, rows: list[dict[str, Any]], **features: Any) -> Path:
    datasets.Dataset.from_list(rows, features=datasets.Features(features)).save_to_disk(str(root))
    return root


def test_images_with_one_class_each(tmp_path: Path) -> None:
    """Images come from the bytes that are stored; other classes are no concepts."""
    rows = [{"image": png(place), "label": place, "split": "cal"} for place in range(3)]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES), "split": datasets.Value("string")}
    reader = opened(saved(tmp_path / "a", rows, **features))
    assert labels(reader) == [(False, False), (True, False), (False, True)]
    assert [record.example_id for record in reader.records] == ["1", "2", "3"]
    assert [reader.image(example).getpixel((0, 0))[0] for example in ("3", "1", "2")] == [2, 0, 1]
    assert len({reader.content_hash(str(place)) for place in (1, 2, 3)}) == 3
    assert not reader.has_regions


def test_lists_of_classes(tmp_path: Path) -> None:
    """Several classes of one example, in the column that the catalog names."""
    rows = [{"text": "é\n", "tags": [1, 2], "split": "test"}, {"text": "", "tags": [], "split": "cal"}]
    tags = datasets.Sequence(datasets.ClassLabel(names=NAMES))
    root = saved(tmp_path / "a", rows, text=datasets.Value("string"), tags=tags, split=datasets.Value("string"))
    reader = opened(root, modality="text", columns={"labels": "tags"})
    assert labels(reader) == labels(opened(root, modality="text")) == [(True, True), (False, False)]
    assert reader.text("1") == "é\n" and reader.text("2") == ""


def test_columns_of_zero_and_one_and_masks(tmp_path: Path) -> None:
    """A column per concept; a mask for all of them as an image."""
    rows = [{"image": png(1), "cat": 1, "dog": 0, "where": png(255), "split": "cal"}]
    features = {"image": datasets.Image(), "where": datasets.Image(), "split": datasets.Value("string")}
    numbers = {"cat": datasets.Value("int64"), "dog": datasets.Value("bool")}
    reader = opened(saved(tmp_path / "a", rows, **features, **numbers), columns={"mask": "where"})
    assert labels(reader) == [(True, False)]
    assert reader.masks("1")["cat"].getbbox() == (0, 0, 8, 6)


def test_one_part_per_split(tmp_path: Path) -> None:
    """Parts are splits, ``validation`` is cal; ids carry the part's name."""
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "cat": [1, 0], "dog": [0, 1]})
    parts = {"train": part, "validation": part, "test": part.select([0])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "a"))
    reader = opened(tmp_path / "a", modality="text")
    assert [(record.example_id, record.split) for record in reader.records] == [
        ("train-1", "train"),
        ("train-2", "train"),
        ("validation-1", "cal"),
        ("validation-2", "cal"),
        ("test-1", "test"),
    ]
    assert reader.text("validation-2") == "b"


def test_no_split_is_said(tmp_path: Path) -> None:
    """One part without a column: add one, or let the catalog draw."""
    datasets.Dataset.from_dict({"text": ["a"], "cat": [1], "dog": [0]}).save_to_disk(str(tmp_path / "a"))
    with pytest.raises(DatasetError, match="`split` in the catalog"):
        opened(tmp_path / "a", modality="text")
    reader = opened(tmp_path / "a", modality="text", split={"train": 0.5, "cal": 0.25, "test": 0.25})
    assert reader.places_split


def test_images_that_lie_elsewhere_are_not_followed(tmp_path: Path) -> None:
    """A stored path to anywhere on this machine is not opened."""
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    rows = [{"image": str(tmp_path / "secret.png"), "cat": 1, "dog": 0, "split": "cal"}]
    content = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table = content.with_format("arrow")[:]
    stored = datasets.Dataset(table.slice(0), info=content.info)
    root = tmp_path / "a"
    stored.save_to_disk(str(root))
    reader = opened(root)
    cell = datasets.load_from_disk(str(root)).cast_column("image", datasets.Image(decode=False))[0]["image"]
    if cell["bytes"] is None:
        with pytest.raises(DatasetError, match="images that lie elsewhere are not followed"):
            reader.image("1")
    else:  # the library put the bytes into the file when it saved
        assert reader.image("1").size == (8, 6)


def test_folder_that_is_none(tmp_path: Path) -> None:
    """Any other folder is refused by name."""
    with pytest.raises(DatasetError, match="is not a folder that `save_to_disk`"):
        opened(tmp_path)
    with pytest.raises(DatasetError, match=r"root` in the catalog must name a folder that `save_to_disk`"):
        opened(tmp_path / "nowhere")


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the message says what to install."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match=r"pip install 'sae-assets\[huggingface\]'"):
        opened(tmp_path)
