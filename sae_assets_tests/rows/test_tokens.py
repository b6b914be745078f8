"""Tokens of texts: special ids in place, characters of every token, nothing special in what a text says."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.errors import CheckpointError, DatasetError
from sae_assets.rows.transformers.alignment import align
from sae_assets.rows.transformers.files import quiet
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets_tests.rows.tiny_transformers import (
    GEMMA,
    TEXT,
    WORDS,
    byte_tokenizer,
    entry,
    gemma_tokenizer,
    unigram_tokenizer,
    word_tokenizer,
)

Models = Callable[[str], Path]
TEXTS = [
    "Hello world, this is a café — naïve 日本語 🤖 ok",
    "  two  spaces\n new\tline ",
    "a",
    " ",
    "🤖🤖é",
    "say <bos> or <eos>, [CLS] text [SEP]",
    "<s>hi</s>, <|endoftext|>, <unk> <0x0A> ▁ ## Ġ",
    "ﬁne ½ Ａ",
    "ÀÉ naÏve",
]
MADE = {"gemma2": gemma_tokenizer, "gpt2": byte_tokenizer, "bert": word_tokenizer, "roberta": unigram_tokenizer}
AROUND = {"gemma2": ([2], []), "gpt2": ([], []), "bert": ([2], [3]), "roberta": ([0], [2]), "llama": ([2], [])}


once_made = functools.cache(lambda name: MADE[name]())


def tokens(folder: Path, **settings_: Any) -> Tokens:
    return Tokens(entry(folder, "text", **settings_))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", AROUND)
def test_special_ids_stand_around_the_text(transformer: Models, name: str, text: str) -> None:
    """Those of the tokenizer's own rule, and nowhere else, whatever the text spells."""
    made = tokens(transformer(name))
    found = made.encode(text)
    before, after = AROUND[name]
    own = list(found.ids[found.rows])
    assert list(found.ids) == [*before, *own, *after]
    assert len(own) == len(found.spans)
    special = set(made._tokenizer.all_special_ids) - {made._tokenizer.unk_token_id}
    assert not special & set(own)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", AROUND)
def test_spans_are_the_tokenizers_offsets(transformer: Models, name: str, text: str) -> None:
    """Kept as they are, inside of the text, in order."""
    made = tokens(transformer(name))
    found = made.encode(text)
    offsets = made._tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)["offset_mapping"]
    assert found.spans.tolist() == [list(span) for span in offsets[found.rows]]
    assert all(0 <= start <= end <= len(text) for start, end in found.spans.tolist())
    assert found.n_cut == 0


@pytest.mark.parametrize("name", AROUND)
def test_empty_text_has_no_tokens(transformer: Models, name: str) -> None:
    """Special ids at most; spans of the right shape."""
    found = tokens(transformer(name)).encode("")
    assert tuple(found.spans.shape) == (0, 2)
    assert list(found.ids) == [*AROUND[name][0], *AROUND[name][1]]
    assert found.n_cut == 0


def test_every_byte_of_a_character_has_that_character(transformer: Models) -> None:
    """A robot of four bytes gives four rows, all of the same place, for byte pieces and printable bytes alike."""
    for name in ("gemma2", "gpt2"):
        assert tokens(transformer(name)).encode("é🤖").spans.tolist() == [[0, 1]] * 2 + [[1, 2]] * 4


def test_a_word_with_its_space_keeps_the_tokenizers_offset(transformer: Models) -> None:
    """Gemma cuts behind a space, GPT-2 in front of it: neither is corrected."""
    for name in ("gemma2", "gpt2"):
        text = "Hello world this"
        spans = tokens(transformer(name)).encode(text).spans.tolist()
        assert "".join(text[start:end] for start, end in spans) == text


@pytest.mark.parametrize(("max_tokens", "kept"), [(1, 1), (3, 3), (1000, None)])
def test_max_tokens_counts_the_texts_own(transformer: Models, max_tokens: int, kept: int | None) -> None:
    """Special ids are not counted and stay; what is cut is counted."""
    text = "hello world this is a cafe"
    for name in AROUND:
        full = tokens(transformer(name)).encode(text)
        cut = tokens(transformer(name), max_tokens=max_tokens).encode(text)
        expected = kept or len(full.spans)
        assert cut.ids[cut.rows] == full.ids[full.rows][:expected]
        assert cut.spans.tolist() == full.spans.tolist()[:expected]
        assert cut.n_cut == len(full.spans) - expected
        assert len(cut.ids) - len(cut.spans) == len(full.ids) - len(full.spans)


@pytest.mark.parametrize(
    ("name", "positions", "special"), [("gpt2", 64, 0), ("bert", 64, 2), ("roberta", 64, 2), ("llama", 2048, 1)]
)
def test_no_more_positions_than_the_model_has(transformer: Models, name: str, positions: int, special: int) -> None:
    """Special ids take positions too; RoBERTa sets two of its 66 aside. What is cut is counted."""
    made = tokens(transformer(name))
    assert made.max_positions == positions
    text = ", " * 2100
    found = made.encode(text)
    assert len(found.ids) == positions
    assert len(found.spans) == positions - special
    unlimited = len(made._tokenizer(text, verbose=False)["input_ids"]) - special
    assert found.n_cut == unlimited - len(found.spans) > 0


def test_bos_as_asked(transformer: Models) -> None:
    """Null follows the tokenizer, true adds BOS where it is not there, false leaves it out."""
    ids = {
        (name, bos): tokens(transformer(name), prepend_bos=bos).encode("hello").ids
        for name in ("gemma2", "gpt2", "roberta")
        for bos in (None, True, False)
    }
    for name, bos_id in (("gemma2", 2), ("roberta", 0)):
        assert ids[name, None] == ids[name, True] == (bos_id, *ids[name, False])
    assert ids["gpt2", None] == ids["gpt2", False]
    assert ids["gpt2", True] == (0, *ids["gpt2", None])
    shifted = tokens(transformer("gpt2"), prepend_bos=True).encode("hello")
    assert shifted.ids[shifted.rows] == ids["gpt2", None]


def test_bos_that_does_not_exist(transformer: Models) -> None:
    """BERT has none."""
    with pytest.raises(CheckpointError, match="has no BOS token; leave `prepend_bos` out"):
        tokens(transformer("bert"), prepend_bos=True)


def test_a_special_token_out_of_a_text_is_refused(transformer: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a vocabulary insist on reading a special token out of a text, the text is named."""
    made = tokens(transformer("gemma2"))
    monkeypatch.setattr(made, "_special", made._special | set(made.encode("a").ids[1:]))
    with pytest.raises(DatasetError, match=r"makes the special token.* out of the text 'a'"):
        made.encode("a")


@pytest.mark.parametrize("name", ["gpt2", "bert", "gemma2", "roberta"])
def test_missing_tokenizer_files_are_no_empty_tokenizer(transformer: Models, tmp_path: Path, name: str) -> None:
    """The library makes a tokenizer without words out of nothing: refused, with or without its configuration."""
    folder = shutil.copytree(transformer(name), tmp_path / "model")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
        with pytest.raises(CheckpointError, match=r"has no vocabulary|tokenizer of .* could not be read"):
            tokens(folder)


def test_a_tokenizer_of_another_model(transformer: Models, tmp_path: Path) -> None:
    """More tokens than embeddings are refused when it is opened; of added tokens only ids that a text has."""
    folder = shutil.copytree(transformer("llama"), tmp_path / "model")
    with quiet():
        hf.LlamaConfig(**{**TEXT, "vocab_size": 100}).save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, the model \(llama\) 100 embeddings"):
        tokens(folder)
    made = gemma_tokenizer()
    made.add_tokens(["hello"])
    with quiet():
        made.save_pretrained(folder)
        hf.LlamaConfig(**{**TEXT, "vocab_size": made.vocab_size}).save_pretrained(folder)
    assert tokens(folder).encode("world").ids
    with pytest.raises(CheckpointError, match=rf"gives id {made.vocab_size}, but the model knows 0\.\."):
        tokens(folder).encode("hello")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"vocab_size": 256_000}, "tokens, the model 256,000"),
        ({"vocab_size": 1000}, ""),
        ({"eos_token_id": 7}, "eos_token_id is 1, the model's 7"),
        ({"eos_token_id": [7, 1]}, ""),
        ({"bos_token_id": None}, ""),
        ({"bos_token_id": 50_256}, ""),  # a default of the library's that no tokenizer of this size has
        ({"pad_token_id": 3}, "pad_token_id is 0, the model's 3"),
    ],
)
def test_a_tokenizer_that_may_be_another_models(
    transformer: Models, tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    """A model that has far more embeddings, or other special ids: told, for its rows would look like any others."""
    folder = shutil.copytree(transformer("gemma2"), tmp_path / "model")
    with quiet():
        hf.Gemma2Config(**{**GEMMA, **config}).save_pretrained(folder)
    doubts = tokens(folder).doubts
    assert len(doubts) == bool(said) and said in "".join(doubts)
    assert tokens(transformer("gemma2")).doubts == []


@pytest.mark.parametrize("name", MADE)
def test_a_long_text_is_read_in_silence_and_touches_no_logger(
    transformer: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Telling each logger of the process to be silent took most of the time of a short text."""
    made = tokens(transformer(name))
    made._tokenizer.model_max_length = 3
    hf.utils.logging.enable_propagation()
    monkeypatch.setattr(hf.utils.logging, "set_verbosity", lambda _: pytest.fail("loggers are told for each text"))
    made.encode(TEXTS[0])
    hf.utils.logging.disable_propagation()
    assert not caplog.records


def as_python(folder: Path, made: Any) -> Tokens:
    """The folder's tokens with a tokenizer that gives no offsets."""
    with quiet():
        made.save_pretrained(folder)
    result = tokens(folder)
    result._tokenizer = made
    assert not made.is_fast
    return result


@pytest.mark.parametrize("text", ["", *TEXTS])
def test_bytes_of_a_python_tokenizer(transformer: Models, tmp_path: Path, text: str) -> None:
    """ByT5 reads bytes: as many rows as bytes, each with its character; </s> behind the text."""
    made = as_python(shutil.copytree(transformer("gpt2"), tmp_path / "model"), hf.ByT5Tokenizer())
    found = made.encode(text)
    places = [place for place, letter in enumerate(text) for _ in letter.encode()]
    assert found.spans.tolist() == [[place, place + 1] for place in places]
    assert found.ids[len(places) :] == (1,)


PLAIN = [text for text in TEXTS if "[CLS]" not in text]


@pytest.mark.parametrize("text", ["", *PLAIN, "日本 hello,world!!", "unknownword hello unknown"])
def test_a_python_tokenizer_agrees_with_the_fast_one(transformer: Models, tmp_path: Path, text: str) -> None:
    """BERT's old tokenizer without offsets and its fast one: the same ids, the same characters."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    slow = as_python(shutil.copytree(transformer("bert"), tmp_path / "m"), BertTokenizerLegacy(tmp_path / "vocab.txt"))
    expected, found = tokens(transformer("bert")).encode(text), slow.encode(text)
    assert found.ids == expected.ids
    assert found.spans.tolist() == expected.spans.tolist()
    with pytest.raises(DatasetError, match=r"makes the special token\(s\) '\[CLS\]' out of the text"):
        slow.encode("a [CLS] b")  # its own rule cannot be told to leave this alone


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("abehlorw .,-<>/\n é日🤖İß▁#Ġ"), max_size=30))
def test_alignment_is_the_fast_tokenizers(name: str, text: str) -> None:
    """Tokens alone, without offsets, are found where the fast tokenizer says they are."""
    made = once_made(name)
    found = made(text, return_offsets_mapping=True, return_special_tokens_mask=True, split_special_tokens=True)
    own = [place for place, special in enumerate(found["special_tokens_mask"]) if not special]
    pieces = made.convert_ids_to_tokens([found["input_ids"][place] for place in own])
    aligned = align(text, pieces, made.unk_token)
    expected = [tuple(found["offset_mapping"][place]) for place in own]
    if name in ("gemma2", "gpt2"):  # lossless: every byte is matched
        assert aligned == expected
    elif aligned is not None:
        assert len(aligned) == len(expected)
        assert all(start <= end <= len(text) for start, end in aligned)


def test_what_cannot_be_matched_is_refused(transformer: Models, tmp_path: Path) -> None:
    """No guess: None from the alignment, an error with the text from the tokens."""
    assert align("hello", ["good", "bye"]) is None
    assert align("hello", ["hel"]) is None
    assert align("hello", []) is None
    assert align("", []) == []

    class Liar(hf.ByT5Tokenizer):
        def _tokenize(self, text: str) -> list[str]:
            return ["x"] * len(text)

    made = as_python(shutil.copytree(transformer("gpt2"), tmp_path / "model"), Liar())
    with pytest.raises(DatasetError, match=r"Liar.* gives no offsets, .*cannot be found in the text 'hello'"):
        made.encode("hello")


def test_unknown_pieces_take_as_little_as_they_may() -> None:
    """Backtracking: a gap grows only where the tokens behind it ask for it."""
    assert align("xa a", ["[UNK]", "a"], "[UNK]") == [(0, 2), (3, 4)]
    assert align("x xx", ["[UNK]", "[UNK]"], "[UNK]") == [(0, 1), (2, 4)]
    assert align("ab cd", ["a@@", "b", "cd</w>"], "[UNK]") == [(0, 1), (1, 2), (3, 5)]
