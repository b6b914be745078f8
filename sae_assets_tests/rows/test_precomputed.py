"""Embeddings made elsewhere: which rows are whose, by index, number or tokenizer; what does not fit is named."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from sae_assets.catalog import Dataset
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples, describe_labels
from sae_assets.datasets import open_dataset
from sae_assets.errors import CatalogError, DatasetError
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.identity import rows_identity
from sae_assets.rows.opening import open_sources, token_spans
from sae_assets.rows.precomputed.files import open_parts
from sae_assets.rows.precomputed.rows import PrecomputedRows, hash_rows
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets.rows.truth import row_truth
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.rows.embedding_folder import (
    WIDTH,
    Write,
    as_chunks,
    as_parquet,
    as_pt,
    as_safetensors,
    files,
    given,
    rows_of,
)
from sae_assets_tests.rows.texts_folder import GivenTexts
from sae_assets_tests.rows.tiny_model import catalog_model
from sae_assets_tests.rows.tiny_transformers import entry
from sae_assets_tests.saes.published import published, save

TEXTS = ["hello world", "", "a café"]


def token_table(folder: Path, index: Sequence[int], **columns: Any) -> tuple[Path, Tensor]:
    rows = given(len(index))
    return as_parquet(folder, rows, "tokens", example_index=pa.array(index, pa.int32()), **columns), rows


def tokens_of(reader: GivenTexts, path: Path, model: Any = None, **changes: Any) -> PrecomputedRows:
    return PrecomputedRows(reader, {"token": files(path, **changes)}, ("token",), "cpu", model)


def test_rows_of_texts_by_example_index(tmp_path: Path) -> None:
    """Any number of rows per text, none too."""
    path, rows = token_table(tmp_path, [0, 0, 0, 2, 2, 2, 2, 2, 2])
    source = tokens_of(GivenTexts(TEXTS), path)
    assert source.rows_per_example("token") is None
    found = source.embed(["0", "1", "2"])
    for each, expected in zip(found, (rows[:3], rows[:0], rows[3:]), strict=True):
        assert torch.equal(each.rows["token"], expected)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ([0, 2, 1], r"example_index falls at row 2; rows must stand in the data set's order"),
        ([0, 1, 3], r"example_index goes from 0 to 3, but the data set has 3 examples \(0\.\.2\)"),
        ([-1, 0, 1], "example_index goes from -1 to 1"),
    ],
)
def test_example_index_that_does_not_fit(tmp_path: Path, index: list[int], said: str) -> None:
    """Order and range."""
    with pytest.raises(DatasetError, match=said):
        tokens_of(GivenTexts(TEXTS), token_table(tmp_path, index)[0])


def test_example_index_must_be_whole(tmp_path: Path, reader: Any) -> None:
    """Integers without nulls; and images have the same number of rows each."""
    texts = GivenTexts(TEXTS)
    for column, said in (
        (pa.array([0.0, 1.0, 2.0]), "is double, expected integers"),
        (pa.array([0, None, 2]), "nulls"),
    ):
        with pytest.raises(DatasetError, match=f"column 'example_index' .*{said}"):
            tokens_of(texts, as_parquet(tmp_path, given(3), example_index=column))
    with pytest.raises(DatasetError, match="example 1 has 1 rows, expected 2"):
        rows_of(reader, token_table(tmp_path, [0, 0, 1, 2, 2])[0])


def test_start_and_end_say_where_tokens_stand(tmp_path: Path) -> None:
    """From the file, not from a tokenizer."""
    path, _ = token_table(tmp_path, [0, 0, 2], start=pa.array([0, 6, 2]), end=pa.array([5, 11, 6]))
    texts = GivenTexts(TEXTS, {})
    entry_ = text_entry(path)
    spans = token_spans(texts, entry_, without_transformer())
    assert [spans(example).tolist() for example in ("0", "1", "2")] == [[[0, 5], [6, 11]], [], [[2, 6]]]


def without_transformer() -> Any:
    return entry(Path("nowhere"), "text").model_copy(update={"transformer": None})


def text_entry(path: Path, **changes: Any) -> Dataset:
    return Dataset(
        root=".", layout="spans", modality="text", concepts=("joy",), models=("tiny",),
        embeddings={"tiny": {"token": {"path": path, **changes}}},
    ).named("texts")  # fmt: skip


def test_where_nothing_says_where_tokens_stand(tmp_path: Path) -> None:
    """With located concepts that is an error; without, only the number of rows counts."""
    path, _ = token_table(tmp_path, [0, 0, 2])
    with pytest.raises(CatalogError, match=r"give columns start and end .* or the model's `transformer`"):
        token_spans(GivenTexts(TEXTS, {}), text_entry(path), without_transformer())("0")
    spans = token_spans(GivenTexts(TEXTS), text_entry(path), without_transformer())
    assert [tuple(spans(example).shape) for example in ("0", "1", "2")] == [(2, 2), (0, 2), (1, 2)]


@pytest.mark.parametrize("write", [as_pt, as_chunks, as_safetensors])
def test_the_tokenizer_counts_where_files_do_not(
    tmp_path: Path, transformer: Callable[[str], Path], write: Write
) -> None:
    """Each text has as many rows as tokens; spans are the tokenizer's, cut tokens are counted. Weights are not read."""
    reader, model = GivenTexts([*TEXTS, "this text is longer"]), entry(transformer("gpt2"), "text", max_tokens=7)
    encoded = [Tokens(model).encode(reader.text(str(place))) for place in range(4)]
    rows = given(sum(len(text.spans) for text in encoded))
    path = write(tmp_path, rows) if write is not as_chunks else as_chunks(tmp_path, rows, (0, 5, 9, len(rows)))
    source = tokens_of(reader, path, model)
    start = 0
    for place, (text, found) in enumerate(zip(encoded, source.embed(list("0123")), strict=True)):
        assert torch.equal(found.rows["token"], rows[start : start + len(text.spans)])
        assert found.n_cut == text.n_cut
        assert torch.equal(source.spans(str(place)), text.spans)
        start += len(text.spans)
    assert encoded[3].n_cut > 0


def test_tokens_that_do_not_add_up(tmp_path: Path, transformer: Callable[[str], Path]) -> None:
    """Both sums; and without a tokenizer what would help."""
    reader, model = GivenTexts(TEXTS), entry(transformer("gpt2"), "text")
    total = sum(len(Tokens(model).encode(text).spans) for text in TEXTS)
    path = as_pt(tmp_path, given(total + 1))
    with pytest.raises(DatasetError, match=rf"holds {total + 1} rows, but .* makes {total} tokens of the 3 texts"):
        tokens_of(reader, path, model)
    for no_tokenizer in (None, without_transformer()):
        with pytest.raises(DatasetError, match="Nothing says how many token rows each text"):
            tokens_of(reader, path, no_tokenizer)
    assert tokens_of(reader, as_pt(tmp_path, given(6)), rows_per_example=2).rows_per_example("token") == 2


def test_spans_of_the_tokenizer_must_fit_the_rows(tmp_path: Path, transformer: Callable[[str], Path]) -> None:
    """Rows by example_index, spans by the tokenizer: their numbers are compared text by text."""
    model, reader = entry(transformer("gpt2"), "text"), GivenTexts(TEXTS, {})
    n_tokens = len(Tokens(model).encode(TEXTS[0]).spans)
    path, _ = token_table(tmp_path, [0] * n_tokens + [2])
    spans = token_spans(reader, text_entry(path), model)
    assert torch.equal(spans("0"), Tokens(model).encode(TEXTS[0]).spans)
    with pytest.raises(DatasetError, match=r"holds 1 rows of '2', but the tokenizer of .* makes \d tokens"):
        spans("2")


def test_a_later_chunk_changes_no_earlier_hash(tmp_path: Path) -> None:
    """New examples with a new chunk file: what was made of the old ones stays up to date."""
    rows = given(20)
    info = as_chunks(tmp_path, rows[:12], (0, 4, 8, 12))
    before = {place: hash_of(info, 6, [str(place)]) for place in range(6)}
    as_chunks(tmp_path, rows, (0, 4, 8, 12, 20))
    assert {place: hash_of(info, 10, [str(place)]) for place in range(6)} == before
    assert len({hash_of(info, 10, [str(place)]) for place in range(10)}) == 10


def hash_of(path: Path, n_examples: int, ids: Sequence[str], **changes: Any) -> str:
    return hash_rows(files(path, rows_per_example=2, **changes), "token", GivenTexts(["x"] * n_examples), ids)


def test_a_changed_file_changes_the_hashes_of_its_rows(tmp_path: Path) -> None:
    """And of no others; an example over a border depends on both files."""
    rows = given(12)
    info = as_chunks(tmp_path, rows, (0, 5, 12))
    before = [hash_of(info, 6, [str(place)]) for place in range(6)]
    torch.save(rows[:5] + 1, tmp_path / "rows_chunk_0.pt")
    after = [hash_of(info, 6, [str(place)]) for place in range(6)]
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, True, False, False, False]


def test_hash_without_known_rows_covers_all_files(tmp_path: Path) -> None:
    """Where only a tokenizer counts rows, every file counts; an unknown example is refused."""
    info, reader = as_chunks(tmp_path, given(12), (0, 5, 12)), GivenTexts(TEXTS)
    before = hash_rows(files(info), "token", reader, ["0"])
    torch.save(given(7) + 1, tmp_path / "rows_chunk_1.pt")
    assert hash_rows(files(info), "token", reader, ["0"]) != before
    with pytest.raises(DatasetError, match="has no example '9'"):
        hash_rows(files(info), "token", reader, ["9"])


def test_unknown_example_is_refused(tmp_path: Path, reader: Any) -> None:
    """By its id."""
    with pytest.raises(DatasetError, match="'pictures' has no example 'z'"):
        list(rows_of(reader, as_pt(tmp_path, given())).embed(["z"]))


def test_files_come_first_and_the_transformer_gives_the_rest(tmp_path: Path, tiny: Path, pictures: ClevrFolder) -> None:
    """Patches from files, CLS from the model: each source with its kinds."""
    entry_ = pictures.entry(embeddings={"tiny": {"patch": {"path": as_pt(tmp_path, given(12, 16))}}})
    model = catalog_model(tiny, tmp_path / "no-sae.pt")
    reader = open_dataset(entry_)
    sources = open_sources(reader, entry_, model, ("patch", "cls"), "cpu", "float32")
    assert [kinds for kinds, _ in sources] == [("patch",), ("cls",)]
    assert [type(source).__name__ for _, source in sources] == ["PrecomputedRows", "ImageRows"]


def test_a_chunk_without_any_transformer(tmp_path: Path, pictures: ClevrFolder) -> None:
    """The whole way: rows of the files through the SAE, weak truth of as many rows, hashes of the files."""
    rows = given(12)
    entry_ = pictures.entry(embeddings={"tiny": {"patch": {"path": as_safetensors(tmp_path, rows)}}})
    sae = save(tmp_path / "sae.pt", published(d=WIDTH, n=20, k=4))
    model = catalog_model(tmp_path, sae).model_copy(update={"transformer": None})
    manifest, reader = Manifest("0000", 0, ("b", "c")), open_dataset(entry_)
    chunk = describe_examples(manifest, reader)
    result = encode_chunk(
        chunk, ("patch",), dataset=entry_, model=model, reader=reader, k_stored=None, precision="float32",
        batch_size=2, device="cpu", memory_budget=2**20,
    )  # fmt: skip
    artifact = result.artifacts["patch"]
    assert (artifact.n_rows, result.rows_per_example) == (8, {"patch": 4})
    state = published(d=WIDTH, n=20, k=4)["model_state_dict"]
    best = ((rows[4:] - state["pre_b"]) @ state["enc"]).topk(4).values
    assert torch.equal(artifact.entries_per_row().long(), (best > 0).sum(1))
    assert float(artifact.values.sum()) == pytest.approx(float(best.clamp(min=0).sum()), rel=1e-5)
    assert rows_identity(entry_, model, "patch") == {"precomputed": "tiny", "rows": None}
    with pytest.raises(CatalogError, match="'tiny' has no transformer, so nothing says how masks become patches"):
        row_truth(describe_labels(manifest, reader), "patch", entry_, model, reader)


def test_parts_know_their_rows_before_any_is_read(tmp_path: Path) -> None:
    """Number and width of every file."""
    parts = open_parts(files(as_chunks(tmp_path, given())))
    assert [(part.n_rows, part.width) for part in parts] == [(5, WIDTH), (0, WIDTH), (7, WIDTH)]
