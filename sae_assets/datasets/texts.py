"""Texts as Python strings, their words, and spans in them. Shared by all text layouts.

A text is UTF-8, exactly: newline characters stay as they are, a byte order mark is not part of it. Positions are
Python characters (code points), never tokens; files may count otherwise, and what they count is turned into these.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_assets import plain_json
from sae_assets.datasets.bounded import MOST_TEXT, read_whole
from sae_assets.datasets.reader import Span
from sae_assets.errors import DatasetError
from sae_assets.wording import looks, spelt

WORD = re.compile(r"\S+")
SPAN = ("start", "end", "label")  # keys of a span
QUOTES = ("text", "quote", "exact", "surface", "mention")  # keys by which it says what stands there
NO_TEXT = {"nan", "NaN", "NA", "N/A", "<NA>", "#N/A", "None", "NULL", "null", "\\N", "#NAME?", "#VALUE!", "#REF!"}
UNITS = {"codepoints": "characters", "utf16": "UTF-16 code units", "bytes": "UTF-8 bytes"}  # what offsets may count


def read_text(dataset: str, root: Path, path: str) -> str:
    """Return the text of the file at ``root / path``.

    Raises:
        DatasetError: the file is missing or not UTF-8.
    """
    try:
        return read_whole(os.path.join(root, path), MOST_TEXT).decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"Data set {dataset!r}: text {path!r} does not exist in {root}, though its chunk was registered with it. "
            "Restore the file, or register a new data set without it."
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"Data set {dataset!r}: {path!r} is not UTF-8 text: {error}") from None


def words_of(text: str) -> list[Span]:
    """Return spans of the maximal runs of non-space characters."""
    return [match.span() for match in WORD.finditer(text)]


def odd_texts(texts: Sequence[tuple[str, str]]) -> list[str]:
    """Return what ``inspect`` says of texts, each with its split: those that stand there again, and what programs write
    where there is none.
    """
    splits: dict[str, list[str]] = {}
    for text, split in texts:
        splits.setdefault(text, []).append(split)
    duplicates = {text: of for text, of in splits.items() if len(of) > 1}
    remarks = []
    if duplicates:
        across = sum(len(set(of)) > 1 for of in duplicates.values())
        leaked = f", {across:,} of them in several splits" if across else ""
        remarks.append(f"{len(duplicates):,} texts stand there more than once{leaked}")
    if count := sum(len(of) for text, of in splits.items() if text.strip() in NO_TEXT):
        remarks.append(f"{count:,} texts are what programs write where there is none (nan, NULL, #NAME?, …)")
    return remarks


def cuts_a_word(text: str, span: Span) -> bool:
    """Return whether a letter or digit on one side of an end of the span goes on at the other."""
    return any(0 < offset < len(text) and text[offset - 1].isalnum() and text[offset].isalnum() for offset in span)


def parse_spans(value: Any) -> Iterator[tuple[Any, Any, Any, Mapping[str, Any]]]:
    """Start, end, label and what else is said of every span of a cell, unchecked: a list of mappings or triples, or
    JSON of one.

    Raises:
        ValueError: the cell is neither; the message says what was found.
    """
    if isinstance(value, str):
        value = plain_json.parse(value) if value.strip() else []
    if value is None:
        return
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ValueError(f"found {value!r}")
    for part in value:
        if isinstance(part, Mapping):
            start, end, label = (part.get(key) for key in SPAN)
            yield start, end, label, {key: text for key, text in part.items() if key not in SPAN}
        elif isinstance(part, Sequence) and not isinstance(part, (str, bytes)) and len(part) == 3:
            yield part[0], part[1], part[2], {}
        else:
            raise ValueError(f"found {part!r}")


def check_spans(
    column: str, value: Any, text: str | None, unit: str = "codepoints"
) -> tuple[dict[str, list[Span]], list[str]]:
    """Return spans of a cell by label, in characters, in order and without repetition, and what is wrong with the cell.

    Args:
        text: None while its file is missing; spans are then neither turned into characters nor checked against it.
        unit: what the cell counts, a key of ``UNITS``.
    """
    spans: dict[str, list[Span]] = {}
    problems: list[str] = []
    places = None if text is None else boundaries(text, unit)
    try:
        for start, end, label, fields in parse_spans(value):
            numbers = all(isinstance(offset, int) and not isinstance(offset, bool) for offset in (start, end))
            named = f"column {column!r}: span {start!r} to {end!r} of {label!r}"
            if not isinstance(label, str) or not numbers:
                problems.append(f"{named}: expected two characters and a label")
            elif text is None or places is None:
                if 0 <= start < end:
                    spans.setdefault(label, []).append((start, end))
                else:
                    problems.append(f"{named} is empty or leaves the text")
            elif not 0 <= start < end < len(places):
                problems.append(
                    f"{named} is empty or leaves the text, which has {len(places) - 1} {UNITS[unit]}"
                    + next(filter(None, (_likely(text, start, end, quote, unit) for quote in fields.values())), "")
                )
            elif (first := places[start]) is None or (last := places[end]) is None:
                problems.append(f"{named} begins or ends inside a character, counted in {UNITS[unit]}{_hint(unit)}")
            elif denied := _denied(text, start, end, (first, last), fields, unit):
                problems.append(f"{named}: {denied}")
            else:
                spans.setdefault(label, []).append((first, last))
    except (ValueError, RecursionError) as error:
        problems.append(f"column {column!r}: expected a list of {{start, end, label}} or [start, end, label]: {error}")
    return {label: sorted(set(positions)) for label, positions in spans.items()}, problems


def boundaries(text: str, unit: str) -> list[int | None]:
    """Return for each offset in a unit, 0 to the text's length in it, the character that begins there (its index); None
    inside of one. The last is the number of characters.
    """
    if unit == "codepoints":
        return [*range(len(text) + 1)]
    places: list[int | None] = []
    for index, character in enumerate(text):
        width = (1 if character < "\U00010000" else 2) if unit == "utf16" else len(character.encode())
        places += [index, *[None] * (width - 1)]
    return [*places, len(text)]


def _denied(text: str, start: int, end: int, span: Span, fields: Mapping[str, Any], unit: str) -> str:
    """Return what a span says of itself and its place does not show: its text, or whatever stands where offsets of
    another kind would put it.
    """
    shown = text[slice(*span)]
    for key, quote in fields.items():
        likely = _likely(text, start, end, quote, unit) if quote != shown else ""
        if likely or (key in QUOTES and quote not in (None, shown)):
            if isinstance(quote, str) and looks(quote) == looks(shown):  # composed letters, invisible characters, case
                return f"its {key} is {spelt(quote)}, but {spelt(shown)} stands there"
            return f"its {key} is {quote!r}, but {shown!r} stands there{likely}"
    return ""


def _likely(text: str, start: int, end: int, quote: Any, unit: str) -> str:
    """Return advice where another way of counting gives the span's own text."""

    def shown(counted: str, first: int, last: int) -> str | None:
        places = boundaries(text, counted)
        if not 0 <= first < last < len(places) or None in (places[first], places[last]):
            return None
        return text[places[first] : places[last]]

    if not isinstance(quote, str):
        return ""
    for other in UNITS:
        if other != unit and shown(other, start, end) == quote:
            return f"; offsets seem to count {UNITS[other]}: `columns: {{offsets: {other}}}` says so"
    if shown(unit, start, end + 1) == quote:
        return "; the end seems to be the last character and not the one after it: add 1"
    if shown(unit, start - 1, end - 1) == quote:
        return "; offsets seem to start at 1: subtract 1"
    return ""


def _hint(unit: str) -> str:
    return "" if unit == "codepoints" else "; `columns.offsets` in the catalog says what they count"
