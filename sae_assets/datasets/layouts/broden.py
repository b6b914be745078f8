"""The Broden layout: ``metadata.csv`` as in CLEVR, and Broden's own ``index.csv`` with its segmentations.

A line of ``index.csv`` names, per category (object, part, material, …), PNG files beside the image, separated by
semicolons, whose pixels hold label numbers as red + 256 × green, or plain numbers that hold for the whole image.
Numbers are named by ``label.csv`` and stand for the same label in every category: where a concept's own category does
not show its label in an image, the other categories of the data set's concepts are looked at.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.images import as_mask, image_size, open_image
from sae_assets.datasets.masks import read_mask
from sae_assets.datasets.paths import Parts, best_fits
from sae_assets.datasets.reader import ImageReader, hash_files, hash_parts
from sae_assets.datasets.records import Record, read_metadata
from sae_assets.datasets.tables import (
    Version,
    missing_file,
    nearest,
    path_problems,
    raise_problems,
    read_csv,
    version_of,
)
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = "images"  # the folder
SIZES = ("sh", "sw")  # height and width of the segmentations


class BrodenReader(ImageReader):
    """Images of ``metadata.csv`` with the segmentations that Broden's index names for them."""

    def __init__(self, entry: Dataset, *, lenient: bool = False):
        super().__init__(entry, read_metadata(entry, "image_path", lenient=lenient))
        self._index = _find_index(self.name, self.root, entry.annotations)
        self._images = self._index.parent / IMAGES
        if not self._images.is_relative_to(self.root):
            self.folders = [self.root, self._index.parent]
        self._numbers = _label_numbers(self.name, self._index.parent, self.concepts)
        self._categories = tuple(dict.fromkeys(concept.split("::")[0] for concept in self.concepts))
        self._lines = self._match(_read_index(self.name, version_of(self._index), self._categories))

    def missing(self, record: Record) -> Iterable[str]:
        yield from missing_file("image_path", record.path, self.root)
        line = self._lines[record.example_id]
        for category in self._categories:
            for part in _files(line[category]):
                yield from (f"{self._index.name}, {problem}" for problem in missing_file(category, part, self._images))

    def content_hash(self, example_id: str) -> str:
        return hash_files([self.root / self.record(example_id).path])

    def region_hashes(self, example_id: str) -> dict[str, str]:
        line = self._lines[self.record(example_id).example_id]
        true = self.true_concepts(example_id)
        size = [line[part] or "" for part in SIZES]
        try:
            masks = self.masks(example_id) if true else {}
        except DatasetError:  # a damaged segmentation holds up its own chunk, where it is read, and not registration
            return {concept: self._unread(line[concept.split("::")[0]]) for concept in true}
        # The mask itself and not the files it is read from: which categories are looked at depends on all concepts.
        return {
            concept: hash_parts([repr(size).encode(), masks[concept].tobytes() if concept in masks else b""])
            for concept in true
        }

    def _unread(self, cell: str) -> str:
        """Hash of the segmentations of one category as they are, whatever other concepts there are."""
        return hash_parts([b"unreadable", hash_files([self._images / part for part in _files(cell)]).encode()])

    def image(self, example_id: str) -> "Image":
        return open_image(self.name, self.root, self.record(example_id).path, self.white)

    def size(self, example_id: str) -> tuple[int, int]:
        return image_size(self.name, self.root, self.record(example_id).path)

    def masks(self, example_id: str) -> "Mapping[str, Image]":
        from PIL import Image as Images

        record = self.record(example_id)
        if not any(record.labels):
            return {}
        size = self.size(example_id)
        layers = {category: self._layers(example_id, category) for category in self._categories}
        masks: dict[str, Image] = {}
        for concept, true in zip(self.concepts, record.labels, strict=True):
            own = concept.split("::")[0]
            for category in [own, *(other for other in self._categories if other != own)] if true else []:
                inside = self._inside(layers[category], self._numbers[concept])
                if inside is not None:
                    masks[concept] = as_mask(inside).resize(size, Images.Resampling.NEAREST)
                    break
        return masks

    @staticmethod
    def _inside(layers: list[Any], number: int) -> Any:
        """Return pixels where any layer shows the number; None if no layer does."""
        import numpy as np

        matches = [layer == number for layer in layers if (layer == number).any()]
        # A label of the whole image is a layer of one pixel, and so covers every pixel.
        whole = [layer for layer in matches if layer.size == 1]
        return whole[0] if whole else np.logical_or.reduce(matches) if matches else None

    def _layers(self, example_id: str, category: str) -> list[Any]:
        """Return label numbers of one category: an array per segmentation, one of a single pixel per whole-image
        label."""
        import numpy as np

        line = self._lines[example_id]
        sizes = [int(line[part]) if (line[part] or "").isdecimal() else None for part in SIZES]
        layers: list[Any] = [np.array([[number]]) for number in _numbers(line[category])]
        for part in _files(line[category]):
            layer = self._label_numbers(part)
            if None not in sizes and layer.shape != tuple(sizes):
                raise DatasetError(
                    f"Data set {self.name!r}: segmentation {part!r} is {layer.shape[1]}x{layer.shape[0]} pixels, "
                    f"index.csv says {sizes[1]}x{sizes[0]}."
                )
            layers.append(layer)
        if len({layer.shape for layer in layers if layer.size > 1}) > 1:
            raise DatasetError(f"Data set {self.name!r}: segmentations of {example_id!r} differ in size.")
        return layers

    def _label_numbers(self, part: str) -> Any:
        """Return label number of every pixel of a segmentation: red + 256 × green."""
        import numpy as np

        image = read_mask(self.name, self._images / part, None, repr(part)).image
        if image is None:
            raise DatasetError(f"Data set {self.name!r}: segmentation {part!r} has deeper pixels than 8 bits of RGB.")
        pixels = np.asarray(image.convert("RGB")).astype(np.int32)
        return pixels[..., 0] + 256 * pixels[..., 1]

    def _match(self, index: "Mapping[str, tuple[int, dict[str, str]]]") -> dict[str, dict[str, str]]:
        """Find each example's line in the index by the end of its path."""
        by_name: dict[str, list[Parts]] = {}
        for image in index:
            parts = PurePosixPath(image).parts
            by_name.setdefault(parts[-1], []).append(parts)
        matched: dict[str, dict[str, str]] = {}
        problems: list[str] = []
        for record in self.records:
            same_name = by_name.get(PurePosixPath(record.path).name, [])
            fits = _fits(record.path, same_name)
            if len(fits) != 1:
                others = ", ".join(repr("/".join(parts)) for parts in (fits or same_name)[:3])
                rest = f"it may be any of {others}" if fits else f"{others} lies in another folder"
                problems.append(
                    f"image {record.path!r} has no line of its own in the index" + (f"; {rest}" if others else "")
                )
                continue
            number, line = index["/".join(fits[0])]
            problems += [f"line {number}: {problem}" for problem in self._line_problems(line)]
            matched[record.example_id] = line
        raise_problems(self.name, self._index, problems)
        return matched

    def _line_problems(self, line: dict[str, str]) -> list[str]:
        return [
            problem
            for category in self._categories
            for part in _files(line[category])
            for problem in path_problems(category, part)
        ]


def _fits(path: str, others: Sequence[Parts]) -> list[Parts]:
    """Return lines of the index that may be an image's. The folder ``images`` says nothing, for every data set has
    it."""
    parts = PurePosixPath(path).parts
    below = parts[1:] if parts[0] == IMAGES and len(parts) > 1 else parts
    return best_fits(parts, others) or best_fits(below, others)


def _entries(cell: str | None) -> list[str]:
    return [part for part in (cell or "").split(";") if part]


def _files(cell: str | None) -> list[str]:
    return [part for part in _entries(cell) if not part.isdecimal()]


def _numbers(cell: str | None) -> list[int]:
    return [int(part) for part in _entries(cell) if part.isdecimal()]


def _find_index(name: str, root: Path, annotations: Path | None) -> Path:
    if annotations is not None:
        indexes = [annotations / "index.csv" if annotations.is_dir() else annotations]
    else:
        indexes = [file for pattern in ("index.csv", "*/index.csv") for file in sorted(root.glob(pattern))][:2]
    if len(indexes) != 1 or not indexes[0].is_file():
        names = ", ".join(map(str, indexes)) or f"no index.csv in {root}"
        raise DatasetError(
            f"Data set {name!r}: found {names}, expected one index.csv of Broden's. Name it, or the folder that it "
            "lies in, by `annotations` in the catalog."
        )
    return indexes[0]


@lru_cache(maxsize=4)
def _read_index(name: str, version: Version, categories: tuple[str, ...]) -> dict[str, tuple[int, dict[str, str]]]:
    """Return lines of the index with their numbers, by the image's path below ``images``.

    Raises:
        DatasetError: columns are missing, or an image has several lines, of which one would be taken.
    """
    needed = ["image", *SIZES, *categories]
    table = Path(version[0])
    _, rows = read_csv(name, table, needed)
    lines: dict[str, tuple[int, dict[str, str]]] = {}
    problems: list[str] = []
    for number, row in rows:
        image = "/".join(PurePosixPath(row["image"]).parts)
        content = {column: row[column] for column in needed}
        if not image:
            problems.append(f"line {number}: column 'image': found {row['image']!r}, expected a path")
        elif lines.setdefault(image, (number, content))[1] != content:
            problems.append(f"lines {lines[image][0]}, {number}: image {image!r} has two lines that differ")
    raise_problems(name, table, problems)
    return lines


def _label_numbers(name: str, folder: Path, concepts: tuple[str, ...]) -> dict[str, int]:
    """Return the label number of each concept.

    Raises:
        DatasetError: concepts that are not ``category::name``, or whose name no table of labels has.
    """
    categories = sorted({concept.split("::")[0] for concept in concepts})
    if (folder / "label.csv").is_file():
        tables = dict.fromkeys(categories, _labels(name, folder / "label.csv"))
    else:  # the tables of the categories hold the same numbers
        tables = {
            category: _labels(name, folder / f"c_{category}.csv")
            for category in categories
            if re.fullmatch(r"\w+", category)
        }
    numbers: dict[str, int] = {}
    problems: list[str] = []
    for concept in concepts:
        category, _, label = concept.partition("::")
        labels = tables.get(category, {})
        line, number = labels.get(label, (0, ""))
        if not label or category not in tables:
            problems.append(f"concept {concept!r}: expected category::name, for example object::car")
        elif label not in labels:
            problems.append(f"concept {concept!r}: no label is named {label!r}{nearest(label, list(labels))}")
        elif not (number or "").isdecimal():
            problems.append(f"line {line}: column 'number': found {number!r}, expected a label number")
        else:
            numbers[concept] = int(number)
    raise_problems(name, folder / "label.csv", problems)
    return numbers


def _labels(name: str, table: Path) -> dict[str, tuple[int, str]]:
    """Return line and number of each label's name. Raises: DatasetError, a name has several numbers."""
    labels: dict[str, tuple[int, str]] = {}
    problems: list[str] = []
    for line, row in read_csv(name, table, ["number", "name"])[1]:
        if labels.setdefault(row["name"], (line, row["number"]))[1] != row["number"]:
            problems.append(f"lines {labels[row['name']][0]}, {line}: label {row['name']!r} has two numbers")
    raise_problems(name, table, problems)
    return labels


LAYOUT = Layout(
    name="broden",
    modalities=("image",),
    expected="a folder with metadata.csv and images",
    open=BrodenReader,
    takes=("annotations", "separator"),
    located="always",
    lenient=True,
)
