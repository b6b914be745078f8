"""Every data set reader offers records, contents by example id, and where concepts are, whatever its layout.

Readers are built from a catalog entry and read tables only; images, texts, masks and spans are read when asked for.
Layouts live in modules of their own; what a model makes of an example (patches, tokens) lives in ``rows``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sae_assets.catalog import Dataset
from sae_assets.datasets.bounded import open_file
from sae_assets.datasets.records import Record, with_origins
from sae_assets.datasets.tables import raise_problems
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

WEAK, NOWHERE = "weak", "nowhere"  # rows inherit the example's label; located, and this example shows it nowhere
Span = tuple[int, int]  # characters [start, end) of a text


class Reader(ABC):
    """Examples of one data set.

    Attributes:
        records: all examples, in the data set's order; by_id: the same by example id.
        has_regions: whether concepts are located (masks, spans). Where they are not, every row of a positive example
            counts as positive (weak truth).
        other_labels: labels that the files name and that are no concept, with the examples (layout ``words``: words)
            that have each. Nobody asked for them, or a concept is misspelt; a 0/1 column of its own is no such label,
            for concepts are looked up by column there.
        places_split: whether splits are drawn by id (``split`` in the catalog) and must be kept with the chunk.
        white: the number that is white of pixels of more than 8 bits, if the catalog names one.
        source: the table that messages name.
        folders: from which files are read; no link may lead out of them (``links``).
    """

    has_regions: bool = True

    def __init__(self, entry: Dataset, records: Sequence[Record]):
        self.name = entry.name
        self.root = Path(entry.root)
        self.concepts = entry.concepts
        self.records = list(records)
        self.by_id = {record.example_id: record for record in records}
        self.other_labels: Mapping[str, int] = {}
        self.places_split = entry.split is not None
        self.white = entry.white
        self.source = self.root / "metadata.csv"
        beside = entry.annotations
        self.folders = [self.root, *([beside] if beside is not None and beside.is_dir() else [])]

    def places(self) -> Sequence[Path]:
        """Return what of the folders is read: files, and folders whole."""
        return self.folders

    def missing(self, record: Record) -> Iterable[str]:
        """Return missing files that an example's record names, in words; opening a data set does not look for them.

        So a file that has vanished holds up only its own chunk, and one still to arrive only the examples after it.
        """
        return ()

    def read_regions(self) -> None:  # noqa: B027  # most layouts leave nothing for later
        """Read the table that says where concepts are, if opening left it for later.

        Raises:
            DatasetError: it is not as the layout expects it.
        """

    def remarks(self) -> list[str]:
        """Return what is odd in the files and yet keeps nothing from being made, for ``inspect``; may read
        annotations."""
        return []

    @abstractmethod
    def content_hash(self, example_id: str) -> str:
        """Return sha256 over what a model is given of this example: its image or text."""

    @abstractmethod
    def region_hashes(self, example_id: str) -> dict[str, str]:
        """Return where each concept that is true of this example is: the sha256 of its mask or spans, or WEAK or
        NOWHERE.

        Each hash covers one concept alone, so that relabelling or adding other concepts does not change it.

        Raises:
            DatasetError: a required mask or span is missing.
        """

    def hashes(self, example_id: str) -> tuple[str, dict[str, str]]:
        """Return content hash and region hashes: what a chunk is registered with."""
        return self.content_hash(example_id), self.region_hashes(example_id)

    def true_concepts(self, example_id: str) -> list[str]:
        """Return concepts that are true of the example, in the catalog's order."""
        labels = self.record(example_id).labels
        return [concept for concept, true in zip(self.concepts, labels, strict=True) if true]

    def record(self, example_id: str) -> Record:
        """Return the example's record.

        Raises:
            DatasetError: there is no such example.
        """
        try:
            return self.by_id[example_id]
        except KeyError:
            raise DatasetError(f"Data set {self.name!r} has no example {example_id!r}.") from None


class ImageReader(Reader):
    """A data set of images."""

    @abstractmethod
    def image(self, example_id: str) -> "Image":
        """Return the image, RGB.

        Raises:
            DatasetError: the file is missing or no image.
        """

    def size(self, example_id: str) -> tuple[int, int]:
        """Return width and height of :meth:`image`; a file's header tells them where what turns pictures stands there,
        too.

        Raises:
            DatasetError: the file is missing or no image.
        """
        return self.image(example_id).size

    def deferred_image(self, example_id: str) -> "Callable[[], Image]":
        """Return what gives :meth:`image` in another thread, while others are asked for here; in any order.

        A layout that can only read in order reads here and decodes there.
        """
        return partial(self.image, example_id)

    @abstractmethod
    def masks(self, example_id: str) -> "Mapping[str, Image]":
        """Return mask (mode L, 255 inside, of the image's own size) of each concept that is true of the example.

        A true concept that is not in the mapping is nowhere in the image; without ``has_regions`` it is not asked.

        Raises:
            DatasetError: a mask is missing, no image, or of another size.
        """


class TextReader(Reader):
    """A data set of texts."""

    def hashes(self, example_id: str) -> tuple[str, dict[str, str]]:
        """Return what any reader does; a file that is no text has the hash of its bytes, and holds up its own chunk
        when read."""
        try:
            return super().hashes(example_id)
        except DatasetError:
            record = self.record(example_id)
            if not (self.root / record.path).is_file() or self.root / record.path == self.source:
                raise
            return hash_files([self.root / record.path]), dict.fromkeys(self.true_concepts(example_id), NOWHERE)

    @abstractmethod
    def text(self, example_id: str) -> str:
        """Return the text.

        Raises:
            DatasetError: the file is missing or not UTF-8.
        """

    @abstractmethod
    def spans(self, example_id: str) -> Mapping[str, Sequence[Span]]:
        """Return character spans [start, end) of each concept that is true of the example.

        Raises:
            DatasetError: spans that leave the text, or words that are not the text's.
        """


def expect_files(reader: Reader, records: Iterable[Record]) -> None:
    """Check that every file that these records name exists.

    Raises:
        DatasetError: files are missing; all are named, with their origins.
    """
    origins_by_problem: dict[str, list[str]] = {}
    for record in records:
        for problem in reader.missing(record):
            origins_by_problem.setdefault(problem, []).append(record.origin or record.example_id)
    raise_problems(reader.name, reader.source, with_origins(origins_by_problem))


def hash_files(paths: Iterable[Path]) -> str:
    """Return sha256 over the contents of files, in the order given.

    Raises:
        OSError: a file cannot be read; it is named.
    """
    return _hash_digests(_digest(path) for path in paths)


def _digest(path: Path) -> bytes:
    with open_file(path) as file:  # whatever its size, a piece at a time
        return hashlib.file_digest(file, "sha256").digest()


def hash_text(text: str) -> str:
    """Return sha256 over a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_parts(parts: Iterable[bytes]) -> str:
    """Return sha256 over the sha256 of each part, so that no two lists of parts hash alike."""
    return _hash_digests(hashlib.sha256(part).digest() for part in parts)


def _hash_digests(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()
