"""Readers of the images and texts that a listing (see ``listing``) names, with their masks and spans."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset
from sae_assets.datasets.images import decode_image, image_size, open_image
from sae_assets.datasets.labels import LABELS, LabelReader
from sae_assets.datasets.listing import (
    Line,
    Listing,
    content_column,
    expect_no_lookalike,
    list_records,
    odd_columns,
)
from sae_assets.datasets.masks import Label, inside, read_mask
from sae_assets.datasets.reader import (
    NOWHERE,
    WEAK,
    ImageReader,
    Reader,
    Span,
    TextReader,
    hash_files,
    hash_parts,
    hash_text,
)
from sae_assets.datasets.records import Record
from sae_assets.datasets.tables import LastMade, check_columns, missing_file, path_problems, version_of
from sae_assets.datasets.texts import check_spans, cuts_a_word, odd_texts, read_text
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

MASKS = "masks"
# When these readers say where concepts are, in the words of the documents.
IMAGES_LOCATED = "if `columns` names a `mask`, or the folder `masks` is there, or `masks: files`"
TEXTS_LOCATED = "if there is a column `spans` (or the one that `columns` names)"


_OPENED = LastMade()


def open_listing(entry: Dataset, files: Sequence[Path], read: Callable[[], Listing]) -> Reader:
    """Return the reader for the data set's modality, reused from the last call if entry and files are unchanged.

    It is kept because every stage of every run opens its data set.

    Args:
        files: the files that ``read`` reads and the folder that their paths start from; a change to any of them means
            reading again.

    Raises:
        DatasetError: as the readers.
    """
    reader = ListedImages if entry.modality == "image" else ListedTexts
    key = (entry.name, entry.model_dump_json(), tuple(version_of(file) for file in files))
    opened: Reader = _OPENED.get(key, lambda: reader(entry, read()))
    return opened


class ListedImages(ImageReader):
    """Images of a listing, as paths or bytes; masks from a column, or from the folder ``masks`` beside the table."""

    def __init__(self, entry: Dataset, listing: Listing):
        self._listing, self._mask_column = listing, entry.columns.mask
        self._labels = entry.labels
        self._content = content_column(listing, entry.columns.image, "image")
        check_columns(entry.name, listing.source, listing.columns, [self._mask_column] if self._mask_column else [])
        labels = LabelReader(entry, listing.source, listing.columns, listing.classes)
        expect_no_lookalike(entry, listing, [labels.column] if labels.column else [])

        def read(position: int, line: Line) -> tuple[Sequence[int | None], list[str]]:
            values, problems = labels.read(line.cells)
            if self._content not in listing.big:
                problems += path_problems(self._content, line.cells.get(self._content))
            if self._mask_column and self._mask_column not in listing.big and any(values):
                problems += path_problems(self._mask_column, line.cells.get(self._mask_column))
            return values, problems

        paths = self._content not in listing.big
        records = list_records(entry, listing, self._content, paths=paths, read=read, misspelt=labels.misspelt)
        super().__init__(entry, records)
        self.other_labels = labels.others()
        self.root, self.source = listing.base, listing.source
        self.has_regions = bool(self._mask_column) or entry.masks == "files" or (self.root / MASKS).is_dir()
        self.folders, self._whole = [listing.base], listing.base == Path(entry.root)
        self._indices = {record.example_id: index for index, record in enumerate(records)}

    def places(self) -> Sequence[Path]:
        if self._whole:
            return self.folders
        named = [] if self._content in self._listing.big else [record.path for record in self.records]
        if self._mask_column and self._mask_column not in self._listing.big:
            shown = [self._indices[record.example_id] for record in self.records if any(record.labels)]
            named += [self._listing.lines[index].cells[self._mask_column] for index in shown]
        return _tops(self.root, [*named, MASKS])

    def remarks(self) -> list[str]:
        return [*self._listing.remarks]

    def missing(self, record: Record) -> Iterable[str]:
        if self._content not in self._listing.big:
            yield from missing_file(self._content, record.path, self.root)
        column = self._mask_column
        if column and column not in self._listing.big and any(record.labels):
            cells = self._listing.lines[self._indices[record.example_id]].cells
            yield from missing_file(column, str(cells[column]), self.root)

    def content_hash(self, example_id: str) -> str:
        if self._content in self._listing.big:
            return hash_parts([self._image_bytes(example_id)])
        return hash_files([self.root / self.record(example_id).path])

    def region_hashes(self, example_id: str) -> dict[str, str]:
        hashes, mask_hashes = {}, {}
        if not self.has_regions:
            return dict.fromkeys(self.true_concepts(example_id), WEAK)
        for concept in self.true_concepts(example_id):
            mask = self._mask(example_id, concept)
            if mask not in mask_hashes:  # one mask may serve several concepts
                mask_hashes[mask] = hash_parts([mask]) if isinstance(mask, bytes) else hash_files([mask])
            hashes[concept] = mask_hashes[mask]
        return hashes

    def image(self, example_id: str) -> "Image":
        record = self.record(example_id)
        if self._content in self._listing.big:
            return self.deferred_image(example_id)()
        return open_image(self.name, self.root, record.path, self.white)

    def size(self, example_id: str) -> tuple[int, int]:
        if self._content in self._listing.big:
            return super().size(example_id)
        return image_size(self.name, self.root, self.record(example_id).path)

    def deferred_image(self, example_id: str) -> "Callable[[], Image]":
        if self._content not in self._listing.big:
            return super().deferred_image(example_id)
        content = self._image_bytes(example_id)
        return partial(decode_image, self.name, content, f"the image of {example_id!r}", self.white)

    def masks(self, example_id: str) -> "Mapping[str, Image]":
        true = self.true_concepts(example_id) if self.has_regions else []
        if not true:
            return {}
        size, opened, masks = self.size(example_id), {}, {}
        by_source: dict[tuple[Path | bytes, Any], Image] = {}
        for concept in true:
            source, labels = self._mask(example_id, concept), self._labels_of(concept)
            if source not in opened:  # one file may serve several concepts
                what = f"of {example_id!r}" if isinstance(source, bytes) else ""
                opened[source] = read_mask(self.name, source, size, what)
            if (source, labels) not in by_source:
                by_source[source, labels] = inside(self.name, opened[source], labels)
            masks[concept] = by_source[source, labels]
        return masks

    def _labels_of(self, concept: str) -> tuple[Label, ...] | str | None:
        """Return what a mask's values mean for a concept, as the catalog says."""
        return self._labels[concept] if isinstance(self._labels, dict) else self._labels

    def _image_bytes(self, example_id: str) -> bytes:
        record = self.record(example_id)
        if self._content in self._listing.big:
            return self._fetch(example_id, self._content)
        return (self.root / record.path).read_bytes()

    def _fetch(self, example_id: str, column: str) -> bytes:
        index = self._indices[example_id]
        content = self._listing.fetch(index, column)
        if not isinstance(content, bytes):
            origin = self._listing.lines[index].origin
            raise DatasetError(
                f"Data set {self.name!r}: {self._listing.source}, {origin}: column {column!r} holds no bytes for "
                f"{example_id!r}; images that lie elsewhere are not followed."
            )
        return content

    def _mask(self, example_id: str, concept: str) -> Path | bytes:
        """Return the mask of a concept that is true.

        Raises:
            DatasetError: there is no such mask.
        """
        column = self._mask_column
        if column:
            if column in self._listing.big:
                return self._fetch(example_id, column)
            return self.root / self._listing.lines[self._indices[example_id]].cells[column]
        path = self.record(example_id).path
        name = example_id if self._content in self._listing.big else PurePosixPath(path).stem
        names = [f"{concept}/{name}.png"] if _is_plain(concept) else []
        paths = [self.root / MASKS / file for file in ([*names, f"{name}.png"] if _is_plain(name) else [])]
        for file in paths:
            if file.is_file():
                return file
        raise DatasetError(
            f"Data set {self.name!r}: {concept!r} is true of {example_id!r}, but there is no mask at "
            f"{' or '.join(map(str, paths)) or 'a plain file name'}. Add it (all black where nothing is), or take the "
            f"folder {MASKS} away: rows then inherit the example's label."
        )


class ListedTexts(TextReader):
    """Texts of a listing, in cells or files; spans from a column where there is one."""

    def __init__(self, entry: Dataset, listing: Listing):
        content = content_column(listing, entry.columns.text, "text")
        self._paths = content == "text_path"
        column = entry.columns.spans
        if "spans" in entry.columns.model_fields_set:
            check_columns(entry.name, listing.source, listing.columns, [column])
        self.has_regions = column in listing.columns
        labels = LabelReader(entry, listing.source, listing.columns, listing.classes, spans_suffice=self.has_regions)
        optional = [column, *([] if labels.per_concept else [labels.column or LABELS])]
        expect_no_lookalike(entry, listing, optional)
        self._cells, self._column, self._unit = [line.cells for line in listing.lines], column, entry.columns.offsets
        self._content = content

        def read(position: int, line: Line) -> tuple[Sequence[int | None], list[str]]:
            cell = line.cells.get(content)
            cell_problems: list[str] = []
            if self._paths:
                cell_problems += path_problems(content, cell)
            elif not isinstance(cell, str) or not _is_unicode(cell):
                cell_problems.append(f"column {content!r}: found {cell!r}, expected a text")
            spans: dict[str, list[Span]] = {}
            if not cell_problems and line.cells.get(column) is not None:
                # Labels must not depend on whether the text is there yet.
                text = self._text_if_there(str(cell), listing.base) if self._paths else str(cell)
                spans, cell_problems = check_spans(column, line.cells[column], text, self._unit)
            values, problems = labels.read(line.cells, spans)
            return values, [*cell_problems, *problems]

        records = list_records(entry, listing, content, paths=self._paths, read=read, misspelt=labels.misspelt)
        super().__init__(entry, records)
        self._odd = [*listing.remarks, *odd_columns(listing, optional)]
        self.other_labels = labels.others()
        self.root, self.source = listing.base, listing.source
        self.folders, self._whole = [listing.base], listing.base == Path(entry.root)
        self._indices = {record.example_id: index for index, record in enumerate(records)}

    def places(self) -> Sequence[Path]:
        if self._whole:
            return self.folders
        return _tops(self.root, [record.path for record in self.records] if self._paths else [])

    @staticmethod
    def _text_if_there(path: str, base: Path) -> str | None:
        """Return the text of a file; None where there is none or it is no text, which whoever reads it says."""
        try:
            return read_text("", base, path) if (base / path).is_file() else None
        except DatasetError:
            return None

    def remarks(self) -> list[str]:
        split_of = {} if self._paths else {record.example_id: record.split for record in self.records}
        odd = [*self._odd, *odd_texts([(self.text(example), split) for example, split in split_of.items()])]
        if not self.has_regions:
            return odd
        cut = count = 0
        for record in self.records:
            with suppress(DatasetError, FileNotFoundError):  # said by whoever reads it
                text = self.text(record.example_id)
                spans = [span for places in self.spans(record.example_id).values() for span in places]
                cut, count = cut + sum(cuts_a_word(text, span) for span in spans), count + len(spans)
        return [*odd, *([f"{cut:,} of {count:,} spans begin or end inside of a word"] if cut else [])]

    def missing(self, record: Record) -> Iterable[str]:
        return missing_file(self._content, record.path, self.root) if self._paths else ()

    def content_hash(self, example_id: str) -> str:
        return hash_text(self.text(example_id))

    def region_hashes(self, example_id: str) -> dict[str, str]:
        true = self.true_concepts(example_id)
        if not self.has_regions:
            return dict.fromkeys(true, WEAK)
        spans = self.spans(example_id)
        return {concept: hash_text(repr(list(spans[concept]))) if concept in spans else NOWHERE for concept in true}

    def text(self, example_id: str) -> str:
        record = self.record(example_id)
        if self._paths:
            return read_text(self.name, self.root, record.path)
        return str(self._cells[self._indices[example_id]][self._content])

    def spans(self, example_id: str) -> Mapping[str, Sequence[Span]]:
        record, text = self.record(example_id), self.text(example_id)
        if not self.has_regions:
            return {}
        cell = self._cells[self._indices[example_id]].get(self._column)
        spans, problems = check_spans(self._column, cell, text, self._unit)
        if problems:  # only where a text file changed after it was opened
            raise DatasetError(f"Data set {self.name!r}: {self.source}, example {example_id!r}:", problems)
        true = {concept for concept, label in zip(self.concepts, record.labels, strict=True) if label}
        return {concept: places for concept, places in spans.items() if concept in true}


def _tops(base: Path, named: Iterable[str]) -> list[Path]:
    """Return what of a folder that holds a table beside other things is the table's: where the paths in it begin."""
    return [base / top for top in dict.fromkeys(PurePosixPath(path).parts[0] for path in named if path)]


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
