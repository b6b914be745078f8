"""The word-level layout: ``metadata.csv`` with ``text_path``, and a CSV with one row per word.

``paragraph_id`` is the example's position in ``metadata.csv``, counted from 1, and the k-th row of a paragraph is the
k-th word of its text; a column ``word`` must hold the text's words, without one numbers in ``word_id`` must ascend.
Concepts are 0/1 columns, or one column that names each word's concept. Neighbouring words of a concept stay spans of
their own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.dialect import Dialect
from sae_assets.datasets.labels import meant_by
from sae_assets.datasets.reader import Span, TextReader, hash_files, hash_text
from sae_assets.datasets.records import Record, read_metadata
from sae_assets.datasets.tables import (
    Version,
    missing_column,
    missing_file,
    nearest,
    raise_problems,
    read_csv,
    version_of,
    zero_or_one,
)
from sae_assets.datasets.texts import read_text, words_of
from sae_assets.errors import DatasetError

PATTERNS = ("word_level*.csv", "words*.csv")
PARAGRAPH, WORD, WORD_ID = "paragraph_id", "word", "word_id"

Paragraph = list[tuple[int, str | None, tuple[str, ...]]]  # line, word (None: not given), its concepts


class WordsReader(TextReader):
    """Texts of ``metadata.csv`` with word-level labels."""

    def __init__(self, entry: Dataset):
        super().__init__(entry, read_metadata(entry, "text_path"))
        self._columns, self._dialect = entry.columns, Dialect.of(entry)
        self._table = _find_table(self.name, self.root, entry.annotations)

    def read_regions(self) -> None:
        self._paragraphs  # noqa: B018

    @cached_property
    def _paragraphs(self) -> dict[str, Paragraph]:
        """Return words of each example. It takes longer than the texts, and who shows these needs no labels."""
        paragraphs, self.other_labels = _read_words(
            self.name, version_of(self._table), self.concepts, self._columns.labels, self._dialect
        )
        outside = sorted(set(paragraphs) - set(range(1, len(self.records) + 1)))
        problems = [
            f"line {paragraphs[number][0][0]}: column {PARAGRAPH!r}: found {number}, expected a position in "
            f"metadata.csv, 1 to {len(self.records)}"
            for number in outside
        ]
        raise_problems(self.name, self._table, problems)
        return {
            record.example_id: paragraphs.get(position, []) for position, record in enumerate(self.records, start=1)
        }

    def missing(self, record: Record) -> Iterable[str]:
        return missing_file("text_path", record.path, self.root)

    def content_hash(self, example_id: str) -> str:
        return hash_files([self.root / self.record(example_id).path])

    def region_hashes(self, example_id: str) -> dict[str, str]:
        words = self._paragraphs[self.record(example_id).example_id]
        return {
            concept: hash_text(repr([index for index, (_, _, concepts) in enumerate(words) if concept in concepts]))
            for concept in self.true_concepts(example_id)
        }

    def text(self, example_id: str) -> str:
        return read_text(self.name, self.root, self.record(example_id).path)

    def spans(self, example_id: str) -> Mapping[str, Sequence[Span]]:
        record, text = self.record(example_id), self.text(example_id)
        words, rows = words_of(text), self._paragraphs[example_id]
        problems = [
            f"line {line}: column {WORD!r}: found {word!r}, the text's word is {text[start:end]!r}"
            for (line, word, _), (start, end) in zip(rows, words, strict=False)
            if word is not None and word != text[start:end]
        ]
        if len(rows) != len(words):
            problems.insert(0, f"{record.path!r} has {len(words)} words, but {len(rows)} rows of the table")
        raise_problems(self.name, self._table, problems)
        true = {concept for concept, label in zip(self.concepts, record.labels, strict=True) if label}
        spans: dict[str, list[Span]] = {}
        for (_, _, concepts), span in zip(rows, words, strict=True):
            for concept in concepts:
                if concept in true:
                    spans.setdefault(concept, []).append(span)
        return spans


def _find_table(name: str, root: Path, annotations: Path | None) -> Path:
    tables = [annotations] if annotations else sorted({file for pattern in PATTERNS for file in root.glob(pattern)})
    if len(tables) != 1 or not tables[0].is_file():
        names = ", ".join(map(str, tables)) or f"no {PATTERNS[0]} in {root}"
        raise DatasetError(
            f"Data set {name!r}: found {names}, expected one table of words. Name it by `annotations` in the catalog; "
            "texts without word labels fit `layout: table`."
        )
    return tables[0]


@lru_cache(maxsize=4)
def _read_words(
    name: str, version: Version, concepts: tuple[str, ...], label_column: str | None, dialect: Dialect
) -> tuple[dict[int, Paragraph], dict[str, int]]:
    """Return words of each paragraph, in the order of the file, and the words of each label that is no concept.

    Raises:
        DatasetError: missing columns, and every cell that is neither 0 nor 1, a paragraph nor a known label.
    """
    table = Path(version[0])
    columns, rows = read_csv(name, table, [PARAGRAPH, *([label_column] if label_column else [])], dialect)
    single = label_column or _single_label_column(name, table, columns, concepts)
    paragraphs: dict[int, Paragraph] = {}
    problems: list[str] = []
    seen: Counter[str] = Counter()
    last: dict[int, int] = {}
    combinations: dict[tuple[str, ...], tuple[str, ...]] = {}  # of many words there are few combinations of labels
    has_words = WORD in columns
    for line, row in rows:
        if not row[PARAGRAPH].isdecimal():
            problems.append(f"line {line}: column {PARAGRAPH!r}: found {row[PARAGRAPH]!r}, expected a whole number")
            continue
        paragraph = int(row[PARAGRAPH])
        if single:
            cell = row[single]
            label = concepts[0] if zero_or_one(cell) == 1 and len(concepts) == 1 else cell
            if label not in seen and (hint := meant_by(label, concepts)):
                problems.append(f"line {line}: column {single!r}: {hint}")
            seen[label] += 1
            true: tuple[str, ...] = (label,) if label in concepts else ()
        elif (cells := tuple(map(row.__getitem__, concepts))) in combinations:
            true = combinations[cells]
        else:
            labels = {concept: zero_or_one(row[concept]) for concept in concepts}
            wrong = [
                f"line {line}: column {concept!r}: found {row[concept]!r}, expected 0 or 1"
                for concept, value in labels.items()
                if value is None
            ]
            true = tuple(concept for concept, value in labels.items() if value)
            problems += wrong
            if not wrong:
                combinations[cells] = true
        if not has_words and not _ascends(last, paragraph, row.get(WORD_ID)):
            problems.append(f"line {line}: column {WORD_ID!r}: found {row[WORD_ID]!r} behind the same or a later word")
        paragraphs.setdefault(paragraph, []).append((line, row.get(WORD), true))
    others = {label: count for label, count in seen.items() if label not in {*concepts, ""} and zero_or_one(label) != 0}
    if single and not seen.keys() & set(concepts):
        names = sorted(others)
        problems += [f"column {single!r} never names {concept!r}{nearest(concept, names)}" for concept in concepts]
    raise_problems(name, table, problems)
    return paragraphs, others


def _ascends(last: dict[int, int], paragraph: int, word_id: str | None) -> bool:
    """Return whether a word's number comes after those of its paragraph so far; where words have no numbers there is
    none."""
    if not (word_id or "").isdecimal():
        return True
    before, last[paragraph] = last.get(paragraph, -1), int(word_id or 0)
    return last[paragraph] > before


def _single_label_column(name: str, table: Path, columns: Sequence[str], concepts: Sequence[str]) -> str | None:
    """Return the column that names each word's concept; None where every concept has a column of its own."""
    missing = [concept for concept in concepts if concept not in columns]
    if not missing:
        return None
    free = [column for column in columns if column not in (PARAGRAPH, WORD, WORD_ID, "split", "text_path")]
    if len(missing) == len(concepts) and len(free) == 1:
        return free[0]
    raise DatasetError(
        f"Data set {name!r}: {table} lacks {len(missing)} column(s):",
        [missing_column(concept, columns) for concept in missing],
    )


LAYOUT = Layout(
    name="words",
    modalities=("text",),
    expected="a folder with metadata.csv and texts",
    open=WordsReader,
    takes=("annotations", "columns", "separator"),
    located="always",
)
