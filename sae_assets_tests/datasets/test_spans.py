"""The spans layout: JSON lines, spans in characters, labels with and without a place."""

from pathlib import Path
from typing import Any

import pytest

from sae_assets.datasets import TextReader, open_dataset
from sae_assets.datasets.records import Record
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of, write_lines

CONCEPTS = ("joy", "love")


def line(text: str = "abc", spans: Any = (), **cells: Any) -> dict[str, Any]:
    return {"text": text, "spans": list(spans), "split": "cal", **cells}


def opened(root: Path, **changes: Any) -> TextReader:
    reader = open_dataset(entry_of(root, "spans", CONCEPTS, **changes))
    assert isinstance(reader, TextReader)
    return reader


def problems(root: Path, *lines: Any, **changes: Any) -> tuple[str, ...]:
    write_lines(root / "a.jsonl", lines)
    with pytest.raises(DatasetError) as caught:
        opened(root, **changes)
    assert "Data set 'spans'" in str(caught.value)
    return caught.value.problems


def test_spans_are_code_points(tmp_path: Path) -> None:
    """Mappings and triples mean the same; a multi-byte character is one; spans come in order, each once."""
    text = "😀é\r\nab"
    spans = [[4, 6, "joy"], {"start": 0, "end": 2, "label": "joy"}, [0, 2, "joy"], [1, 2, "love"], [0, 6, "other"]]
    write_lines(tmp_path / "a.jsonl", [line(text, spans)])
    reader = opened(tmp_path)
    assert reader.text("1") == text
    assert reader.spans("1") == {"joy": [(0, 2), (4, 6)], "love": [(1, 2)]}
    assert [text[a:b] for a, b in reader.spans("1")["joy"]] == ["😀é", "ab"]


def test_labels_come_from_spans_and_from_labels(tmp_path: Path) -> None:
    """A label without a span is true and nowhere; labels that are no concepts are passed over."""
    lines = [line(spans=[[0, 1, "joy"]]), line(labels=["love", "fear"]), line(labels="joy", spans=[[0, 1, "love"]])]
    write_lines(tmp_path / "a.jsonl", lines)
    reader = opened(tmp_path)
    assert [record.labels for record in reader.records] == [(True, False), (False, True), (True, True)]
    assert reader.spans("2") == {}
    assert reader.has_regions


def test_no_spans_at_all_is_weak_truth(tmp_path: Path) -> None:
    """Texts with labels alone: nothing is located."""
    write_lines(tmp_path / "a.jsonl", [{"text": "a", "labels": ["joy"], "split": "test"}])
    assert not opened(tmp_path).has_regions


def test_one_file_or_a_folder(tmp_path: Path) -> None:
    """Ids are line numbers, with the file's name where there are several; blank lines keep their numbers."""
    write_lines(tmp_path / "a.jsonl", ["", line("x"), "", line("y")])
    assert [record.example_id for record in opened(tmp_path / "a.jsonl").records] == ["2", "4"]
    write_lines(tmp_path / "b.jsonl", [line("z")])
    reader = opened(tmp_path)
    assert [record.example_id for record in reader.records] == ["a-2", "a-4", "b-1"]
    assert [reader.text(record.example_id) for record in reader.records] == ["x", "y", "z"]


def test_own_ids_and_other_column_names(tmp_path: Path) -> None:
    """``columns`` names what is called otherwise."""
    cells = {"uid": 7, "body": "abc", "marks": [[0, 1, "joy"]], "tags": ["love"], "part": "train"}
    write_lines(tmp_path / "a.jsonl", [cells])
    columns = {"id": "uid", "text": "body", "spans": "marks", "labels": "tags", "split": "part"}
    reader = opened(tmp_path, columns=columns)
    assert reader.records == [Record("7", "a.jsonl", "train", (True, True))]
    assert reader.spans("7") == {"joy": [(0, 1)]}


def test_empty_text_and_separators_inside(tmp_path: Path) -> None:
    """A text of nothing is a text; line separators of Unicode inside a text are no line ends of the file."""
    write_lines(tmp_path / "a.jsonl", [line(""), line("a\u2028b\u0085c", [[2, 3, "joy"]])])
    reader = opened(tmp_path)
    assert (reader.text("1"), reader.spans("1")) == ("", {})
    assert reader.text("2") == "a\u2028b\u0085c"


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ([0, 4, "joy"], "span 0 to 4 of 'joy' is empty or leaves the text, which has 3 characters"),
        ([-1, 2, "joy"], "span -1 to 2 of 'joy' is empty or leaves the text"),
        ([2, 2, "joy"], "span 2 to 2 of 'joy' is empty or leaves"),
        ([2, 1, "joy"], "span 2 to 1 of 'joy' is empty or leaves"),
        ([0, "1", "joy"], "expected two characters and a label"),
        ([0.0, 1, "joy"], "expected two characters and a label"),
        ([False, True, "joy"], "expected two characters and a label"),
        ([0, 1, None], "expected two characters and a label"),
        ({"start": 0, "label": "joy"}, "expected two characters and a label"),
        ([0, 1], "expected a list of {start, end, label} or [start, end, label]: found [0, 1]"),
        ("joy", "expected a list of {start, end, label} or [start, end, label]: found 'joy'"),
    ],
)
def test_bad_span_is_named_with_its_line(tmp_path: Path, span: Any, said: str) -> None:
    """One wrong span is one problem with line, column and what was found."""
    (problem,) = problems(tmp_path, line(), line(spans=[span]))
    assert problem.startswith("line 2: column 'spans': ") and said in problem


def test_problems_of_all_lines_together(tmp_path: Path) -> None:
    """Text, split and span: three lines, three problems."""
    found = problems(tmp_path, line(text=3), line(split="dev"), line(spans=[[0, 9, "joy"]]), line())
    assert [problem.split(": ")[0] for problem in found] == ["line 1", "line 2", "line 3"]


def test_lines_that_are_no_objects(tmp_path: Path) -> None:
    """Broken JSON and other values, each with its line; a surrogate alone is no text."""
    found = problems(tmp_path, "{", "[1]", line())
    assert found[0].startswith("line 1: not JSON") and found[1].startswith("line 2: found list, expected an object")
    assert "expected a text" in problems(tmp_path, '{"text": "\\ud800", "split": "cal", "spans": []}')[0]


def test_duplicate_ids(tmp_path: Path) -> None:
    """Both lines are named."""
    found = problems(tmp_path, line(id="x"), line(id="y"), line(id="x"), columns={"id": "id"})
    assert found == ("example 'x' is named more than once (lines 1, 3); ids (file stems) must differ",)


def test_missing_columns_are_said_with_what_to_do(tmp_path: Path) -> None:
    """No split: add the column, or let it be drawn; another column: the nearest name."""
    (problem,) = problems(tmp_path, {"text": "a", "spans": []})
    assert "'split' not found among text, spans" in problem and "`split` in the catalog" in problem
    assert "did you mean 'text'?" in problems(tmp_path, line(), columns={"text": "txt"})[0]


def test_misspelt_concept(tmp_path: Path) -> None:
    """A concept that occurs nowhere, where a label is spelt nearly so, is a mistake; another rare one is not."""
    found = problems(tmp_path, line(labels=["joyy"]))
    assert found == ("concept 'joy' is true of no example; did you mean 'joyy'?",)
    write_lines(tmp_path / "a.jsonl", [line(labels=["fear"])])
    assert opened(tmp_path).records[0].labels == (False, False)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.jsonl"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    """A missing file or folder, a folder without JSON lines, a file of no lines."""
    for root in (tmp_path / name, tmp_path):
        with pytest.raises(DatasetError, match="JSON lines with `text` and `spans`"):
            opened(root)
    write_lines(tmp_path / "a.jsonl", [""])
    with pytest.raises(DatasetError, match="has no examples"):
        opened(tmp_path)


def test_hash_follows_text_and_spans_of_concepts(tmp_path: Path) -> None:
    """Spans of labels that are no concepts, and other lines, change nothing."""
    hashes = []
    for spans, other in [([[0, 1, "joy"]], "x"), ([[0, 1, "joy"], [0, 1, "fear"]], "y"), ([[0, 2, "joy"]], "x")]:
        write_lines(tmp_path / "a.jsonl", [line(spans=spans), line(other)])
        hashes.append(opened(tmp_path).hashes("1"))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line("so calm", [[3, 6, "joy"]]), line("As calm", [[3, 7, "joy"], [0, 2, "love"]])], "1 of 3 spans begin or"),
        ([line("so calm, 日本", [[3, 7, "joy"], [9, 11, "love"]])], ""),
        (
            [line("abc", labels=[]), {"text": "a", "split": "cal", "labels": ["joy"]}],
            "1 of 2 examples have no 'spans', which",
        ),
        ([line("abc", span=[]), line("ab")], "column 'span' is not read; is it 'spans'?"),
        ([line("abc", labels=[], labelss=["joy"])], "column 'labelss' is not read; is it 'labels'?"),
    ],
)
def test_what_check_remarks(tmp_path: Path, lines: list[Any], said: str) -> None:
    """What may be meant, and reads like a slip: offsets inside of words, keys that are nearly those that are read."""
    write_lines(tmp_path / "a.jsonl", lines)
    remarks = opened(tmp_path).remarks()
    assert len(remarks) == bool(said) and said in "".join(remarks)


@pytest.mark.parametrize("key", ["Spans", "LABELS", "labels "])
def test_keys_that_look_like_those_that_are_read(tmp_path: Path, key: str) -> None:
    write_lines(tmp_path / "a.jsonl", [line("a"), {"text": "b", "split": "cal", key: []}])
    with pytest.raises(DatasetError, match=f"has a column {key!r}, which looks like {key.strip().lower()!r} and is"):
        opened(tmp_path)


def test_other_columns_may_look_like_those_that_nobody_needs(tmp_path: Path) -> None:
    """A column per concept says what is true: `Labels` may hold anything then."""
    (tmp_path / "t.csv").write_text("text,split,joy,love,Labels\na,cal,1,0,x\n")
    entry = entry_of(tmp_path / "t.csv", "table", CONCEPTS, modality="text")
    assert open_dataset(entry).records[0].labels == (True, False)
    (tmp_path / "t.csv").write_text("text,split,labels,Labels\na,cal,joy,x\n")
    with pytest.raises(DatasetError, match="has a column 'Labels', which looks like 'labels'"):
        open_dataset(entry)


@pytest.mark.parametrize("identifier", [None, True, [], ["a"], {"a": 1}, 1.5, float("inf"), "", " "])
def test_ids_are_numbers_or_texts(tmp_path: Path, identifier: Any) -> None:
    (said,) = problems(tmp_path, line(id=identifier), columns={"id": "id"})
    assert "column 'id': found" in said
    write_lines(tmp_path / "a.jsonl", [line(id=7), line(id="b"), line(id=8.0)])
    assert [record.example_id for record in opened(tmp_path, columns={"id": "id"}).records] == ["7", "b", "8.0"]


@pytest.mark.parametrize("spans", [False, 0, {}])
def test_what_is_no_list_of_spans_is_no_empty_one(tmp_path: Path, spans: Any) -> None:
    (said,) = problems(tmp_path, {**line(), "spans": spans})
    assert "expected a list of" in said


def test_texts_that_stand_there_again_or_are_none(tmp_path: Path) -> None:
    lines = [line("a"), line("a"), line("b"), {**line("b"), "split": "test"}, line("nan"), line("#NAME?"), line("nano")]
    write_lines(tmp_path / "a.jsonl", lines)
    assert opened(tmp_path).remarks() == [
        "2 texts stand there more than once, 1 of them in several splits",
        "2 texts are what programs write where there is none (nan, NULL, #NAME?, …)",
    ]
