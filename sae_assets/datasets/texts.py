"""Texts as Python strings, their words, and spans in them. Shared by all text layouts.

A text is UTF-8, exactly: newline characters stay as they are, a byte order mark is not part of it. Positions are
Python characters (code points), never bytes and never tokens.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_assets.datasets.reader import Span
from sae_assets.errors import DatasetError

WORD = re.compile(r"\S+")


def read_text(dataset: str, root: Path, path: str) -> str:
    """The text of the file at ``root / path``.

    Raises:
        DatasetError: the file is missing or not UTF-8.
    """
    try:
        return (root / path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"Data set {dataset!r}: text {path!r} does not exist in {root}, though its chunk was registered with it. "
            "Restore the file, or register a new data set without it."
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"Data set {dataset!r}: {path!r} is not UTF-8 text: {error}") from None


def words_of(text: str) -> list[Span]:
    """Spans of the maximal runs of non-space characters."""
    return [match.span() for match in WORD.finditer(text)]


def parse_spans(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Start, end and label of every span of a cell, unchecked: a list of mappings or triples, or JSON of one.

    Raises:
        ValueError: the cell is neither; the message says what was found.
    """
    if isinstance(value, str):
        value = json.loads(value) if value.strip() else []
    if value is None:
        return
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ValueError(f"found {value!r}")
    for part in value:
        if isinstance(part, Mapping):
            yield part.get("start"), part.get("end"), part.get("label")
        elif isinstance(part, Sequence) and not isinstance(part, (str, bytes)) and len(part) == 3:
            yield part[0], part[1], part[2]
        else:
            raise ValueError(f"found {part!r}")


def check_spans(column: str, value: Any, text: str | None) -> tuple[dict[str, list[Span]], list[str]]:
    """Spans of a cell by label, in order and without repetition, and what is wrong with the cell.

    Args:
        text: None while its file is missing; spans are then not checked against the end of the text.
    """
    spans: dict[str, list[Span]] = {}
    problems: list[str] = []
    try:
        for start, end, label in parse_spans(value):
            numbers = all(isinstance(offset, int) and not isinstance(offset, bool) for offset in (start, end))
            if not isinstance(label, str) or not numbers:
                problems.append(
                    f"column {column!r}: span {start!r} to {end!r} of {label!r}: expected two characters and a label"
                )
            elif not 0 <= start < end <= (end if text is None else len(text)):
                ends = "" if text is None else f", which has {len(text)} characters"
                problems.append(
                    f"column {column!r}: span {start} to {end} of {label!r} is empty or leaves the text{ends}"
                )
            else:
                spans.setdefault(label, []).append((start, end))
    except (ValueError, RecursionError) as error:
        problems.append(f"column {column!r}: expected a list of {{start, end, label}} or [start, end, label]: {error}")
    return {label: sorted(set(places)) for label, places in spans.items()}, problems
