"""The word-level layout: the k-th row of a paragraph is the k-th word of its text, in characters."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sae_assets.datasets import open_contents, open_dataset
from sae_assets.datasets.layouts.words import WordsReader
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of, write_csv, write_texts, write_words

CONCEPTS = ("joy", "love")
WORDS = "paragraph_id word joy love"


def write(root: Path, texts: Sequence[str], rows: Sequence[Sequence[Any]], columns: str = WORDS) -> Path:
    """Every text has both concepts."""
    write_texts(root, texts, {concept: [1] * len(texts) for concept in CONCEPTS})
    write_words(root, rows, columns)
    return root


def opened(root: Path, concepts: Sequence[str] = CONCEPTS, **changes: Any) -> WordsReader:
    reader = open_dataset(entry_of(root, "words", concepts, **changes))
    assert isinstance(reader, WordsReader)
    return reader


def refusal(root: Path, **changes: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        reader = opened(root, **changes)
        for record in reader.records:
            reader.spans(record.example_id)
    assert "Data set 'words'" in str(caught.value)
    return caught.value


def marked(reader: WordsReader, example: str) -> dict[str, list[str]]:
    text = reader.text(example)
    return {concept: [text[a:b] for a, b in spans] for concept, spans in reader.spans(example).items()}


def test_words_become_spans_in_characters(tmp_path: Path) -> None:
    """Multi-byte characters count once, repeated white space and line ends separate without counting as words."""
    text = "  Ich 😀 liebe\r\n\r\nCafé,\u00a0sehr!  "
    rows = [[1, "Ich", 0, 0], [1, "😀", 1, 0], [1, "liebe", 1, 1], [1, "Café,", 0, 1], [1, "sehr!", 0, 0]]
    reader = opened(write(tmp_path, [text], rows))
    assert reader.text("text_0") == text
    assert marked(reader, "text_0") == {"joy": ["😀", "liebe"], "love": ["liebe", "Café,"]}
    assert reader.spans("text_0")["joy"] == [(6, 7), (8, 13)]


def test_texts_alone_do_not_need_the_table_of_words(tmp_path: Path) -> None:
    """Who looks at texts does not wait for it; what is wrong with it is said when it is asked for."""
    write(tmp_path, ["good day"], [[1, "good", 1, 0], [7, "day", 0, 2]])
    reader = open_contents(entry_of(tmp_path, "words", CONCEPTS))
    assert isinstance(reader, WordsReader) and reader.text("text_0") == "good day"
    for asked in (lambda: reader.spans("text_0"), reader.read_regions, lambda: opened(tmp_path)):
        with pytest.raises(DatasetError, match=r"line 3: column 'love': found '2'"):
            asked()


def test_a_table_written_twice_within_a_tick_is_read_again(tmp_path: Path) -> None:
    """Its time and its size are the same, and what it says is not: both tables, metadata and words."""
    tick = time.time_ns() + 10**10  # young however long this test takes
    for joy, love in ((1, 0), (0, 1)):
        write_texts(tmp_path, ["a"], {"joy": [joy], "love": [love]})
        write_words(tmp_path, [[1, "a", joy, love]], WORDS)
        for table in tmp_path.glob("*.csv"):
            os.utime(table, ns=(tick, tick))
        reader = opened(tmp_path)
        assert reader.records[0].labels == (joy, love)
        assert marked(reader, "text_0") == {"joy" if joy else "love": ["a"]}


def test_paragraphs_are_positions_counted_from_one(tmp_path: Path) -> None:
    """Rows of other paragraphs may stand between; the order within a paragraph counts."""
    rows = [[2, "c", 1, 0], [1, "a", 0, 1], [2, "d", 0, 0], [1, "b", 1, 0]]
    reader = opened(write(tmp_path, ["a b", "c d"], rows))
    assert marked(reader, "text_0") == {"love": ["a"], "joy": ["b"]}
    assert marked(reader, "text_1") == {"joy": ["c"]}


def test_empty_text_has_no_words(tmp_path: Path) -> None:
    """A text of nothing, or of white space, needs no rows."""
    reader = opened(write(tmp_path, ["", "a", " \n"], [[2, "a", 1, 1]]))
    assert [reader.spans(f"text_{place}") for place in range(3)] == [{}, {"joy": [(0, 1)], "love": [(0, 1)]}, {}]


def test_labels_of_the_text_decide_what_counts(tmp_path: Path) -> None:
    """A word of a concept that the text has not is passed over."""
    write_texts(tmp_path, ["a"], {"joy": [0], "love": [1]})
    write_words(tmp_path, [[1, "a", 1, 1]], WORDS)
    assert opened(tmp_path).spans("text_0") == {"love": [(0, 1)]}


def test_word_column_may_be_absent(tmp_path: Path) -> None:
    """Then only the number of words can be compared."""
    reader = opened(write(tmp_path, ["a b"], [[1, 0, 1], [1, 1, 0]], "paragraph_id joy love"))
    assert marked(reader, "text_0") == {"love": ["a"], "joy": ["b"]}


@pytest.mark.parametrize("yes", ["1", "sarcastic"])
def test_single_label_column_of_one_concept(tmp_path: Path, yes: str) -> None:
    """The published word tables may call the column otherwise than the concept."""
    write_texts(tmp_path, ["a b"], {"sarcastic": [1]})
    write_words(tmp_path, [[1, "a", "0"], [1, "b", yes]], "paragraph_id word label", "word_level_sarcasm.csv")
    assert opened(tmp_path, ("sarcastic",)).spans("text_0") == {"sarcastic": [(2, 3)]}


def test_single_label_column_of_several_concepts(tmp_path: Path) -> None:
    """One column names each word's concept; other labels and none are passed over."""
    rows = [[1, "a", "joy"], [1, "b", "grief"], [1, "c", ""], [1, "d", "love"]]
    write(tmp_path, ["a b c d"], rows, "paragraph_id word emotion")
    assert marked(opened(tmp_path), "text_0") == {"joy": ["a"], "love": ["d"]}
    named = opened(tmp_path, columns={"labels": "emotion"})
    assert marked(named, "text_0") == {"joy": ["a"], "love": ["d"]}


def test_single_label_column_that_never_names_a_concept(tmp_path: Path) -> None:
    """A column of something else is not taken for labels silently."""
    write(tmp_path, ["a b"], [[1, "a", "joyy"], [1, "b", "x"]], "paragraph_id word emotion")
    assert refusal(tmp_path).problems == (
        "column 'emotion' never names 'joy'; did you mean 'joyy'?",
        "column 'emotion' never names 'love'",
    )


def test_words_that_are_not_the_texts(tmp_path: Path) -> None:
    """All of a text's differences are said, with line and both words."""
    write(tmp_path, ["a b c"], [[1, "a", 0, 0], [1, "B", 0, 0], [1, "", 0, 0]])
    assert refusal(tmp_path).problems == (
        "line 3: column 'word': found 'B', the text's word is 'b'",
        "line 4: column 'word': found '', the text's word is 'c'",
    )


@pytest.mark.parametrize("count", [1, 3])
def test_other_number_of_rows_than_words(tmp_path: Path, count: int) -> None:
    """A text with more or fewer rows than words has no known alignment."""
    write(tmp_path, ["a b"], [[1, "ab"[k] if k < 2 else "c", 0, 0] for k in range(count)])
    assert f"'texts/text_0.txt' has 2 words, but {count} rows of the table" in refusal(tmp_path).problems


def test_bad_cells_are_named_together(tmp_path: Path) -> None:
    """Labels, paragraph numbers: each with its line."""
    write(tmp_path, ["a"], [[1, "a", 2, "x"], ["one", "b", 0, 0], ["-1", "b", 0, 0]])
    assert refusal(tmp_path).problems == (
        "line 2: column 'joy': found '2', expected 0 or 1",
        "line 2: column 'love': found 'x', expected 0 or 1",
        "line 3: column 'paragraph_id': found 'one', expected a whole number",
        "line 4: column 'paragraph_id': found '-1', expected a whole number",
    )


def test_paragraphs_that_are_no_example(tmp_path: Path) -> None:
    """Numbers beyond the table of examples, and zero."""
    write(tmp_path, ["a"], [[1, "a", 0, 0], [0, "b", 0, 0], [2, "b", 0, 0]])
    assert refusal(tmp_path).problems == (
        "line 3: column 'paragraph_id': found 0, expected a position in metadata.csv, 1 to 1",
        "line 4: column 'paragraph_id': found 2, expected a position in metadata.csv, 1 to 1",
    )


def test_missing_columns_with_suggestions(tmp_path: Path) -> None:
    """One concept of two is missing: it is named with the nearest column."""
    write(tmp_path, ["a"], [[1, "a", 0, 0]], "paragraph_id word joy lov")
    assert refusal(tmp_path).problems == ("'love' not found among paragraph_id, word, joy, lov; did you mean 'lov'?",)


def test_table_of_words_is_found_or_named(tmp_path: Path) -> None:
    """None, and two of them, are errors that say which key names one."""
    write(tmp_path, ["a"], [[1, "a", 1, 1]])
    other = write_words(tmp_path, [[1, "a", 0, 1]], WORDS, "word_level_other.csv")
    assert "word_level_emotion.csv, " in str(refusal(tmp_path)) and "`annotations`" in str(refusal(tmp_path))
    assert opened(tmp_path, annotations=other).spans("text_0") == {"love": [(0, 1)]}
    other.unlink()
    (tmp_path / "word_level_emotion.csv").unlink()
    assert "no word_level*.csv in" in str(refusal(tmp_path))


def test_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    """Neither of the text nor of its first word."""
    write(tmp_path, ["\ufeffa"], [[1, "a", 1, 0]])
    assert opened(tmp_path).text("text_0") == "a"
    assert opened(tmp_path).spans("text_0") == {"joy": [(0, 1)]}


def test_text_that_is_not_utf8_or_gone(tmp_path: Path) -> None:
    """The file is named."""
    reader = opened(write(tmp_path, ["a"], [[1, "a", 1, 0]]))
    (tmp_path / "texts/text_0.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match=r"'texts/text_0\.txt' is not UTF-8"):
        reader.text("text_0")
    (tmp_path / "texts/text_0.txt").unlink()
    with pytest.raises(DatasetError, match=r"'texts/text_0\.txt' does not exist"):
        reader.text("text_0")


def test_hash_follows_text_and_words_of_its_example_only(tmp_path: Path) -> None:
    """Another paragraph's label changes nothing here."""
    hashes = []
    for first, second in [(0, 0), (0, 1), (1, 1)]:
        write(tmp_path, ["a", "b"], [[1, "a", first, 0], [2, "b", second, 0]])
        hashes.append(opened(tmp_path).hashes("text_0"))
    assert hashes[0] == hashes[1] != hashes[2]
    (tmp_path / "texts/text_0.txt").write_text("a ")
    assert opened(tmp_path).hashes("text_0")[0] != hashes[2][0]


@pytest.mark.parametrize("hostile", ["../x.txt", "/etc/passwd", "texts\\text_0.txt"])
def test_paths_stay_inside(tmp_path: Path, hostile: str) -> None:
    """A text outside the folder is not read."""
    (tmp_path / "x.txt").write_text("secret")
    root = write(tmp_path / "set", ["a"], [[1, "a", 1, 0]])
    write_csv(root / "metadata.csv", [{"text_path": hostile, "joy": 1, "love": 0, "split": "cal"}])
    assert "expected a path inside the data set's folder" in str(refusal(root))


def test_words_out_of_order(tmp_path: Path) -> None:
    """Without the words their numbers tell that rows were sorted otherwise; with the words numbers are free."""
    rows = [(1, 2, 1, 0), (1, 0, 0, 0), (1, 1, 0, 0)]
    said = str(refusal(write(tmp_path, ["so calm now"], rows, "paragraph_id word_id joy love")))
    assert "line 3: column 'word_id': found '0' behind the same or a later word" in said
    rows = [(1, 1, "so", 1, 0), (1, 1, "calm", 0, 0), (1, 0, "now", 0, 0)]
    reader = opened(write(tmp_path, ["so calm now"], rows, "paragraph_id word_id word joy love"))
    assert marked(reader, "text_0") == {"joy": ["so"]}
