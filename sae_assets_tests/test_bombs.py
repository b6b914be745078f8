"""Small files that would fill all memory, or exhaust a parser: refused by name before anything is allocated."""

import io
import json
import pickle
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sae_assets import ops, plain_json
from sae_assets.catalog import Transformer, load_catalog
from sae_assets.datasets import open_dataset
from sae_assets.errors import CatalogError, CheckpointError, DatasetError, StoredFileError
from sae_assets.rows.open_clip.weights import locate_weights
from sae_assets.rows.precomputed.files import SafetensorsPart, TensorPart
from sae_assets.rows.transformers.files import read_config as read_model_config
from sae_assets.rows.transformers.files import weight_files
from sae_assets.saes.formats.clipscope import read_clipscope
from sae_assets.saes.weights import read_config, read_npz, read_safetensors
from sae_assets.storage.older_files import OlderFiles
from sae_assets.storage.pt import load as load_pt
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.datasets.layouts import entry_of
from sae_assets_tests.storage.small import ADDRESS

DEEP = "[" * 200_000
MOST_GROWTH = 2**30  # bytes that refusing may take


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Whatever is refused is refused without taking memory for what it claims to be."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_GROWTH


TENSORS = {
    "repeated": torch.zeros(1).expand(2**20, 2**20),
    "sparse": torch.sparse_coo_tensor(
        torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (2**20, 2**20), check_invariants=True
    ),
    "of no device": torch.empty(2**20, 2**20, device="meta"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_hold_less_than_they_say(tmp_path: Path, name: str) -> None:
    """As embeddings of one's own, as an SAE, as an older file, and in the place of a stored file."""
    tensor, path = TENSORS[name], tmp_path / "chunk_chunk_0.pt"

    def saved(content: object, to: Path = path) -> Path:
        to.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, to)
        return to

    with pytest.raises(ValueError, match=r"a\[1\]\.b is a"):
        ops.plain.expect_plain({"a": [torch.ones(2), {"b": tensor}]})
    with pytest.raises(DatasetError, match=r"sparse|view|without numbers|meta"):
        TensorPart(saved(tensor))
    with pytest.raises(CheckpointError):
        read_clipscope(saved({"k": 1, "n_features": 1, "d_in": 1, "model_state_dict": {"enc": tensor}}))
    with pytest.raises(StoredFileError):
        OlderFiles(saved({"indices": tensor, "values": tensor, "format": "sparse_topk", "topk": 2}))
    place = tmp_path.joinpath(*ADDRESS.parts()).with_suffix(".pt")
    saved({"indices": tensor, "values": tensor, "sae_assets": {"header": "{}"}}, place)
    with pytest.raises(StoredFileError):
        ArtifactStore(str(tmp_path)).read(ADDRESS)


def test_views_of_whole_storages_and_empty_tensors_are_plain() -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    shared = [whole, whole]
    shared.append(shared)  # a list in itself
    ops.plain.expect_plain({"a": whole.T, "b": whole[1:], "c": torch.empty(0, 5), "d": shared, "e": "text"})


def test_lists_that_stand_in_lists_are_looked_at_once() -> None:
    part: list = [torch.ones(1)]
    for _ in range(100):
        part = [part] * 10
    ops.plain.expect_plain(part)


def test_safetensors_of_more_tensors_than_anybody_has(tmp_path: Path) -> None:
    """Their names alone would take hundreds of megabytes; none of them holds a number."""
    part = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"tensor_{number:06}": part for number in range(60_000)}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_model.safetensors").hardlink_to(path)
    local = {"path": tmp_path}
    readers: dict[Callable[[], object], type[Exception]] = {
        lambda: read_safetensors(path): CheckpointError,
        lambda: SafetensorsPart(path, "embeddings"): DatasetError,
        lambda: weight_files(tmp_path): CheckpointError,
        lambda: locate_weights(Transformer(library="open_clip", **local)): CheckpointError,
    }
    for read, kind in readers.items():
        with pytest.raises(kind, match=r"its header has [0-9,]+ bytes, expected"):
            read()


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_shards_lie_beside_their_index(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match=f"json names {name!r}, expected names of files beside it"):
        weight_files(tmp_path)


@pytest.mark.parametrize("content", [{"num_hidden_layers": 10**9}, {"text_config": {"n_layers": 10**9}}])
def test_models_of_a_billion_layers(tmp_path: Path, content: dict[str, Any]) -> None:
    """The library makes a list of them."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma2", **content}))
    with pytest.raises(CheckpointError, match=r"layers 1,000,000,000, expected 10,000 at most"):
        read_model_config(Transformer(library="transformers", path=tmp_path), "text_config")


def test_npz_whose_header_says_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "params.npz"
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (2**20, 2**20)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W_enc.npy", array.getvalue())
    with pytest.raises(CheckpointError, match=r"says 4,398,046,511,104 bytes of numbers"):
        read_npz(path)


def test_npz_that_grows_out_of_all_proportion(tmp_path: Path) -> None:
    path = tmp_path / "params.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("W_enc.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**24,)})
        for _ in range(64):
            file.write(bytes(2**20))
    with pytest.raises(CheckpointError, match="grows from"):
        read_npz(path)
    np.savez_compressed(path, W_enc=np.zeros((100, 100), np.float32))  # of small ones nobody is afraid
    assert read_npz(path)["W_enc"].shape == (100, 100)


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 200_000])
def test_json_that_is_nested_too_deeply(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        plain_json.parse(text)
    path = tmp_path / "cfg.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        read_config(path)


def test_configuration_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "cfg.json"
    with path.open("wb") as file:
        file.truncate(2**30)  # takes no room on the disk
    with pytest.raises(CheckpointError, match=r"1,073,741,824 bytes, expected"):
        read_config(path)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "stands for more than 1,000,000 values"),
        ("a: &a [*a]\n", "stands for more than"),
        ("a: " + DEEP[:20_000], "nested too deeply"),
        pytest.param("a: " + DEEP, "nested too deeply", marks=pytest.mark.long),
        ("a: 1" + ":59" * 100_000, "found a number of 300,001 characters"),
        ("a: " + "9" * 100_000, "found a number of 100,000 characters"),
    ],
    ids=["laughs", "itself", "deep", "deeper", "sexagesimal", "digits"],
)
def test_catalog_that_is_a_bomb(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=said):
        load_catalog(path)


def test_aliases_of_people_are_read(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text("models: {}\ndatasets: {}\n")
    assert load_catalog(path).datasets.keys() == load_catalog().datasets.keys()


def test_parquet_of_more_rows_than_it_has_room_for(tmp_path: Path) -> None:
    """So often the same, which would become Python's texts one by one; few equal rows are let through."""
    for count, said in ((200_000, "says 200,000 rows in"), (50, "")):
        one = pa.array(np.zeros(count, np.int32))
        columns = {
            name: pa.DictionaryArray.from_arrays(one, [value]).cast(pa.string())
            for name, value in (("text", "a"), ("split", "cal"), ("labels", "calm"))
        }
        pq.write_table(pa.table(columns), tmp_path / "metadata.parquet")
        entry = entry_of(tmp_path, "table", ("calm",), modality="text")
        if said:
            with pytest.raises(DatasetError, match=said):
                open_dataset(entry)
        else:
            assert len(open_dataset(entry).records) == count


def test_parquet_that_grows_a_thousandfold(tmp_path: Path) -> None:
    """One text of 70 MB in a few kB; what is large and differs is read."""
    entry = entry_of(tmp_path, "table", ("calm",), modality="text")
    for text, refused in (("a" * (7 * 10**7), True), (np.random.default_rng(0).bytes(10**6).hex(), False)):
        columns = {"text": [text], "split": ["cal"], "labels": ["calm"]}
        pq.write_table(pa.table(columns), tmp_path / "metadata.parquet", compression="zstd")
        if refused:
            with pytest.raises(DatasetError, match=r"grows from [0-9,]* to 7[0-9],[0-9]{3},[0-9]{3} bytes"):
                open_dataset(entry)
        else:
            assert open_dataset(entry).text("1") == text


class _Code:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize("content", ["code", "parquet", "empty", "cut", "pickle"])
def test_what_needs_code_is_refused_without_advice_to_run_it(tmp_path: Path, content: str) -> None:
    """Torch's own error recommends the way that runs what is in the file; ours says what it is, whoever reads it."""
    path, written = tmp_path / "a.pt", io.BytesIO()
    torch.save({"a": torch.ones(2), "b": _Code()}, written)
    whole = written.getvalue()
    path.write_bytes({"code": whole, "parquet": b"PAR1" + whole, "empty": b"", "cut": whole[:99],
                      "pickle": pickle.dumps({"a": 1})}[content])  # fmt: skip
    readers: dict[Callable[[], object], type[Exception]] = {
        lambda: read_clipscope(path): CheckpointError,
        lambda: TensorPart(path): DatasetError,
        lambda: OlderFiles(path): StoredFileError,
        lambda: load_pt(path.read_bytes(), "it"): StoredFileError,
    }
    for read, kind in readers.items():
        with pytest.raises(kind) as caught:
            read()
        said = str(caught.value)
        assert "arbitrary code" not in said and "`weights_only`" not in said and len(said) < 500 + len(str(path)), said
        assert ("print, which is no tensor" in said) == (content == "code"), said
        assert "()" not in said  # an error without words


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02X", pickle.dumps([1])[:-1]])
def test_what_torch_did_not_write_is_told_as_that(tmp_path: Path, content: bytes) -> None:
    """Torch's own words are a number, or advice."""
    path = tmp_path / "rows.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{ops.plain.NO_FILE}$"):
        ops.plain.load(path)
