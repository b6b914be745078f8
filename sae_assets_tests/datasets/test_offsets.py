"""Offsets of spans in every unit, against Python's own encoders, and spans whose text is not what stands there."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.datasets import open_dataset
from sae_assets.datasets.texts import boundaries, check_spans
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of
from sae_assets_tests.strategies import PROPERTY

# Of each unit the length of a text, by the standard library's encoders.
LENGTHS: dict[str, Any] = {
    "codepoints": len,
    "utf16": lambda text: len(text.encode("utf-16-le")) // 2,
    "bytes": lambda text: len(text.encode()),
}
texts = st.text(
    st.one_of(st.sampled_from("ab é日🦊👩🏽\u0301\n\t"), st.characters(exclude_categories=("Cs",))),
    min_size=1,
    max_size=15,
)


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, int, int]:
    text = draw(texts)
    start = draw(st.integers(0, len(text) - 1))
    return text, start, draw(st.integers(start + 1, len(text)))


@settings(PROPERTY, max_examples=5 * PROPERTY.max_examples)
@given(
    span=marked(), unit=st.sampled_from(sorted(LENGTHS)), read_as=st.sampled_from(sorted(LENGTHS)), named=st.booleans()
)
def test_spans_are_read_as_written_or_refused(
    tmp_path_factory: pytest.TempPathFactory, span: tuple[str, int, int], unit: str, read_as: str, named: bool
) -> None:
    """The declared unit gives the span; another one gives it too where both count alike, else its text refuses it."""
    text, start, end = span
    length = LENGTHS[unit]
    part = {"start": length(text[:start]), "end": length(text[:end]), "label": "calm"}
    part |= {"text": text[start:end]} if named or unit != read_as else {}
    path = tmp_path_factory.mktemp("spans") / "a.jsonl"
    path.write_text(json.dumps({"text": text, "split": "cal", "spans": [part]}), encoding="utf-8")
    entry = entry_of(path, "spans", ("calm",), columns={"offsets": read_as})
    try:
        reader: Any = open_dataset(entry)
    except DatasetError:
        assert unit != read_as
        return
    ((first, last),) = reader.spans("1")["calm"]
    assert text[first:last] == text[start:end]  # with the same text elsewhere, another unit may be right by chance
    assert unit != read_as or (first, last) == (start, end)


@given(text=texts)
@settings(PROPERTY)
def test_boundaries_are_those_of_the_encoders(text: str) -> None:
    for unit, length in LENGTHS.items():
        places = boundaries(text, unit)
        assert len(places) == length(text) + 1
        assert [places[length(text[:index])] for index in range(len(text) + 1)] == [*range(len(text) + 1)]
        assert sum(place is not None for place in places) == len(text) + 1


TEXT = "Look 🦊🦊 a quiet pond"  # quiet: characters 10 to 15, UTF-16 12 to 17, bytes 16 to 21


@pytest.mark.parametrize(
    ("start", "end", "advice"),
    [
        (12, 17, "offsets seem to count UTF-16 code units: `columns: {offsets: utf16}`"),
        (16, 21, "offsets seem to count UTF-8 bytes: `columns: {offsets: bytes}`"),
        (10, 14, "the end seems to be the last character"),
        (11, 16, "offsets seem to start at 1"),
        (0, 5, ""),
    ],
)
def test_likely_cause_is_said(start: int, end: int, advice: str) -> None:
    spans, (problem,) = check_spans("spans", [{"start": start, "end": end, "label": "calm", "text": "quiet"}], TEXT)
    assert spans == {} and advice in problem
    assert f"its text is 'quiet', but {TEXT[start:end]!r} stands there" in problem or "leaves the text" in problem
    assert check_spans("spans", [{"start": 10, "end": 15, "label": "calm", "text": "quiet"}], TEXT)[1] == []


@pytest.mark.parametrize("key", ["value", "quote", "Text"])
def test_text_of_a_span_under_another_name(key: str) -> None:
    """Whatever a span says beside its place counts where offsets of another kind would show just that."""
    spans, (problem,) = check_spans("spans", [{"start": 12, "end": 17, "label": "calm", key: "quiet"}], TEXT)
    assert spans == {} and f"its {key} is 'quiet', but 'iet p' stands there; offsets seem to count UTF-16" in problem
    span = {"start": 10, "end": 15, "label": "calm", key: "quiet", "note": "seen by two", "confidence": 0.5}
    assert check_spans("spans", [span], TEXT) == ({"calm": [(10, 15)]}, [])
    assert check_spans("spans", [{**span, "note": None}], TEXT)[1] == []


@pytest.mark.parametrize(("key", "compared"), [("quote", True), ("surface", True), ("mention", True), ("note", False)])
def test_another_text_than_what_stands_there(key: str, compared: bool) -> None:
    """Where no way of counting explains it: by the names that say that it is the span's text."""
    spans, problems = check_spans("spans", [{"start": 3, "end": 7, "label": "calm", key: "loud"}], TEXT)
    assert bool(problems) == compared and bool(spans) != compared


def test_text_of_a_span_that_only_looks_like_it() -> None:
    """The message shows what nobody sees."""
    span = {"start": 0, "end": 5, "label": "calm", "text": "caf\u00e9"}
    spans, (problem,) = check_spans("spans", [span], "cafe\u0301")
    assert spans == {} and r"('caf\xe9'), but" in problem and r"('cafe\u0301') stands there" in problem


@pytest.mark.parametrize(("unit", "offset"), [("utf16", 6), ("bytes", 6), ("bytes", 8)])
def test_offset_inside_a_character_is_refused(unit: str, offset: int) -> None:
    _, (problem,) = check_spans("spans", [[offset, offset + 4, "calm"]], TEXT, unit)
    assert "begins or ends inside a character" in problem


def test_spans_beyond_the_text_name_its_length_in_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": TEXT, "split": "cal", "spans": [[0, 27, "calm"]]}), encoding="utf-8")
    for unit, count in (
        ("codepoints", "20 characters"),
        ("utf16", "22 UTF-16 code units"),
        ("bytes", "26 UTF-8 bytes"),
    ):
        with pytest.raises(DatasetError, match=f"leaves the text, which has {count}"):
            open_dataset(entry_of(path, "spans", ("calm",), columns={"offsets": unit}))
