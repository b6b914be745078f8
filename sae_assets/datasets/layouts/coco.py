"""The COCO layout: ``metadata.csv`` as in CLEVR, and instance annotations in COCO's JSON.

The mask of a concept is the union over all instances (crowds included) whose category, or whose category's
super-category, has the concept's name. Images are found by the end of their path, as far as it is named, so that one
file name in two folders is two images; what fits several is refused. An image under several ids has the instances of
all. Polygons are rasterised by pycocotools, the format's own library. The JSON files
are read when the first mask or hash is asked for; what concerns the data set's images is kept in memory.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.coco_instances import Annotated, read_instances
from sae_assets.datasets.images import as_mask, image_size, open_image
from sae_assets.datasets.outlines import union
from sae_assets.datasets.paths import best_fits
from sae_assets.datasets.reader import ImageReader, hash_files, hash_text
from sae_assets.datasets.records import Record, read_metadata
from sae_assets.datasets.tables import missing_file, nearest, raise_problems, version_of
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

PATTERNS = ("annotations/instances*.json", "instances*.json")


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
        """Return instances of every annotated image that may be one of the data set's, by file name and path.

        Raises:
            DatasetError: a file has problems (all of them are listed), or no file knows a concept.
        """
        file_names = frozenset(PurePosixPath(record.path).name for record in self.records)
        categories: set[str] = set()
        regions: dict[str, dict[tuple[str, ...], Annotated]] = {}
        problems: list[str] = []
        self._remarks = []
        for file in self._files:
            instances = read_instances(self.name, version_of(file), file_names, frozenset(self.concepts))
            self._remarks += [f"{file.name}: {remark}" for remark in instances.remarks]
            categories |= instances.names
            for path, annotated in instances.images.items():
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


LAYOUT = Layout(
    name="coco",
    modalities=("image",),
    expected="a folder with metadata.csv and images",
    open=CocoReader,
    takes=("annotations", "separator"),
    located="always",
    lenient=True,
)
