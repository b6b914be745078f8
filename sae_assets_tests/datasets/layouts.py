"""Writers of tiny data sets in the published layouts, made on the fly: files exactly as their publishers write them."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sae_assets.catalog import Dataset


def entry_of(root: Path, layout: str, concepts: Sequence[str], **changes: Any) -> Dataset:
    """The catalog's entry of a data set, named after its layout."""
    modality = "text" if layout in ("words", "spans") else "image"
    fields = {"root": root, "layout": layout, "modality": modality, "concepts": concepts, "models": ("m",), **changes}
    return Dataset(**fields).named(layout)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A CSV table with the keys of its first row as columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_image(path: Path, size: tuple[int, int] = (8, 6), colour: Any = (9, 99, 200)) -> Path:
    """A plain image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask: column by column, zeros first."""
    runs, current = [0], 0
    for value in mask.T.ravel():
        if int(value) != current:
            runs.append(0)
            current = int(value)
        runs[-1] += 1
    return runs


COCO_CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 6, "name": "bus", "supercategory": "vehicle"},
    {"id": 62, "name": "chair", "supercategory": "furniture"},
]


def write_coco(root: Path, annotations: Mapping[str, Sequence[Mapping[str, Any]]], name: str = "val2017") -> Path:
    """``annotations/instances_<name>.json`` of images of 8 × 6 pixels; each part gives category_id, segmentation."""
    images, parts = [], []
    for number, (image, instances) in enumerate(annotations.items(), start=100):
        images.append({"id": number, "file_name": image, "width": 8, "height": 6})
        parts += [{"image_id": number, "id": 1000 + len(parts) + i, "iscrowd": 0, **p} for i, p in enumerate(instances)]
    file = root / "annotations" / f"instances_{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": parts, "categories": COCO_CATEGORIES}))
    return file


def square(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    """A polygon around whole pixels."""
    return [[left, top, right, top, right, bottom, left, bottom]]


BRODEN_LABELS = {"car": 5, "wheel": 260, "hair": 7, "wood": 300, "sky": 12}


def write_broden(root: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    """``index.csv``, ``label.csv`` and ``c_<category>.csv``; a line's missing columns are empty."""
    columns = ["image", "split", "ih", "iw", "sh", "sw", "color", "object", "part", "material", "scene", "texture"]
    write_csv(root / "index.csv", [{column: line.get(column, "") for column in columns} for line in lines])
    labels = [
        {"number": n, "name": name, "category": "object(3);part(1)", "frequency": 4, "coverage": 1.5, "syns": ""}
        for name, n in BRODEN_LABELS.items()
    ]
    for category in ("object", "part", "material"):
        write_csv(
            root / f"c_{category}.csv",
            [{"code": i, "number": n, "name": name} for i, (name, n) in enumerate(BRODEN_LABELS.items(), start=1)],
        )
    write_csv(root / "label.csv", labels)
    return root / "index.csv"


def write_segmentation(path: Path, numbers: np.ndarray) -> Path:
    """Label numbers as red + 256 × green."""
    pixels = np.zeros((*numbers.shape, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = numbers % 256, numbers // 256
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_texts(root: Path, texts: Sequence[str], concepts: Mapping[str, Sequence[int]], splits: str = "") -> Path:
    """``metadata.csv`` with ``text_path`` and texts under ``texts/``, newlines and all as given."""
    rows = []
    for place, text in enumerate(texts):
        path = root / "texts" / f"text_{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        split = splits.split()[place] if splits else "cal"
        labels = {concept: values[place] for concept, values in concepts.items()}
        rows.append({"text_path": f"texts/{path.name}", **labels, "split": split})
    return write_csv(root / "metadata.csv", rows)


def write_words(root: Path, rows: Iterable[Sequence[Any]], columns: str, name: str = "word_level_emotion.csv") -> Path:
    """The table of words."""
    return write_csv(root / name, [dict(zip(columns.split(), row, strict=True)) for row in rows])


def write_lines(path: Path, lines: Iterable[Any]) -> Path:
    """JSON lines; a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")
    return path
