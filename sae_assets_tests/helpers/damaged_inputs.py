"""Damages of annotations, each of which must be refused, be remarked by ``inspect``, or change nothing that is read.

A file of somebody's has no hash: a label that became another label, or a row that is gone, leaves no trace, and is not
drawn here. What is drawn leaves one: another type, a missing or misspelt key or column, a cell that is no value of its
column, a shifted outline beside its box, a cut file.
"""

import copy
import csv
import io
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sae_assets.datasets import open_dataset
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import (
    entry_of,
    run_lengths,
    square,
    write_coco,
    write_csv,
    write_image,
    write_lines,
    write_texts,
)

CONCEPTS = ("calm", "joy")
OTHERS: list[Any] = [None, True, [], {}, "", " ", -7, 1.5, math.nan, math.inf, "x", [[]], {"a": 1}]
CELLS = [
    "",
    " ",
    "2",
    "-1",
    "nan",
    "None",
    "NULL",
    "yes",
    "no",
    "0.5",
    "1e0",
    "01",
    "１",
    "../x",
    "CAL",
    "val",
    "[",
    "{}",
]
FREE = {"text", "note", "id", "word_id", "bbox", "iscrowd", "supercategory"}  # what may hold anything, or be missing


@dataclass(frozen=True)
class World:
    """A data set whose annotations are damaged.

    Attributes:
        file: what is damaged; content: its tree (lists and mappings), or rows of cells.
        write: the content as text; read: what of the data set figures depend on, and what ``inspect`` remarks.
    """

    file: Path
    content: Any
    write: Callable[[Any], str]
    read: Callable[[], tuple[Any, Any]]


def _rows(rows: list[list[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _reading(entry: Any) -> Callable[[], tuple[Any, Any]]:
    def read() -> tuple[Any, Any]:
        reader: Any = open_dataset(entry)
        found = []
        for record in reader.records:
            if said := [*reader.missing(record)]:
                raise DatasetError(said[0])
            if entry.modality == "text":
                shown = reader.text(record.example_id), reader.spans(record.example_id)
            else:
                shown = {name: np.asarray(mask).tobytes() for name, mask in reader.masks(record.example_id).items()}
            found.append((record.split, record.labels, shown))
        return found, (reader.remarks(), dict(getattr(reader, "other_labels", {})))

    return read


def coco(root: Path) -> World:
    concepts = ("car", "person", "vehicle")
    labels = {"left/1.png": (1, 1, 1), "right/2.png": (1, 0, 1), "left/3.png": (0, 1, 0)}
    for path in labels:
        write_image(root / path)
    rows = [{"image_path": path, **dict(zip(concepts, of, strict=True)), "split": "cal"} for path, of in labels.items()]
    write_csv(root / "metadata.csv", rows)
    stripes = np.zeros((6, 8), np.uint8)
    stripes[1:5, 2:7:2] = 1
    parts = {
        "left/1.png": [(3, square(0, 0, 4, 3), [0, 0, 4, 3]), (1, square(5, 1, 8, 6), [5, 1, 3, 5])],
        "right/2.png": [(3, {"counts": run_lengths(stripes), "size": [6, 8]}, [2, 1, 5, 4])],
        "left/3.png": [(1, [*square(1, 1, 3, 3), *square(4, 4, 7, 6)], [1, 1, 6, 5])],
    }
    file = write_coco(root, {
        path: [{"category_id": of, "segmentation": shape, "bbox": box} for of, shape, box in shapes]
        for path, shapes in parts.items()
    })  # fmt: skip
    return World(file, json.loads(file.read_text()), json.dumps, _reading(entry_of(root, "coco", concepts)))


def spans(root: Path) -> World:
    lines = [
        {"text": "so calm 😀 day", "split": "cal", "labels": ["joy"],
         "spans": [{"start": 3, "end": 7, "label": "calm", "text": "calm"}]},
        {"text": "What a joy", "split": "train", "labels": [], "spans": [[7, 10, "joy"]]},
        {"text": "nothing", "split": "test", "labels": ["calm"], "spans": []},
    ]  # fmt: skip
    file = write_lines(root / "a.jsonl", lines)

    def write(content: Any) -> str:
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)

    return World(file, lines, write, _reading(entry_of(file, "spans", CONCEPTS)))


def table(root: Path) -> World:
    rows = [["text", "split", *CONCEPTS], ["so calm", "cal", "1", "0"], ["What, a joy", "train", "0", "1"]]
    entry = entry_of(root / "data.csv", "table", CONCEPTS, modality="text")
    return World(root / "data.csv", [*rows, ["all of it", "test", "1", "1"]], _rows, _reading(entry))


def listed(root: Path) -> World:
    rows = [
        ["text", "split", "labels"],
        ["so calm", "cal", "calm"],
        ["What, a joy", "train", "joy;sea"],
        ["a", "test", "joy"],
    ]
    entry = entry_of(root / "data.csv", "table", CONCEPTS, modality="text")
    return World(root / "data.csv", rows, _rows, _reading(entry))


def words(root: Path) -> World:
    texts = ["so calm day", "What a joy"]
    write_texts(root, texts, {"calm": [1, 0], "joy": [0, 1]}, "cal train")
    rows = [["paragraph_id", "word_id", "word", *CONCEPTS]]
    for paragraph, text in enumerate(texts, start=1):
        for number, word in enumerate(text.split(), start=1):
            rows.append([str(paragraph), str(number), word, *(str(int(word == concept)) for concept in CONCEPTS)])
    return World(root / "words.csv", rows, _rows, _reading(entry_of(root, "words", CONCEPTS)))


def label_maps(root: Path) -> World:
    numbers = np.zeros((6, 8), np.uint8)
    numbers[2:4, 1:5], numbers[0, 0], numbers[5] = 7, 255, 9
    (root / "masks").mkdir(parents=True)
    rows = [["image", "split", "road", "sky"]]
    for name, split, turned in (("a", "cal", numbers), ("b", "train", numbers[::-1])):
        write_image(root / f"{name}.png")
        Image.fromarray(turned.copy()).save(root / f"masks/{name}.png")
        rows.append([f"{name}.png", split, "1", "1"])
    entry = entry_of(root, "table", ("road", "sky"), labels={"road": (7,), "sky": (9,)})
    return World(root / "data.csv", rows, _rows, _reading(entry))


WORLDS: dict[str, Callable[[Path], World]] = {
    "coco": coco, "spans": spans, "table": table, "listed": listed, "words": words, "label maps": label_maps,
}  # fmt: skip


def damages(world: World, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Random damages without end, each as what it is and the damaged file's text."""
    is_table = world.write is _rows
    while True:
        content = copy.deepcopy(world.content)
        text = world.write(content)
        if rng.random() < 0.1 and not is_table:
            end = rng.randrange(text.rindex("}") if world.file.suffix == ".json" else len(text.splitlines()[0]))
            yield f"cut at {end}", text[:end]
            continue
        what = _damage_table(content, rng) if is_table else _damage_tree(content, rng)
        if what:
            yield what, world.write(content)


def _damage_table(rows: list[list[str]], rng: random.Random) -> str:
    """Damage rows in place; empty if what was drawn may be anything."""
    column, line = rng.randrange(len(rows[0])), rng.randrange(1, len(rows))
    name, kind = rows[0][column], rng.choice(["cell", "head", "twice", "fewer", "more"])
    if kind == "cell":
        value = rng.choice(CELLS)
        if name in FREE or (name == "labels" and value.strip() in ("", "[]")):
            return ""
        before, rows[line][column] = rows[line][column], value
        return f"{name}: {before!r} became {value!r}"
    if kind == "head":
        if name in FREE - {"text"}:
            return ""
        rows[0][column] = rng.choice([name.upper(), f"{name} ", f"{name}s", "", f"{name}\u200b", "x"])
        return f"column {name!r} became {rows[0][column]!r}"
    if kind == "twice":
        for row in rows:
            row.append(row[column])
    elif kind == "fewer":
        del rows[line][column]
    else:
        rows[line].insert(column, "")
    return f"{kind}: {name!r}, line {line + 1}"


def _damage_tree(content: Any, rng: random.Random) -> str:
    """Damage a tree in place; empty if what was drawn may be anything."""
    parent, key, path = rng.choice([*_nodes(content)])
    value, kind = parent[key], rng.choice(["other", "delete", "wrap", "spelling", "far"])
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    at = ".".join(map(str, path))
    free = name in FREE - {"id", "supercategory"} or (name == "id" and path[0] == "annotations")
    if kind == "spelling" and isinstance(key, str):
        new = rng.choice([key.upper(), key.title(), f"{key}s", f"{key} "])
        parent[new] = parent.pop(key)
        return f"{at} is called {new!r}"
    if kind == "delete" and isinstance(key, str):
        del parent[key]
        return f"{at} is gone"
    if kind == "far" and name in ("segmentation", "counts") and isinstance(value, (int, float)):
        parent[key] = value + 9
        return f"{at} is {value + 9}"
    if free or kind not in ("other", "wrap"):
        return ""
    new = [value] if kind == "wrap" else rng.choice(OTHERS)
    empty = name in ("labels", "spans") and new in (None, [], "", " ")
    number = isinstance(new, float) and math.isfinite(new) and name == "segmentation"
    if empty or number or (name == "supercategory" and isinstance(new, str) and new):
        return ""
    parent[key] = new
    return f"{at} is {new!r}"


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """Parent, key and path of every node."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield tree, key, (*path, key)
        yield from _nodes(value, (*path, key))


def try_damages(world: World, seed: int, n: int) -> tuple[Counter[str], list[str]]:
    """How many damages were refused, remarked or changed nothing, and those that gave other figures without a word."""
    world.file.parent.mkdir(parents=True, exist_ok=True)
    world.file.write_text(world.write(world.content), encoding="utf-8")
    truth, said = world.read()
    counts: Counter[str] = Counter()
    silent = []
    for _, (what, text) in zip(range(n), damages(world, random.Random(seed)), strict=False):
        world.file.write_text(text, encoding="utf-8")
        try:
            found, remarks = world.read()
        except DatasetError:
            counts["refused"] += 1
            continue
        outcome = "same" if found == truth else "remarked" if remarks != said else "silent"
        counts[outcome] += 1
        silent += [what] if outcome == "silent" else []
    return counts, silent
