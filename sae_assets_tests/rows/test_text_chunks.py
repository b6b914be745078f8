"""A chunk of texts through tokenizer, model and SAE, and its truth: rows and spans of one and the same tokens."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_assets.artifacts import Examples, Labels
from sae_assets.catalog import Dataset, Model
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples, describe_labels
from sae_assets.datasets import open_dataset
from sae_assets.ops.rounding import to_significant
from sae_assets.rows.encoding import RowsPerKind, encode_chunk
from sae_assets.rows.identity import rows_identity, truth_settings
from sae_assets.rows.texts import open_text_rows
from sae_assets.rows.truth import row_truth
from sae_assets_tests.rows.tiny_transformers import WIDTH, entry
from sae_assets_tests.saes.published import dense_reference, published, save

pytestmark = pytest.mark.slow

TEXTS = ["hello joyful world", "", "this is ok", "a café of joy 🤖 joy"]
SPANS: list[list[tuple[int, int]]] = [[(6, 12)], [], [], [(10, 13), (16, 19)]]
NAMES = ("gemma2", "gpt2", "bert", "roberta")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four texts in JSON lines: two with joy and where it stands, an empty one, one without."""
    lines = [
        {"text": text, "split": "cal", "spans": [[start, end, "joy"] for start, end in spans]}
        for text, spans in zip(TEXTS, SPANS, strict=True)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    made = Dataset(root=tmp_path / "texts.jsonl", layout="spans", modality="text", concepts=("joy",), models=("tiny",))
    return made.named("texts")


def chunk_of(dataset: Dataset) -> Examples:
    reader = open_dataset(dataset)
    return describe_examples(Manifest("0000", 0, tuple(reader.by_id)), reader)


def labels_of(dataset: Dataset) -> Labels:
    reader = open_dataset(dataset)
    return describe_labels(Manifest("0000", 0, tuple(reader.by_id)), reader)


def encode(dataset: Dataset, model: Model, kinds: tuple[str, ...] = ("token", "cls"), **changes: Any) -> RowsPerKind:
    options: dict[str, Any] = {
        "k_stored": None, "precision": "float32", "batch_size": 3, "device": "cpu", "memory_budget": 2**20,
    }  # fmt: skip
    options |= {"dataset": dataset, "model": model, "reader": open_dataset(dataset), **changes}
    return encode_chunk(chunk_of(dataset), kinds, **options)


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_truth_are_of_the_same_tokens(
    transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset, name: str
) -> None:
    """As many truths as rows; tokens that meet a span are positive; values are the dense reference's."""
    model = entry(transformer(name), "text", save(tmp_path / "sae.pt", content := published(d=WIDTH, n=40, k=5)))
    result, chunk = encode(dataset, model), chunk_of(dataset)
    got = row_truth(labels_of(dataset), "token", dataset, model, open_dataset(dataset))
    truth = got.rows
    artifact = result.artifacts["token"]
    assert got.pixels is None and result.rows_per_example == {"token": None, "cls": 1}
    assert artifact.example_offsets.diff().tolist() == [len(rows) for rows in truth]
    assert len(truth[1]) == 0 and not bool(truth[2].any())
    for text, spans, rows in zip(TEXTS, SPANS, truth, strict=True):
        for start, end in spans:
            assert 1 <= int(rows.sum()) < len(rows) and text[start:end] in ("joyful", "joy")
    source = open_text_rows(open_dataset(dataset), model, ("token", "cls"), "cpu", "float32")
    dense = torch.cat([found.rows["token"] for example in chunk.example_ids for found in source.embed([example])])
    expected = dense_reference(content, dense)
    assert torch.equal(artifact.l0.long(), (expected > 0).sum(1))
    assert artifact.total_mass == pytest.approx(float(expected.sum()), rel=1e-5)


@pytest.mark.parametrize("cls_of_texts", ["pooled", "last", "mean_embedding"])
def test_nothing_is_active_on_an_empty_text(
    transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset, cls_of_texts: str
) -> None:
    """An SAE with biases would find units on a row of zeros; that row stands for nothing, and is no row of the fit."""
    content = published(d=WIDTH, n=40, k=5)
    model = entry(transformer("gpt2"), "text", save(tmp_path / "sae.pt", content), cls=cls_of_texts)
    assert bool((dense_reference(content, torch.zeros(1, WIDTH)) > 0).any())
    cls = encode(dataset, model).artifacts["cls"]
    assert cls.n_rows == len(TEXTS)
    assert cls.entries_per_row().tolist()[1] == int(cls.l0[1]) == 0
    assert cls.entries_per_row().tolist()[0] > 0
    assert (None if cls.fit is None else cls.fit.n_rows) == (None if cls_of_texts == "pooled" else len(TEXTS) - 1)


@pytest.mark.parametrize("k_stored", [None, 2])
@pytest.mark.parametrize("changes", [{}, {"batch_size": 1}, {"memory_budget": 1}, {"kinds": ("cls",)}])
def test_pooled_rows_are_the_largest_values_of_whole_codes(
    transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset, k_stored: int | None, changes: dict[str, Any]
) -> None:
    """Whatever is stored of token rows, however they are cut, and with or without them; one row per text, whole."""
    model = entry(transformer("bert"), "text", save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)))
    whole = encode(dataset, model).artifacts["token"]
    cls = encode(dataset, model, **{"k_stored": k_stored, **changes}).artifacts["cls"]
    dense = torch.zeros(whole.n_rows, whole.n_units)
    dense[whole.row_of_entry(), whole.unit_ids.long()] = whole.values
    expected = torch.stack([
        rows.amax(0) if len(rows) else torch.zeros(whole.n_units)
        for rows in dense.split(whole.example_offsets.diff().tolist())
    ])  # fmt: skip
    found = torch.zeros(len(TEXTS), whole.n_units)
    found[cls.row_of_entry(), cls.unit_ids.long()] = cls.values
    assert torch.equal(found, expected) and cls.example_offsets.tolist() == list(range(len(TEXTS) + 1))
    assert cls.k_stored is None and torch.equal(cls.l0.long(), (expected > 0).sum(1))
    assert cls.total_mass == pytest.approx(float(expected.double().sum()), rel=1e-12) and cls.dropped_mass == 0


def test_values_of_16_bits_are_the_exact_ones_rounded(
    transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset
) -> None:
    """Of rows that are cut and of pooled ones; masses, L0 and the fit are of exact values."""
    model = entry(transformer("bert"), "text", save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)))
    exact, halves = (
        encode(dataset, model, k_stored=3, stored_values=name).artifacts for name in ("float32", "float16")
    )
    for kind in ("token", "cls"):
        tables = []
        for artifact in (exact[kind], halves[kind]):
            dense = torch.zeros(artifact.n_rows, artifact.n_units)
            dense[artifact.row_of_entry(), artifact.unit_ids.long()] = artifact.values
            tables.append(dense)
        assert torch.equal(to_significant(tables[0]), tables[1]) and not torch.equal(*tables)
        assert torch.equal(exact[kind].l0, halves[kind].l0) and exact[kind].fit == halves[kind].fit
        assert exact[kind].total_mass == halves[kind].total_mass and halves[kind].stored_values == "float16"


def test_the_last_token_has_the_code_of_its_token_row(
    transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset
) -> None:
    model = entry(transformer("bert"), "text", save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)), cls="last")
    artifacts = encode(dataset, model).artifacts
    token, cls = artifacts["token"], artifacts["cls"]
    for text, stop in enumerate(token.example_offsets.tolist()[1:]):
        if TEXTS[text]:
            ends, of_cls = token.row_offsets[stop - 1 : stop + 1].tolist(), cls.row_offsets[text : text + 2].tolist()
            for name in ("unit_ids", "values"):
                assert torch.equal(getattr(token, name)[slice(*ends)], getattr(cls, name)[slice(*of_cls)])


def test_cut_tokens_are_counted(transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset) -> None:
    """Texts and tokens beyond ``max_tokens``, the same for truth."""
    sae = save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5))
    full = encode(dataset, entry(transformer("gpt2"), "text", sae)).artifacts["token"].example_offsets.diff()
    model = entry(transformer("gpt2"), "text", sae, max_tokens=4)
    cut = encode(dataset, model).artifacts["token"]
    assert cut.example_offsets.diff().tolist() == full.clamp(max=4).tolist()
    assert cut.n_cut_tokens == int((full - 4).clamp(min=0).sum()) > 0
    assert cut.n_cut_examples == int((full > 4).sum())
    truth = row_truth(labels_of(dataset), "token", dataset, model, open_dataset(dataset)).rows
    assert [len(rows) for rows in truth] == full.clamp(max=4).tolist()


@pytest.mark.parametrize("forward_batch", [2, 9])
def test_texts_that_go_together_give_the_same_rows(
    transformer: Callable[[str], Path], tmp_path: Path, dataset: Dataset, forward_batch: int
) -> None:
    """Several texts per forward pass: the same rows of the same length, values equal up to the last bits."""
    model = entry(transformer("roberta"), "text", save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)))
    alone, together = encode(dataset, model).artifacts, encode(dataset, model, forward_batch=forward_batch).artifacts
    for kind in ("token", "cls"):
        assert torch.equal(alone[kind].example_offsets, together[kind].example_offsets)
        assert together[kind].total_mass == pytest.approx(alone[kind].total_mass, rel=1e-4)


def test_what_cls_is_stands_in_its_identity_alone(transformer: Callable[[str], Path], dataset: Dataset) -> None:
    """The mean is what rows of earlier versions are: their identity does not name it."""
    models = [entry(transformer("gemma2"), "text", cls=each) for each in (None, "pooled", "last", "mean_embedding")]
    assert len({str(rows_identity(dataset, model, "token")) for model in models}) == 1
    default, pooled, last, mean = (rows_identity(dataset, model, "cls") for model in models)
    assert default == pooled != last and (pooled["cls"], last["cls"]) == ("pooled", "last") and "cls" not in mean


def test_settings_that_change_tokens_change_fingerprints(transformer: Callable[[str], Path], dataset: Dataset) -> None:
    """Rows and truth of other tokens are others."""
    for changes in ({"max_tokens": 3}, {"prepend_bos": False}):
        one, other = (entry(transformer("gemma2"), "text", **each) for each in ({}, changes))
        for identity in (rows_identity, truth_settings):
            assert identity(dataset, one, "token") != identity(dataset, other, "token")
