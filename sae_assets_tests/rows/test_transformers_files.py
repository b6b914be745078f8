"""Folders of transformers: what names them, what is refused, and that a local one never asks the hub."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError
from sae_assets.rows.identity import transformer_identity
from sae_assets.rows.transformers.files import (
    expect_folder,
    identity,
    quiet,
    read_config,
    read_pretrained,
    weight_files,
)
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets.rows.transformers.vision import TransformersVision
from sae_assets_tests.rows.tiny_transformers import entry, local

Models = Callable[[str], Path]


@pytest.fixture
def folder(transformer: Models, tmp_path: Path) -> Path:
    """A copy of a small model that a test may damage."""
    return shutil.copytree(transformer("vit"), tmp_path / "model")


def shard(folder: Path) -> list[Path]:
    """Cut the weights into two shards with an index, as large models are published."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: whole[key] for key in keys}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return [folder / file for file in sorted(parts)]


def test_identity_of_a_hub_model_is_its_name_and_revision() -> None:
    """Nothing is read or fetched."""
    named = Transformer(library="transformers", name="google/gemma-2-9b", revision="abc")
    expected = {"library": "transformers", "name": "google/gemma-2-9b", "revision": "abc"}
    assert identity(named) == transformer_identity(named) == expected


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_identity_of_a_folder_follows_its_content(transformer: Models, folder: Path, name: str) -> None:
    """A copy elsewhere is the same model; another configuration, other weights or another preprocessor are not."""
    assert identity(local(folder)) == identity(local(transformer("vit")))
    (folder / "README.md").write_text("What is not read does not count.")
    assert identity(local(folder)) == identity(local(transformer("vit")))
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert identity(local(folder)) != identity(local(transformer("vit")))


def test_identity_counts_the_tokenizer(transformer: Models, tmp_path: Path) -> None:
    """Other tokens are other rows."""
    folder = shutil.copytree(transformer("gpt2"), tmp_path / "model")
    before = identity(local(folder))
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(before["files"])
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    assert identity(local(folder)) != before


def test_shards_are_read_and_counted(transformer: Models, folder: Path) -> None:
    """The same rows from two files, each in the identity; a missing one is named."""
    whole = TransformersVision(entry(folder)).embed(torch.zeros(1, 3, 32, 32))
    shards = shard(folder)
    assert weight_files(folder) == shards
    assert {path.name for path in shards} <= set(identity(local(folder))["files"])
    assert torch.equal(TransformersVision(entry(folder)).embed(torch.zeros(1, 3, 32, 32)), whole)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 shard(?s:.*)model-00002-of-00002"):
        weight_files(folder)


def test_missing_folder(tmp_path: Path) -> None:
    """The path and the catalog's key, whatever it is wanted for."""
    for use in (identity, TransformersGeometry, lambda t: read_config(t, "text_config")):
        with pytest.raises(CheckpointError, match=r"nowhere does not exist\. Correct `transformer\.path`"):
            use(local(tmp_path / "nowhere"))


def test_folder_of_something_else(folder: Path) -> None:
    """No config.json: no folder of this library."""
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"is no transformers folder: config\.json is not there"):
        identity(local(folder))


def test_pickled_weights_are_refused(folder: Path) -> None:
    """pytorch_model.bin may run code: named, and what to do instead."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin may run code .* save the model again as safet"):
        TransformersVision(entry(folder))


def test_folder_without_weights(folder: Path) -> None:
    """Enough to know patches and to be named (by another name); what a model needs is said when it is read."""
    before = identity(local(folder))
    (folder / "model.safetensors").unlink()
    assert TransformersGeometry(local(folder)).n_patches == 16
    assert identity(local(folder)) != before
    with pytest.raises(
        CheckpointError, match=r"holds no model\.safetensors and no model\.safetensors\.index\.json\. C"
    ):
        TransformersVision(entry(folder))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"weight_map": 3}'])
def test_damaged_index(folder: Path, content: bytes) -> None:
    """An index that is none is refused by its path."""
    shard(folder)
    (folder / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"index\.json is not readable"):
        weight_files(folder)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x00" * 64])
def test_damaged_weights(folder: Path, content: bytes) -> None:
    """A weights file that is none: the folder and the cause."""
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"The weights of .* could not be read") as caught:
        TransformersVision(entry(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"model_type": "no-such-model"}', b"\xff"])
def test_damaged_configuration(folder: Path, content: bytes) -> None:
    """A configuration that is no JSON or names no known model."""
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"The configuration of .* could not be read"):
        TransformersGeometry(local(folder))


def test_missing_image_processor(folder: Path) -> None:
    """Without its preprocessing a model cannot be used; nothing is guessed."""
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"The image processor of .* could not be read"):
        TransformersGeometry(local(folder))


def test_weights_of_another_shape(folder: Path) -> None:
    """Weights that do not fit config.json are refused, never partly loaded."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(CheckpointError):
        TransformersVision(entry(folder))


def test_missing_weights_count_only_in_front_of_the_place(folder: Path) -> None:
    """Blocks and embeddings must be in the files; a pooler that is never entered may be missing."""
    weights = load_file(folder / "model.safetensors")
    last = {key: tensor for key, tensor in weights.items() if not key.startswith("pooler") and ".2." not in key}
    save_file(last, folder / "model.safetensors", {"format": "pt"})
    TransformersVision(entry(folder, layer=1))
    with pytest.raises(CheckpointError, match=r"lack \d+ of the weights in front of block 2(?s:.*)\.2\."):
        TransformersVision(entry(folder, layer=2))
    whole = {key: tensor for key, tensor in weights.items() if not key.startswith("pooler")}
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    TransformersVision(entry(folder, hidden_state=3))


def test_code_of_a_checkpoint_is_never_run(folder: Path) -> None:
    """A configuration that points to Python files beside it is refused; the file is not imported."""
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": code}))
    (folder / "own.py").write_text("raise SystemExit('was run')")
    with pytest.raises(CheckpointError, match=r"The configuration of .* could not be read"):
        TransformersGeometry(local(folder))


def test_encoder_decoder_is_refused(folder: Path) -> None:
    """Two stacks: which one is meant cannot be known."""
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    with pytest.raises(CheckpointError, match=r"\(t5\) has an encoder and a decoder"):
        read_config(local(folder), "text_config")


def test_hub_model_without_network() -> None:
    """What to set is said."""
    named = Transformer(library="transformers", name="no-one/no-such-model")
    with pytest.raises(
        CheckpointError, match=r"no-one/no-such-model could not be read (?s:.*) Without network, set `transf"
    ):
        read_pretrained("AutoConfig", named, "configuration")


def test_local_folder_asks_no_hub(transformer: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without HF_HUB_OFFLINE nothing but the folder is asked: any request would fail the test."""
    import huggingface_hub.constants

    from sae_assets.rows.transformers.tokens import Tokens

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    TransformersVision(entry(transformer("vit"))).embed(torch.zeros(1, 3, 32, 32))
    assert Tokens(entry(transformer("gemma2"), "text")).encode("hello").ids


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    """It is there, so it is not called missing; of GGUF it is said why it is not read."""
    for name, said in (("model.gguf", "GGUF files are not read"), ("model.safetensors", "Correct")):
        (tmp_path / name).write_bytes(b"GGUF")
        with pytest.raises(CheckpointError, match=rf"{name} is a file; expected a folder in.*{said}"):
            expect_folder(tmp_path / name)


def test_threads_that_are_quiet_leave_the_library_as_it_was() -> None:
    """Whoever comes in between, or leaves last."""
    from transformers.utils import logging as library

    before = library.get_verbosity(), library.is_progress_bar_enabled()
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    assert library.get_verbosity() == logging.CRITICAL and not library.is_progress_bar_enabled()
    first.__exit__(None, None, None)
    assert library.get_verbosity() == logging.CRITICAL
    second.__exit__(None, None, None)
    assert (library.get_verbosity(), library.is_progress_bar_enabled()) == before
