"""Instances of the images of a COCO annotation file, and what is wrong or odd in it.

A file serves many images and categories; what concerns neither the data set's images nor its concepts is not looked at
closely. Boxes alone do for what is no concept.
"""

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sae_assets import plain_json
from sae_assets.datasets.outlines import COMPACT, borders, far_from_box, leaves, leaves_box, shape_problem
from sae_assets.datasets.tables import Version, raise_problems
from sae_assets.errors import DatasetError
from sae_assets.wording import looks, spelt

MOST_LISTS = 32  # run lengths of which the order is looked at
ImagePath = tuple[str, ...]  # its parts


@dataclass(frozen=True)
class Annotated:
    """One image's instances: (category, super-category, segmentation as published)."""

    width: int
    height: int
    instances: tuple[tuple[str, str, Any], ...]


@dataclass(frozen=True)
class Instances:
    """An annotation file has these categories and images.

    Attributes:
        names: of categories and super-categories.
        images: by path, those that may be the data set's.
        remarks: what is odd, and may be right.
    """

    names: frozenset[str]
    images: Mapping[ImagePath, Annotated]
    remarks: tuple[str, ...]


@lru_cache(maxsize=4)
def read_instances(name: str, version: Version, file_names: frozenset[str], concepts: frozenset[str]) -> Instances:
    """Read the instances of images with these file names.

    Raises:
        DatasetError: the file is none of COCO's, or contradicts itself or the concepts; all problems are listed.
    """
    file = Path(version[0])
    problems: list[str] = []
    try:
        content = _Content(file, problems)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise DatasetError(
            f"Data set {name!r}: {file} is no COCO instance file (images, annotations, categories): {error!r}"
        ) from None
    names = {name for pair in content.categories.values() for name in pair if name}
    problems += [
        f"category {spelt(name)} looks like concept {spelt(concept)}, and is not; rename one"
        for name in sorted(names - concepts)
        for concept in sorted(concepts)
        if looks(name) == looks(concept)
    ]
    strays = sum(image not in content.images for image, _ in content.annotations)
    if strays and strays == len(content.annotations):
        some = sorted({repr(part["image_id"]) for _, part in content.annotations})[:3]
        problems.append(f"all {strays:,} annotations name no image of the file: `image_id` is {', '.join(some)}, …")
    named_images = {image: described for image, described in content.images.items() if described[0][-1] in file_names}
    instances: dict[ImagePath, list[tuple[str, str, Any]]] = {path: [] for path, _, _ in named_images.values()}
    sizes: dict[ImagePath, tuple[int, int]] = {}
    for path, *size in named_images.values():
        if sizes.setdefault(path, (size[0], size[1])) != (size[0], size[1]):
            problems.append(f"image {'/'.join(path)!r} stands there twice, with other sizes")
    outlines = _Outlines()
    for image, part in content.annotations:
        if image not in named_images:
            continue
        path, width, height = named_images[image]
        problem = shape_problem(part.get("segmentation"), height, width)
        category = content.categories.get(_category(part))
        if category is None:
            problem = f"category_id {part.get('category_id')!r} is not among the categories"
        elif part.get("segmentation") == [] and any(part.get("bbox") or ()) and concepts & {*category}:
            problem = "has a box and no outline, so that nothing says which pixels it is"
        if problem:
            problems.append(f"annotation {part.get('id')!r} of {'/'.join(path)!r}: {problem}")
        else:
            assert category is not None
            instances[path].append((*category, part["segmentation"]))
            outlines.add(part["segmentation"], part.get("bbox"), height, width)
    problems += outlines.problems(any(max(size) > 1 for size in sizes.values()))
    raise_problems(name, file, problems)
    remarks = [f"{strays:,} of {len(content.annotations):,} annotations name no image of the file"] if strays else []
    if not content.annotations:
        remarks.append("there are no annotations")
    above = {pair[1] for pair in content.categories.values()} & concepts
    alone = sorted({name for name, of in content.categories.values() if above and not of and name not in above})
    if alone:
        remarks.append(f"no super-category is named of {', '.join(map(spelt, alone))}, but of others")
    return Instances(
        frozenset(names),
        {path: Annotated(*sizes[path], tuple(parts)) for path, parts in instances.items()},
        (*remarks, *outlines.remarks()),
    )


class _Content:
    """Categories as (name, super-category) and images as (path, width, height) by id, annotations by image id.

    Raises:
        Many errors, of Python and of JSON: the file has another form.
    """

    def __init__(self, file: Path, problems: list[str]):
        with file.open("rb") as opened:
            if opened.read(1) == b"\0":  # before a file of holes is read whole
                raise ValueError("it begins with a zero byte")
        content = plain_json.parse(file.read_bytes().removeprefix(codecs.BOM_UTF8), encoding="utf-8")
        self.categories: dict[str, tuple[str, str]] = {}
        for part in _listed(content, "categories"):
            category = (_text(part, "name"), _text(part, "supercategory", ""))
            first = self.categories.setdefault(_id(part["id"]), category)
            if first != category:
                problems.append(f"category id {part['id']!r} names {first[0]!r} and {part['name']!r}")
        self.images: dict[str, tuple[ImagePath, int, int]] = {}
        for part in _listed(content, "images"):
            image = (_path(part["file_name"]), _whole(part["width"]), _whole(part["height"]))
            before = self.images.setdefault(_id(part["id"]), image)
            if before != image:
                problems.append(f"image id {part['id']!r} names {'/'.join(before[0])!r} and {'/'.join(image[0])!r}")
        self.annotations = [(_id(part["image_id"]), part) for part in _listed(content, "annotations")]


@dataclass
class _Outlines:
    """All outlines of a file are judged together: one alone may be odd and right.

    Attributes:
        n, empty: outlines, and those of nothing.
        farthest: the largest coordinate of all polygons.
        beyond, elsewhere, far: outlines that leave their image, that are not where their box is, nor near it.
        lists, columns, rows: run lengths looked at, and their borders in both orders.
    """

    n: int = 0
    empty: int = 0
    farthest: float = 0.0
    beyond: int = 0
    elsewhere: int = 0
    far: int = 0
    lists: int = 0
    columns: int = 0
    rows: int = 0

    def add(self, outline: Any, box: Any, height: int, width: int) -> None:
        self.n += 1
        self.empty += not outline
        if leaves_box(outline, box, height):
            self.elsewhere += 1
            self.far += far_from_box(outline, box, height)
        if isinstance(outline, dict) and self.lists < MOST_LISTS:
            down, along = borders(outline, height, width)
            self.lists, self.columns, self.rows = self.lists + (down > 0), self.columns + down, self.rows + along
        polygons = outline if isinstance(outline, list) else []
        self.farthest = max(self.farthest, *map(max, polygons), 0.0)
        self.beyond += any(leaves(polygon, height, width) for polygon in polygons)

    def problems(self, images_have_pixels: bool) -> Iterator[str]:
        if 0 < self.farthest <= 1 and images_have_pixels:
            yield "no coordinate of any polygon is above 1: they seem to be shares of the image, not its pixels"
        if self.rows * COMPACT < self.columns:
            yield "run lengths seem to go along the rows; COCO's go down the columns (encode masks in Fortran's order)"
        elif self.far * 2 > self.n:
            yield (
                f"{self.far:,} of {self.n:,} annotations have an outline that has little in common with their box "
                "(`bbox`): are x and y exchanged, run lengths along the rows, or one of them for another size? Take "
                "the boxes out if they are wrong"
            )

    def remarks(self) -> Iterator[str]:
        if self.empty:
            yield f"{self.empty:,} of {self.n:,} annotations have no outline"
        if self.elsewhere:
            yield f"{self.elsewhere:,} of {self.n:,} annotations have an outline that ends elsewhere than their box"
        if self.beyond:
            yield f"{self.beyond:,} of {self.n:,} annotations leave their image: are they for images of another size?"


def _listed(content: Any, key: str) -> list[Any]:
    """Raises: TypeError, there is no list."""
    if not isinstance(content[key], list):
        raise TypeError(f"{key} is no list, but {type(content[key]).__name__}")
    return content[key]


def _text(part: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Raises: TypeError, there is none."""
    value = part.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{key} {value!r} is no text")
    return value


def _whole(value: Any) -> int:
    """Return a number of pixels. Raises: ValueError, it is none."""
    if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
        raise ValueError(f"found {value!r}, expected a number of pixels")
    return int(value)


def _id(value: Any) -> str:
    """An id whether it is written as a number or as a text of one. Raises: TypeError, it is neither."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"an id is {value!r}, expected a number or a text")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _category(part: Mapping[str, Any]) -> str:
    """Return the id of an annotation's category; empty where it has none."""
    try:
        return _id(part.get("category_id"))
    except TypeError:
        return ""


def _path(name: str) -> tuple[str, ...]:
    """Return parts of a file's path as any program writes it. Raises: IndexError, there are none."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    _ = parts[0]
    return parts
