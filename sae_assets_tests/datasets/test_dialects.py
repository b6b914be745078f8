"""Tables of any dialect are read as they were written, or refused: nothing is cut or dropped."""

import csv
import io
import itertools
import json
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.datasets import open_dataset
from sae_assets.datasets.labels import meant_by
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of, write_texts
from sae_assets_tests.strategies import PROPERTY

CONCEPTS = ("calm", "very angry")
QUOTINGS = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)
Reading = list[tuple[str, tuple[bool, ...]]]


@dataclass(frozen=True)
class Written:
    """Texts with their labels, and how they are written: ``style`` is ``columns`` or how a list of labels is joined."""

    reading: Reading
    separator: str
    quoting: Any
    ends: str
    encoding: str
    spelt: tuple[str, str]
    style: str

    def write(self, path: Path, change: "Callable[[list[list[str]]], list[list[str]]]" = lambda rows: rows) -> Path:
        path.write_text(self.content(change), encoding=self.encoding, newline="")
        return path

    def content(self, change: "Callable[[list[list[str]]], list[list[str]]]" = lambda rows: rows) -> str:
        joined = self.style != "columns"
        rows = [["text", "split", *(["labels"] if joined else CONCEPTS)]]
        for text, labels in self.reading:
            names = [concept for concept, true in zip(CONCEPTS, labels, strict=True) if true]
            listed = json.dumps(names) if self.style == "json" else self.style.join(names)
            rows.append([text, "cal", *([listed] if joined else [self.spelt[true] for true in labels])])
        out = io.StringIO()
        csv.writer(out, delimiter=self.separator, quoting=self.quoting, lineterminator=self.ends).writerows(
            change(rows)
        )
        return out.getvalue()

    def read(self, path: Path, **changes: Any) -> Reading:
        entry = entry_of(path, "table", CONCEPTS, modality="text", **changes)
        reader: Any = open_dataset(entry)
        return [(reader.text(record.example_id), record.labels) for record in reader.records]


characters = st.characters(exclude_categories=("Cs",), exclude_characters="\ufeff")
texts = st.text(st.one_of(st.sampled_from(",;\t|\"'\n\r \\"), characters), max_size=12)


@st.composite
def tables(draw: st.DrawFn, texts: st.SearchStrategy[str] = texts) -> Written:
    labels = st.tuples(st.booleans(), st.booleans())
    reading = draw(st.lists(st.tuples(texts, labels), min_size=1, max_size=4))
    if (quoting := draw(st.sampled_from(QUOTINGS))) != csv.QUOTE_ALL:  # the csv module leaves lone returns unquoted
        reading = [(text.replace("\r", ""), true) for text, true in reading]
    return Written(
        reading=reading,
        separator=draw(st.sampled_from(",;\t|")),
        quoting=quoting,
        ends=draw(st.sampled_from(["\n", "\r\n"])),
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig"])),
        spelt=draw(
            st.sampled_from([("0", "1"), ("FALSE", "TRUE"), ("False", "True"), ("0.0", "1.0"), ("false", "true")])
        ),
        style=draw(st.sampled_from(["columns", ";", "json"])),
    )


@settings(PROPERTY, max_examples=3 * PROPERTY.max_examples)
@given(table=tables())
def test_what_is_declared_is_read_exactly(tmp_path_factory: pytest.TempPathFactory, table: Written) -> None:
    path = table.write(tmp_path_factory.mktemp("tables") / "data.csv")
    assert table.read(path, separator=table.separator, backslashes="literal") == table.reading
    if table.separator == "\t":
        assert table.read(path.rename(path.with_suffix(".tsv")), backslashes="literal") == table.reading


@settings(PROPERTY, max_examples=5 * PROPERTY.max_examples)
@given(
    texts=st.lists(
        st.text(st.sampled_from("abNn0\\\"',;\n\r é"), min_size=1, max_size=6), min_size=1, max_size=3
    ),
    quoting=st.sampled_from([*QUOTINGS, csv.QUOTE_NONE]),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    escape=st.sampled_from([None, "\\"]),
    doubled=st.booleans(),
    first=st.booleans(),
)  # fmt: skip
def test_backslashes_and_returns_of_any_writer(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], quoting: Any, ends: str, escape: str | None,
    doubled: bool, first: bool,
) -> None:  # fmt: skip
    """Writers that escape and writers that do not, in cells with and without quotes: read as meant, or refused."""
    labels = ["cal", 1, 0]
    rows = [["split", *CONCEPTS, "text"], *([*labels, text] for text in texts)]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=ends, quoting=quoting, escapechar=escape, doublequote=doubled)
    try:
        writer.writerows([row[-1:] + row[:-1] for row in rows] if first else rows)
    except csv.Error:  # what this writer cannot write
        return
    path = tmp_path_factory.mktemp("tables") / "data.csv"
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    for declared in ({}, {"backslashes": "escape" if escape else "literal"}):
        entry = entry_of(path, "table", CONCEPTS, modality="text", **declared)
        with suppress(DatasetError):
            reader: Any = open_dataset(entry)
            assert [reader.text(record.example_id) for record in reader.records] == texts


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            r"a \\ b,cal,1,0",
            r"line 3: \\\\ may escape what is behind it, or stand for itself; say `backslashes: literal`",
        ),
        ("a\\\\b,cal,1,0\n\\frac,cal,1,0", ""),  # no escape is written so
        (r"\N,cal,1,0", r"line 3: \\N may escape"),
        ("\ra,cal,1,0", r"line 3: it ends with '\\r', the header with '\\n': a cell without quotes may hold"),
        ("a,cal,1,0\r\n", r"line 3: it ends with '\\r\\n'"),
        ('"a\rb",cal,1,0', ""),
    ],
)
def test_what_can_be_read_in_two_ways(tmp_path: Path, rows: str, said: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,split,calm,very angry\nfine,test,0,1\n{rows}\n", newline="")
    entry = entry_of(path, "table", CONCEPTS, modality="text")
    with pytest.raises(DatasetError, match=said) if said else nullcontext():
        open_dataset(entry)


def test_what_is_no_escape_is_refused_where_escapes_are_declared(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,split,calm,very angry\n" + r"a\,b\\,cal,1,0" + "\n" + r"\N,cal,1,0" + "\n")
    with pytest.raises(DatasetError, match=r"line 3: \\N is no escaped backslash, quote, separator or end"):
        open_dataset(entry_of(path, "table", CONCEPTS, modality="text", backslashes="escape"))
    path.write_text("text,split,calm,very angry\n" + r"a\,b\\,cal,1,0" + "\n")
    reader: Any = open_dataset(entry_of(path, "table", CONCEPTS, modality="text", backslashes="escape"))
    assert reader.text(reader.records[0].example_id) == "a,b\\"


def unquoted(table: Written) -> str:
    rows = csv.reader(io.StringIO(table.content(), newline=""), delimiter=table.separator)
    return "".join(table.separator.join(row) + table.ends for row in rows)


def doubled(rows: list[list[str]]) -> list[list[str]]:
    return [[*row, row[-1]] for row in rows]


def longer(rows: list[list[str]]) -> list[list[str]]:
    return [*rows[:-1], [*rows[-1], "more"]]


def shorter(rows: list[list[str]]) -> list[list[str]]:
    return [*rows[:-1], rows[-1][:-1]]


def in_capitals(rows: list[list[str]]) -> list[list[str]]:
    return [rows[0], *([*row[:-1], row[-1].upper()] for row in rows[1:])]


@settings(PROPERTY, max_examples=3 * PROPERTY.max_examples)
@given(
    table=tables(st.text(st.one_of(st.sampled_from(",;\t|\n "), characters), max_size=12).map(
        lambda text: text.replace('"', "").replace("\r", "")
    )),
    change=st.sampled_from([doubled, longer, shorter, in_capitals]),
    undeclared=st.booleans(),
    other=st.sampled_from([",", "|", ", ", "/", " & "]),
)  # fmt: skip
def test_what_is_not_declared_is_refused_or_read_alike(
    tmp_path_factory: pytest.TempPathFactory, table: Written, change: Any, undeclared: bool, other: str
) -> None:
    """Quotes left out, cells too many or too few, a column twice, other cases and separators, other encodings."""
    path = tmp_path_factory.mktemp("tables") / "data.csv"
    declared = {} if undeclared else {"separator": table.separator}
    joined = Written(**{**vars(table), "style": other})
    for content in (unquoted(table), table.content(), table.content(change), joined.content()):
        path.write_text(content, encoding="utf-8", newline="")
        assert read_or_refused(table, path, **declared) in (table.reading, None)
    for encoding in ("utf-16", "latin-1", "utf-8"):
        path.write_text(table.content(), encoding=encoding, errors="replace", newline="")
        if encoding != "latin-1" or table.content().isascii():
            assert read_or_refused(table, path, **declared) in (table.reading, None)


def read_or_refused(table: Written, path: Path, **declared: Any) -> Reading | None:
    try:
        return table.read(path, **declared)
    except DatasetError as error:
        assert "Data set 'table'" in str(error)
        return None


def refusal(path: Path, content: str, **changes: Any) -> str:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        open_dataset(entry_of(path, "table", CONCEPTS, modality="text", **changes))
    return str(caught.value)


def test_messages_name_line_cause_and_key(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    said = refusal(path, "split,calm,very angry,text\ncal,1,0,The lake was still, and so were we\n")
    assert (
        "line 2: 5 cells, the header has 4; cells that hold ',' must be quoted (it ends with ' and so were we')" in said
    )
    assert "names columns twice: calm" in refusal(path, "text,split,calm,very angry,calm\na,cal,1,0,0\n")
    said = refusal(path, "text;split;calm;very angry\nfirst;cal;TRUE;FALSE\n")
    assert "its separator seems to be ';'. Set `separator: \";\"`" in said
    assert "seems to be '\\t'" in refusal(path, "text\tsplit\tlabels\nfirst\tcal\tcalm\n")
    said = refusal(path, 'text,split,labels\na,cal,calm\nb,cal,"calm,angry"\nc,test,calm|angry\nd,test,Calm\n')
    assert "line 3: column 'labels': found 'calm,angry', which is no concept, but 'calm' is" in said
    assert 'label_separator: "|"' in said and "line 5: column 'labels': found 'Calm', which is no concept" in said


def test_declared_separator_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('text,split,labels\na,cal,"calm, very angry"\nb,cal,"tench, Tinca"\n')
    entry = entry_of(path, "table", CONCEPTS, modality="text", columns={"label_separator": ","})
    reader = open_dataset(entry)
    assert [record.labels for record in reader.records] == [(True, True), (False, False)]
    assert reader.other_labels == {"tench": 1, "Tinca": 1}


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("Calm", True), (" calm", True), ("very_angry", True), ("VERY  angry", True), ("calm,x", True),
        ("x|calm", True),
        ("calm very angry", False), ("calm/very angry", True), ("calm/sea", False), ("calmness", False), ("", False),
        ("calm & very angry", True), ("calm", False), ("rock", False), ("calm\nx", True), ("calm and very angry", True),
        ("calm:very angry", True), ("calm - very angry", True), ("calm#sea", False), ("sea and rock", False),
        ('"calm"', True), ("{calm}", True), ("calm.", True), ("ca\u00adlm", True), ("ｃａｌｍ", True),
        ("\u0441\u0430lm", True), ("\u0441ок", False), ("not calm", False), ("calm，x", True),
        ("calm、very angry", True), ("calm++", False),
        ("calm:0.9", True), ("Very angry = 0", True), ("calm (12 %)", True), ("calm 2", False), ("calm: sea", False),
        ("sea:0.9", False),
    ],
)  # fmt: skip
def test_labels_that_seem_to_name_concepts(label: str, names: bool) -> None:
    """Certain separators: any part; others, which stand in names too: all parts."""
    assert bool(meant_by(label, CONCEPTS)) == names
    assert not meant_by("tench, Tinca", CONCEPTS)


@pytest.mark.parametrize(
    ("concept", "label", "names"),
    [
        ("café", "cafe\u0301", True), ("self-pity", "self pity", True), ("color::red", "color:red", True),
        ("c", "c++", False), ("c", "c#", False), ("cafe", "café", False),
    ],
)  # fmt: skip
def test_one_concept_in_several_spellings(concept: str, label: str, names: bool) -> None:
    """What looks the same or parts its words otherwise is meant; what other signs make another name is not."""
    assert bool(meant_by(label, [concept])) == names


def test_look_alikes_are_told_apart_in_the_message() -> None:
    """A Cyrillic letter shows as the Latin one; its number does not."""
    assert r"('c\u0430lm')" in meant_by("c\u0430lm", CONCEPTS)


def test_first_line_of_spreadsheets(tmp_path: Path) -> None:
    """`sep=;` is no header, whatever it separates."""
    for said in ("sep=;", "sep=,"):
        content = f"{said}\ntext;split;calm\nx;cal;1\n"
        assert "which spreadsheets write in front of the header" in refusal(tmp_path / "t.csv", content)


@pytest.mark.parametrize("cell", ['"{""calm"": 0.1, ""very angry"": 0.9}"', "\"{'calm'}\"", "calm:0.9;very angry:0.1"])
def test_labels_with_scores(tmp_path: Path, cell: str) -> None:
    """All rows would be negative; which score is high enough is not ours to say."""
    (tmp_path / "metadata.csv").write_text(f"text,split,labels\na,cal,{cell}\nb,cal,calm\n")
    with pytest.raises(DatasetError, match=r"line 2: column 'labels': found") as caught:
        open_dataset(entry_of(tmp_path, "table", CONCEPTS, modality="text"))
    assert "line 3" not in str(caught.value)


def test_column_of_labels_beside_columns_of_concepts(tmp_path: Path) -> None:
    """Where both name concepts they agree; a column of other labels, or of a few of them, is nobody's business."""
    path = tmp_path / "metadata.csv"
    for cells, said in (("0,1,calm", "column 'calm': found 0, but column 'labels' names it"), ("1,0,calm", ""),
                        ("1,0,sea", ""), ("1,1,", ""), ("0,1,[x", "")):  # fmt: skip
        path.write_text(f"text,split,calm,very angry,labels\na,cal,{cells}\n")
        if said:
            with pytest.raises(DatasetError, match=said):
                open_dataset(entry_of(tmp_path, "table", CONCEPTS, modality="text"))
        else:
            open_dataset(entry_of(tmp_path, "table", CONCEPTS, modality="text"))


def test_first_line_that_is_empty(tmp_path: Path) -> None:
    assert "has no columns: its first line" in refusal(tmp_path / "t.csv", "\ntext,split,calm\nx,cal,1\n")


def test_declared_separator_leaves_its_lists_alone() -> None:
    """Other separators may stand in labels then, unless nothing but concepts stands between them."""
    assert not meant_by("calm, very", CONCEPTS, declared=True)
    assert not meant_by("calm/very angry", CONCEPTS, declared=True)
    assert meant_by("calm;very angry", CONCEPTS, declared=True)


def test_columns_that_differ_in_white_space_alone(tmp_path: Path) -> None:
    """Nobody sees which of them is taken."""
    (tmp_path / "metadata.csv").write_text("text,split,calm, calm,very angry\na,cal,1,0,0\n")
    with pytest.raises(DatasetError, match="names columns twice: calm"):
        open_dataset(entry_of(tmp_path, "table", CONCEPTS, modality="text"))


@pytest.mark.parametrize("column", ["Calm", "calm\u200b", "са\u217cm", "calm:"])
def test_columns_that_look_like_a_concepts(tmp_path: Path, column: str) -> None:
    """The one would be taken and the other passed over; what can be told apart is another column."""
    (tmp_path / "metadata.csv").write_text(f"text,split,calm,{column},very angry\na,cal,1,0,0\n", encoding="utf-8")
    entry = entry_of(tmp_path, "table", CONCEPTS, modality="text")
    if column == "calm:":
        assert open_dataset(entry).records[0].labels == (True, False)
    else:
        with pytest.raises(DatasetError, match="columns that look alike: 'calm' and '"):
            open_dataset(entry)


def test_another_separator_is_the_likely_cause(tmp_path: Path) -> None:
    """Also where cells hold the declared one."""
    (tmp_path / "metadata.csv").write_text("text;split;calm, so;very angry\na;cal;1;0\n")
    with pytest.raises(DatasetError, match=r"line 2: 1 cell, the header has 2; the separator seems to be ';'"):
        open_dataset(entry_of(tmp_path, "table", CONCEPTS, modality="text"))


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ('"[""calm"",",', "expected a list of labels"),
        ("[" * 100_000 + ",", "nested too deeply"),
        (',"[{""start"":0,""start"":1,""end"":2,""label"":""calm""}]"', "keys are named twice among start, start"),
    ],
)
def test_json_in_cells(tmp_path: Path, cells: str, said: str) -> None:
    """What is no JSON, or JSON that says one thing twice or is a bomb, is a problem of its line."""
    (tmp_path / "metadata.csv").write_text(f"text,split,labels,spans\nso calm,cal,{cells}\n")
    with pytest.raises(DatasetError, match=f"line 2: .*{said}"):
        open_dataset(entry_of(tmp_path, "table", CONCEPTS, modality="text"))


def test_labels_of_words_and_spans(tmp_path: Path) -> None:
    """Nor are they dropped where they are of words, of spans, or of lists in JSON."""
    write_texts(tmp_path, ["so calm"], {"calm": [1], "very angry": [0]})
    (tmp_path / "words.csv").write_text("paragraph_id,word,label\n1,so,\n1,calm,Calm\n")
    with pytest.raises(DatasetError, match="line 3: column 'label': found 'Calm', which is no concept"):
        open_dataset(entry_of(tmp_path, "words", CONCEPTS))
    for extra in ({"calm": 1, "very angry": 0}, {"labels": ["calm"]}):
        line = {"text": "so calm", "split": "cal", "spans": [[0, 2, "CALM"]], **extra}
        (tmp_path / "a.jsonl").write_text(json.dumps(line))
        with pytest.raises(DatasetError, match=r"line 1: .*found 'CALM', which is no concept"):
            open_dataset(entry_of(tmp_path / "a.jsonl", "spans", CONCEPTS))
    (tmp_path / "a.jsonl").write_text('{"text": "a", "text": "b", "split": "cal", "labels": []}')
    with pytest.raises(DatasetError, match=r"line 1: .*keys are named twice among text, text, split, labels"):
        open_dataset(entry_of(tmp_path / "a.jsonl", "spans", CONCEPTS))


def test_separator_of_metadata(tmp_path: Path) -> None:
    """The tables of every layout follow the key."""
    (tmp_path / "t.txt").write_text("so calm")
    (tmp_path / "metadata.csv").write_text("text_path;split;calm;very angry\nt.txt;cal;TRUE;FALSE\n")
    (tmp_path / "words.csv").write_text("paragraph_id;word;calm;very angry\n1;so;0;0\n1;calm;true;0\n")
    reader: Any = open_dataset(entry_of(tmp_path, "words", CONCEPTS, separator=";"))
    assert reader.spans("t") == {"calm": [(3, 7)]}
    with pytest.raises(DatasetError, match="its separator seems to be ';'"):
        open_dataset(entry_of(tmp_path, "words", CONCEPTS))


def test_quotes_behind_a_backslash(tmp_path: Path) -> None:
    """In a cell without quotes they are escaped ones, by the rule of databases, or not; in one with quotes there is one
    reading."""
    texts = ['say \\"hi\\"', "a\\", '\\"', 'x, \\"']
    for quoting, doubled in itertools.product(QUOTINGS, (True, False)):
        written = io.StringIO(newline="")
        writer = csv.writer(written, quoting=quoting, doublequote=doubled, escapechar=None if doubled else "\\")
        writer.writerows([["text", "split", *CONCEPTS], *([text, "cal", 1, 0] for text in texts)])
        (tmp_path / "data.csv").write_bytes(written.getvalue().encode())
        entry = entry_of(tmp_path / "data.csv", "table", CONCEPTS, modality="text")
        if doubled:
            reader: Any = open_dataset(entry)
            assert [reader.text(record.example_id) for record in reader.records] == texts
        else:
            with pytest.raises(DatasetError):
                open_dataset(entry)
    (tmp_path / "data.csv").write_text("text,split,calm,very angry\n" + r"a \"b\",cal,1,0" + "\nfine,cal,1,0\n")
    with pytest.raises(DatasetError, match=r'line 2: \\" may be an escaped quote'):
        open_dataset(entry)
