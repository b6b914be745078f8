"""The packaged text data are what the generator writes, in the published layout; the checkpoints load offline."""

import csv
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

import sae_assets
from tools.demo_models.text_data import CONCEPTS, Writer, labelled, paragraphs, split_of, write

DEMO = Path(sae_assets.__file__).parent / "demo"
DATA = DEMO / "data" / "moods_mini"
MODEL = DEMO / "checkpoints" / "gemma-mini"
SAES = DEMO / "checkpoints" / "gemma-mini-sae"


def read(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_generator_reproduces_every_packaged_byte(tmp_path: Path) -> None:
    write(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    packaged = {path.relative_to(DATA): path.read_bytes() for path in DATA.rglob("*") if path.is_file()}
    assert made == packaged


def test_kth_row_of_a_paragraph_is_its_kth_word_and_its_label_the_or_of_theirs() -> None:
    examples, words = read("metadata.csv"), read("words.csv")
    assert list(examples[0]) == ["text_path", *CONCEPTS, "split"]
    assert list(words[0]) == ["paragraph_id", "word", *CONCEPTS]
    by_paragraph = {int(key): list(rows) for key, rows in groupby(words, key=lambda row: row["paragraph_id"])}
    assert list(by_paragraph) == list(range(1, len(examples) + 1))
    for index, example in enumerate(examples):
        rows = by_paragraph[index + 1]
        text = (DATA / example["text_path"]).read_text(encoding="utf-8")
        assert [row["word"] for row in rows] == text.split()
        assert text == " ".join(text.split())
        assert 30 <= len(rows) <= 80
        for concept in CONCEPTS:
            assert {row[concept] for row in rows} <= {"0", "1"}
            assert example[concept] == max(row[concept] for row in rows)


def test_splits_are_interleaved_and_hold_positives_and_negatives_of_every_concept() -> None:
    examples = read("metadata.csv")
    splits = [example["split"] for example in examples]
    assert splits == [split_of(index) for index in range(len(examples))]
    for split, share in (("train", 0.5), ("cal", 0.25), ("test", 0.25)):
        assert splits.count(split) == share * len(splits)
        assert all(split in splits[start : start + 4] for start in range(len(splits) - 3))
        for concept in CONCEPTS:
            positive = sum(int(example[concept]) for example in examples if example["split"] == split)
            assert positive >= 20
            assert 0.12 <= positive / splits.count(split) <= 0.30


def test_no_single_word_gives_a_concept_away() -> None:
    examples = read("metadata.csv")
    texts = [set((DATA / example["text_path"]).read_text(encoding="utf-8").lower().split()) for example in examples]
    for concept in CONCEPTS:
        positive = {index for index, example in enumerate(examples) if example[concept] == "1"}
        for word in set().union(*texts):
            found = {index for index, text in enumerate(texts) if word in text}
            assert 2 * len(found & positive) / (len(found) + len(positive)) < 0.6


def test_marked_words_are_positive_and_marks_leave_no_trace() -> None:
    assert list(labelled("One *two three,* four *five*.", "joy")) == [
        ("One", frozenset()),
        ("two", frozenset({"joy"})),
        ("three,", frozenset({"joy"})),
        ("four", frozenset()),
        ("five.", frozenset({"joy"})),
    ]
    for paragraph in paragraphs(500, seed=3, reserved=True):
        assert not set(paragraph.text) & set("*{}()|")
        assert len(paragraph.concepts) <= 2


def test_what_fiction_says_is_not_positive_and_other_seeds_write_other_text() -> None:
    writer = Writer(5, reserved=True)
    assert not any("*" in writer.distracting(concept) for concept in CONCEPTS for _ in range(200))
    one, other = (paragraphs(50, seed, reserved=False) for seed in (1, 2))
    assert not {paragraph.text for paragraph in one} & {paragraph.text for paragraph in other}


def test_tokenizer_loads_offline_with_bos_and_offsets() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = (DATA / "texts" / "text_0001.txt").read_text(encoding="utf-8")
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], encoded["offset_mapping"]
    assert ids[0] == tokenizer.bos_token_id and tuple(spans[0]) == (0, 0)
    assert ids[1:] == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(text[start:end] for start, end in spans) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert all(len(text[start:end].split()) <= 1 for start, end in spans)
    for strange in ("Größe ☃ 猫", "two  spaces", "tab\tand\nline"):
        assert tokenizer.decode(tokenizer(strange)["input_ids"], skip_special_tokens=True) == strange
        assert tokenizer.unk_token_id not in tokenizer(strange)["input_ids"]


def test_model_loads_offline_and_predicts_the_next_token_far_better_than_chance() -> None:
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = paragraphs(1, seed=12_345, reserved=False)[0].text
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    model = AutoModelForCausalLM.from_pretrained(MODEL).eval()
    base = AutoModel.from_pretrained(MODEL).eval()
    assert type(base).__name__ == "Gemma2Model" and len(tokenizer) == base.config.vocab_size
    with torch.inference_mode():
        assert float(model(input_ids=ids, labels=ids).loss) < 4
        hidden = base(input_ids=ids, output_hidden_states=True).hidden_states
        whole = model(input_ids=ids, output_hidden_states=True).hidden_states
    assert len(hidden) == base.config.num_hidden_layers + 1
    assert all(torch.equal(one, other) for one, other in zip(hidden, whole, strict=True))


def test_sae_has_the_published_keys_shapes_and_dtypes() -> None:
    (path,) = SAES.rglob("params.npz")
    layer, width, l0 = path.relative_to(SAES).parts[:3]
    assert layer.startswith("layer_") and width == "width_1k" and l0.startswith("average_l0_")
    with np.load(path) as arrays:
        assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
            "W_enc": ((128, 1280), "float32"),
            "W_dec": ((1280, 128), "float32"),
            "b_enc": ((1280,), "float32"),
            "b_dec": ((128,), "float32"),
            "threshold": ((1280,), "float32"),
        }
        assert all(np.isfinite(array).all() for array in arrays.values()) and (arrays["threshold"] > 0).all()
