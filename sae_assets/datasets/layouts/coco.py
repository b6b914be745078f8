"""The COCO layout: ``metadata.csv`` as in CLEVR, and instance annotations in COCO's JSON.

The mask of a concept is the union over all instances (crowds included) whose category, or whose category's
super-category, has the concept's name. Images are found by the end of their path, as far as it is named, so that one
file name in two folders is two images; what fits several is refused. An image under several ids has the instances of
all. Polygons are rasterised by pycocotools, the format's own library. The JSON files
are read when the first mask or hash is asked for; what concerns the data set's images is kept in memory.
"""

import codecs
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sae_assets import plain_json
from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.images import as_mask, image_size, open_image
from sae_assets.datasets.outlines import COMPACT, borders, far_from_box, leaves, leaves_box, shape_problem, union
from sae_assets.datasets.paths import best_fits
from sae_assets.datasets.reader import ImageReader, hash_files, hash_text
from sae_assets.datasets.records import Record, read_metadata
from sae_assets.datasets.tables import Version, missing_file, nearest, raise_problems, version_of
from sae_assets.errors import DatasetError
from sae_assets.wording import looks, spelt

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_LISTS = 32  # run lengths of which the order is looked at
PATTERNS = ("annotations/instances*.json", "instances*.json")


@dataclass(frozen=True)
class Annotated:
    """One image's instances: (category, super-category, segmentation as published)."""

    width: int
    height: int
    instances: tuple[tuple[str, str, Any], ...]


class CocoReader(ImageReader):
    """Images of ``metadata.csv`` with the instances of one or several annotation files."""

    def __init__(self, entry: Dataset, *, lenient: bool = False):
        super().__init__(entry, read_metadata(entry, "image_path", lenient=lenient))
        self._files = _annotation_files(self.name, self.root, entry.annotations)
        self._remarks: list[str] = []

    def missing(self, record: Record) -> Iterable[str]:
        yield from missing_file("image_path", record.path, self.root)
        if isinstance(match := self._match(record.path), str):
            yield match

    def content_hash(self, example_id: str) -> str:
        return hash_files([self.root / self.record(example_id).path])

    def region_hashes(self, example_id: str) -> dict[str, str]:
        annotated = self._annotated(example_id)
        return {
            concept: hash_text(
                json.dumps(
                    [annotated.width, annotated.height, [part for part in annotated.instances if concept in part[:2]]],
                    sort_keys=True,
                )
            )
            for concept in self.true_concepts(example_id)
        }

    def image(self, example_id: str) -> "Image":
        return open_image(self.name, self.root, self.record(example_id).path, self.white)

    def size(self, example_id: str) -> tuple[int, int]:
        return image_size(self.name, self.root, self.record(example_id).path)

    def masks(self, example_id: str) -> "Mapping[str, Image]":
        record, annotated = self.record(example_id), self._annotated(example_id)
        size = self.size(example_id)
        if size != (annotated.width, annotated.height):
            raise DatasetError(
                f"Data set {self.name!r}: {record.path!r} is {size[0]}x{size[1]} pixels, its annotations are for "
                f"{annotated.width}x{annotated.height}; they must agree."
            )
        masks: dict[str, Image] = {}
        for concept, true in zip(self.concepts, record.labels, strict=True):
            parts = [shape for category, above, shape in annotated.instances if concept in (category, above) and shape]
            if true and parts:
                masks[concept] = as_mask(union(parts, annotated.height, annotated.width))
        return masks

    def remarks(self) -> list[str]:
        _ = self._regions  # reads the files
        return [*self._remarks]

    def _annotated(self, example_id: str) -> Annotated:
        match = self._match(self.record(example_id).path)
        if isinstance(match, str):
            raise DatasetError(f"Data set {self.name!r}: {self._annotations}: {match}.")
        return match

    def _match(self, path: str) -> "Annotated | str":
        """The instances of an image, or why there are none: it is not annotated, or several images may be meant."""
        parts = PurePosixPath(path).parts
        same_name = self._regions.get(parts[-1], {})
        best = best_fits(parts, same_name)
        if len(best) != 1:
            others = ", ".join(repr("/".join(name)) for name in (best or sorted(same_name))[:3])
            if best:
                return f"image {path!r} may be any of {others}; name its folder in `image_path`"
            return f"image {path!r} is not annotated" + (f"; {others} lies in another folder" if others else "")
        return same_name[best[0]]

    @property
    def _annotations(self) -> Path:
        return self._files[0] if len(self._files) == 1 else self._files[0].parent

    @cached_property
    def _regions(self) -> dict[str, dict[tuple[str, ...], Annotated]]:
        """Instances of every annotated image that may be one of the data set's, by file name and path.

        Raises:
            DatasetError: a file has problems (all of them are listed), or no file knows a concept.
        """
        file_names = frozenset(PurePosixPath(record.path).name for record in self.records)
        categories: set[str] = set()
        regions: dict[str, dict[tuple[str, ...], Annotated]] = {}
        problems: list[str] = []
        self._remarks = []
        for file in self._files:
            names, instances, remarks = _read_annotations(
                self.name, version_of(file), file_names, frozenset(self.concepts)
            )
            self._remarks += [f"{file.name}: {remark}" for remark in remarks]
            categories |= names
            for path, annotated in instances.items():
                paths = regions.setdefault(path[-1], {})
                if path in paths:
                    problems.append(f"image {'/'.join(path)!r} is in {file.name} and in a file before it")
                paths[path] = annotated
        problems += [
            f"concept {concept!r} is neither a category nor a super-category{nearest(concept, sorted(categories))}"
            for concept in self.concepts
            if concept not in categories
        ]
        raise_problems(self.name, self._annotations, problems)
        return regions


def _annotation_files(name: str, root: Path, annotations: Path | None) -> list[Path]:
    if annotations is not None and not annotations.is_dir():
        files = [annotations]
    elif annotations is not None:
        files = sorted(annotations.glob("instances*.json"))
    else:
        files = [file for pattern in PATTERNS for file in sorted(root.glob(pattern))]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        looked = f"{missing[0]} does not exist" if missing else f"no {' or '.join(PATTERNS)} in {annotations or root}"
        raise DatasetError(
            f"Data set {name!r}: {looked}. Name a file or a folder of instance annotations by `annotations` in the "
            "catalog; images with masks or without any fit `layout: table`."
        )
    return files


@lru_cache(maxsize=4)
def _read_annotations(
    name: str, version: Version, file_names: frozenset[str], concepts: frozenset[str]
) -> tuple[set[str], dict[tuple[str, ...], Annotated], list[str]]:
    """Names of categories and super-categories, the instances of images with these file names by path, and what is odd
    in the file. Boxes alone do for what is no concept.
    """
    file = Path(version[0])
    problems: list[str] = []
    try:
        with file.open("rb") as opened:
            if opened.read(1) == b"\0":  # before a file of holes is read whole
                raise ValueError("it begins with a zero byte")
        content = plain_json.parse(file.read_bytes().removeprefix(codecs.BOM_UTF8), encoding="utf-8")
        categories: dict[str, tuple[str, str]] = {}
        for part in _listed(content, "categories"):
            category = (_text(part, "name"), _text(part, "supercategory", ""))
            if categories.setdefault(_id(part["id"]), category) != category:
                problems.append(
                    f"category id {part['id']!r} names {categories[_id(part['id'])][0]!r} and {part['name']!r}"
                )
        images: dict[str, tuple[tuple[str, ...], int, int]] = {}
        for part in _listed(content, "images"):
            image = (_path(part["file_name"]), _whole(part["width"]), _whole(part["height"]))
            if images.setdefault(_id(part["id"]), image) != image:
                problems.append(
                    f"image id {part['id']!r} names {'/'.join(images[_id(part['id'])][0])!r} and {'/'.join(image[0])!r}"
                )
        annotations = [(_id(part["image_id"]), part) for part in _listed(content, "annotations")]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise DatasetError(
            f"Data set {name!r}: {file} is no COCO instance file (images, annotations, categories): {error!r}"
        ) from None
    names = {name for pair in categories.values() for name in pair if name}
    problems += [
        f"category {spelt(name)} looks like concept {spelt(concept)}, and is not; rename one"
        for name in sorted(names - concepts)
        for concept in sorted(concepts)
        if looks(name) == looks(concept)
    ]
    above = {pair[1] for pair in categories.values()} & concepts
    alone = sorted({name for name, of in categories.values() if above and not of and name not in above})
    strays = sum(image not in images for image, _ in annotations)
    if strays and strays == len(annotations):
        some = sorted({repr(part["image_id"]) for _, part in annotations})[:3]
        problems.append(f"all {strays:,} annotations name no image of the file: `image_id` is {', '.join(some)}, …")
    wanted = {image: described for image, described in images.items() if described[0][-1] in file_names}
    instances: dict[tuple[str, ...], list[tuple[str, str, Any]]] = {path: [] for path, _, _ in wanted.values()}
    sizes: dict[tuple[str, ...], tuple[int, int]] = {}
    for path, *size in wanted.values():
        if sizes.setdefault(path, (size[0], size[1])) != (size[0], size[1]):
            problems.append(f"image {'/'.join(path)!r} stands there twice, with other sizes")
    farthest = 0.0  # coordinate of all polygons
    beyond, elsewhere, far = 0, 0, 0  # annotations that leave their image, that are not where their box is, nor near it
    lists, columns, rows = 0, 0, 0  # run lengths looked at, and their borders in both orders
    for image_id, part in annotations:
        if image_id not in wanted:
            continue
        path, width, height = wanted[image_id]
        problem = shape_problem(part.get("segmentation"), height, width)
        known = categories.get(_category(part))
        if known is None:
            problem = f"category_id {part.get('category_id')!r} is not among the categories"
        elif part.get("segmentation") == [] and any(part.get("bbox") or ()) and concepts & {*known}:
            problem = "has a box and no outline, so that nothing says which pixels it is"
        if problem:
            problems.append(f"annotation {part.get('id')!r} of {'/'.join(path)!r}: {problem}")
        else:
            assert known is not None
            instances[path].append((*known, part["segmentation"]))
            if leaves_box(part["segmentation"], part.get("bbox"), height):
                elsewhere += 1
                far += far_from_box(part["segmentation"], part.get("bbox"), height)
            if isinstance(part["segmentation"], dict) and lists < MOST_LISTS:
                down, along = borders(part["segmentation"], height, width)
                lists, columns, rows = lists + (down > 0), columns + down, rows + along
            polygons = part["segmentation"] if isinstance(part["segmentation"], list) else []
            farthest = max(farthest, *map(max, polygons), 0.0)
            beyond += any(leaves(polygon, height, width) for polygon in polygons)
    if 0 < farthest <= 1 and any(max(size) > 1 for size in sizes.values()):
        problems.append("no coordinate of any polygon is above 1: they seem to be shares of the image, not its pixels")
    of = sum(map(len, instances.values()))
    if rows * COMPACT < columns:
        problems.append(
            "run lengths seem to go along the rows; COCO's go down the columns (encode masks in Fortran's order)"
        )
    elif far * 2 > of:
        problems.append(
            f"{far:,} of {of:,} annotations have an outline that has little in common with their box (`bbox`): are x "
            "and y exchanged, run lengths along the rows, or one of them for another size? Take the boxes out if they "
            "are wrong"
        )
    raise_problems(name, file, problems)
    remarks = [f"{strays:,} of {len(annotations):,} annotations name no image of the file"] if strays else []
    if not annotations:
        remarks.append("there are no annotations")
    if alone:
        remarks.append(f"no super-category is named of {', '.join(map(spelt, alone))}, but of others")
    if empty := sum(not shape for parts in instances.values() for *_, shape in parts):
        remarks.append(f"{empty:,} of {of:,} annotations have no outline")
    if elsewhere:
        remarks.append(f"{elsewhere:,} of {of:,} annotations have an outline that ends elsewhere than their box")
    if beyond:
        remarks.append(f"{beyond:,} of {of:,} annotations leave their image: are they for images of another size?")
    return (
        names,
        {path: Annotated(*sizes[path], tuple(parts)) for path, parts in instances.items()},
        remarks,
    )


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
    """A number of pixels. Raises: ValueError, it is none."""
    if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
        raise ValueError(f"found {value!r}, expected a number of pixels")
    return int(value)


def _id(value: Any) -> str:
    """An id whether it is written as a number or as a text of one. Raises: TypeError, it is neither."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"an id is {value!r}, expected a number or a text")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _category(part: Mapping[str, Any]) -> str:
    """The id of an annotation's category; empty where it has none."""
    try:
        return _id(part.get("category_id"))
    except TypeError:
        return ""


def _path(name: str) -> tuple[str, ...]:
    """Parts of a file's path as any program writes it. Raises: IndexError, there are none."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    _ = parts[0]
    return parts


LAYOUT = Layout(
    name="coco",
    modalities=("image",),
    expected="a folder with metadata.csv and images",
    open=CocoReader,
    takes=("annotations", "separator"),
    located="always",
    lenient=True,
)
