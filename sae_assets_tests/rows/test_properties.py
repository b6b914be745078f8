"""What files say of how weights were trained is compared with what is used, property by property."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_assets.catalog import Model
from sae_assets.catalog.models import Sae
from sae_assets.rows.properties import KNOWN, OF, filter_in_words, size_in_words, stored_dtype
from sae_assets.rows.training import properties_of, trained_elsewhere
from sae_assets.saes import open_sae
from sae_assets_tests.rows.tiny_model import catalog_model, write_tiny_model
from sae_assets_tests.rows.tiny_transformers import LAYERS, entry
from sae_assets_tests.saes.published import published, save
from sae_assets_tests.saes.published_folders import (
    GEMMA_SCOPE_2,
    saelens_config,
    sparsify_weights,
    weights,
    write_gemma_scope_2,
    write_saelens,
    write_sparsify,
)


@pytest.fixture
def silent(tmp_path: Path) -> Any:
    """An SAE whose file says nothing of its training."""
    return open_sae(Sae(format="clipscope", path=save(tmp_path / "silent.pt", published(d=16, n=40, k=5))))


def beside(folder: Path, name: str, **values: Any) -> None:
    """Write a JSON file, or change keys of the one that is there."""
    before = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
    (folder / name).write_text(json.dumps({**before, **values}))


def test_every_property_is_told_of_every_model(
    tmp_path: Path, silent: Any, tiny: Path, transformer: Callable[[str], Path]
) -> None:
    """All that there are, in order, whatever is known of them; the table of the documents has the same ones."""
    models = [catalog_model(tiny, tmp_path / "sae.pt"), entry(transformer("vit")), entry(transformer("gpt2"), "text")]
    for model in models:
        found = properties_of(silent, model)
        assert tuple(each.name for each in found) == OF[model.modality]
        assert all(each.used for each in found)
        assert [each.differs for each in found if each.differs] == []
        assert json.dumps([each.plain() for each in found])
    assert set(KNOWN) == {name for names in OF.values() for name in names}


def test_of_a_model_that_cannot_be_read_nothing_is_known(tmp_path: Path) -> None:
    """Every property says so."""
    found = properties_of(None, entry(tmp_path / "nowhere", "text"))
    assert tuple(each.name for each in found) == OF["text"] and not any(each.statements or each.sae for each in found)
    assert {each.used for each in found[2:]} == {"not known"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_mean": [0.4815, 0.4578, 0.4082], "image_std": [0.5] * 3}, "mean and std is (0.500, 0.500, 0.500)"),
        ({"resample": 2}, "interpolation is bicubic here, but preprocessor_config.json says bilinear"),
        ({"size": {"height": 32, "width": 32}}, "resize is shortest here, but preprocessor_config.json says squash"),
        (
            {"crop_size": {"height": 48, "width": 48}},
            "image size is 32x32 here, but preprocessor_config.json says 48x48",
        ),
        ({"image_mean": [0.5001] * 3, "image_std": [0.5] * 3, "resample": 3, "crop_size": 32}, ""),
    ],
)
def test_two_writings_of_one_preprocessing(tmp_path: Path, silent: Any, values: dict[str, Any], said: str) -> None:
    """Folders that were published for open_clip and transformers say it twice."""
    folder = write_tiny_model(tmp_path / "model")
    beside(folder, "preprocessor_config.json", **values)
    found = trained_elsewhere(silent, catalog_model(folder, tmp_path / "sae.pt"))
    assert (said in found) if said else found == ""


def test_open_clip_folder(tmp_path: Path, silent: Any) -> None:
    """The size in its preprocessing, QuickGELU in a config of transformers beside it, and what it does not say."""
    folder = write_tiny_model(tmp_path / "model", preprocessing={"size": 48})
    model = catalog_model(folder, tmp_path / "sae.pt")
    assert "image size is 32x32 here, but preprocess_cfg of open_clip_config.json says 48x48" in trained_elsewhere(
        silent, model
    )
    folder = write_tiny_model(tmp_path / "other")
    beside(folder, "config.json", vision_config={"hidden_act": "quick_gelu"})
    model = catalog_model(folder, tmp_path / "sae.pt")
    assert "activation function is gelu here, but config.json says quick_gelu" in trained_elsewhere(silent, model)
    config = json.loads((folder / "open_clip_config.json").read_text())
    del config["preprocess_cfg"]["interpolation"]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    known = {each.name: each.plain() for each in properties_of(silent, model)}
    assert known["interpolation"] == {"used": "bicubic", "model_says": None, "sae_says": None}


def test_weights_of_a_tag_beside_their_own_configuration(tmp_path: Path, silent: Any) -> None:
    """A file under an architecture and a tag, whose folder says other things than the tag."""
    beside(
        tmp_path,
        "open_clip_config.json",
        model_cfg={"vision_cfg": {"image_size": 224}},
        preprocess_cfg={"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"},
    )
    save_file({"x": torch.zeros(2, dtype=torch.float16)}, tmp_path / "weights.safetensors")
    where = {"library": "open_clip", "name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}
    model = Model.model_validate(
        {
            "modality": "image",
            "transformer": {**where, "weights": tmp_path / "weights.safetensors"},
            "layer": 1,
            "sae": {"format": "clipscope", "path": tmp_path / "sae.pt"},
        }
    ).named("mine")
    said = trained_elsewhere(silent, model)
    assert "(0.481, 0.458, 0.408) and (0.269, 0.261, 0.276) here, but open_clip_config.json says (0.500" in said
    assert "interpolation is bicubic here, but open_clip_config.json says bilinear (name the architecture" in said
    known = {each.name: each.plain() for each in properties_of(silent, model)}
    assert known["dtype"]["model_says"] == {"weights.safetensors": "float16"}


def test_transformers_folder(tmp_path: Path, silent: Any, transformer: Callable[[str], Path]) -> None:
    """Sizes that differ, but for DINOv2's; a processor that says nothing leaves its class's defaults, not known."""
    folder = shutil.copytree(transformer("clip_vision"), tmp_path / "clip")
    beside(
        folder,
        "open_clip_config.json",
        model_cfg={"vision_cfg": {"width": 16}, "quick_gelu": False},
        preprocess_cfg={"size": 64},
    )
    said = trained_elsewhere(silent, entry(folder))
    assert "activation function is quick_gelu here, but open_clip_config.json says gelu" in said
    assert "image size is 32x32 here, but preprocess_cfg of open_clip_config.json says 64x64" in said
    dino = {each.name: each for each in properties_of(silent, entry(transformer("dinov2")))}
    assert dino["image size"].statements["config.json"] == "64x64" and dino["image size"].used == "32x32"
    assert dino["image size"].differs == ""
    beit = shutil.copytree(transformer("vit"), tmp_path / "vit")
    config = json.loads((beit / "preprocessor_config.json").read_text())
    (beit / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": config["image_processor_type"], "size": config["size"]})
    )
    known = {each.name: each.plain() for each in properties_of(silent, entry(beit))}
    assert known["interpolation"]["model_says"] is None and known["mean and std"]["model_says"] is None


def test_dtype_of_weights(tmp_path: Path, silent: Any, transformer: Callable[[str], Path]) -> None:
    """Of tensors and configuration; float16 has a smaller range than bfloat16, and that is a warning."""
    folder = shutil.copytree(transformer("gpt2"), tmp_path / "gpt2")
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    beside(folder, "config.json", dtype="bfloat16")
    both = {"config.json": "bfloat16", "model.safetensors": "bfloat16"}
    for precision, warned in (("float32", False), ("bfloat16", False), ("float16", True)):
        model = entry(folder, "text", precision=precision)
        (found,) = [each for each in properties_of(silent, model) if each.name == "dtype"]
        assert (found.used, found.statements) == (precision, both)
        assert ("computed in float16, but config.json says bfloat16" in found.differs) == warned


def test_tokenizer_that_is_to_add_bos(tmp_path: Path, silent: Any, transformer: Callable[[str], Path]) -> None:
    """Its configuration says so, and its rules do not; where the catalog says it, nothing is asked."""
    folder = shutil.copytree(transformer("roberta"), tmp_path / "roberta")
    beside(folder, "tokenizer_config.json", add_bos_token=False)
    said = trained_elsewhere(silent, entry(folder, "text"))
    assert "BOS is True here, but tokenizer_config.json says False (set `prepend_bos: false`)" in said
    assert "BOS is" not in trained_elsewhere(silent, entry(folder, "text", prepend_bos=True))


def saes(folder: Path) -> dict[str, Any]:
    """Checkpoints of formats whose files say something of their training."""
    trained = {
        "model_name": "google/gemma-2-2b", "model_from_pretrained_kwargs": {"torch_dtype": "torch.bfloat16"},
        "prepend_bos": True, "context_size": 64,
    }  # fmt: skip
    write_saelens(folder / "saelens", weights(threshold=False), saelens_config(metadata=trained))
    write_sparsify(folder / "run/layers.1", sparsify_weights())
    beside(folder / "run", "config.json", sae={}, model="meta-llama/Llama-3.2-1B", ctx_len=32, load_in_8bit=True)
    write_gemma_scope_2(folder / "gemmascope", weights(), GEMMA_SCOPE_2)
    places = {"saelens": "saelens", "sparsify": "run/layers.1", "gemmascope": "gemmascope"}
    return {name: open_sae(Sae(format=name, path=folder / place)) for name, place in places.items()}


def test_what_saes_say(tmp_path: Path, transformer: Callable[[str], Path]) -> None:
    """Each format's model, dtype, BOS and length are shown beside what is used; what it does not say is not known."""
    model = entry(transformer("gemma2"), "text", layer=LAYERS - 1)
    found = {kind: {each.name: each.sae for each in properties_of(sae, model)} for kind, sae in saes(tmp_path).items()}
    names = ("model", "dtype", "BOS", "context length")
    assert [found["saelens"][name] for name in names] == ["google/gemma-2-2b", "bfloat16", "True", "64"]
    assert [found["sparsify"][name] for name in names] == ["meta-llama/Llama-3.2-1B", "8 bits", None, "32"]
    assert [found["gemmascope"][name] for name in names] == ["google/gemma-3-4b-pt", None, None, None]
    assert not any(found[kind][name] for kind in found for name in ("activation function", "tokenizer"))


def test_what_saes_say_is_a_warning(tmp_path: Path, transformer: Callable[[str], Path]) -> None:
    """Dtype, length, and a residual stream that TransformerLens changed."""
    made, model = saes(tmp_path), entry(transformer("gemma2"), "text")
    said = trained_elsewhere(made["saelens"], model)
    assert "trained on rows computed in bfloat16, read in float32 (set `precision: bfloat16`)" in said
    assert "computed in" not in trained_elsewhere(made["saelens"], model.model_copy(update={"precision": "bfloat16"}))
    said = trained_elsewhere(made["sparsify"], model)
    assert "computed in 8 bits, read in float32" in said and "trained on texts of 32 tokens" in said
    centred = {"model_name": "gpt2", "model_from_pretrained_kwargs": {"center_writing_weights": True}}
    sae = open_sae(
        Sae(
            format="saelens",
            path=write_saelens(tmp_path / "c", weights(threshold=False), saelens_config(metadata=centred)),
        )
    )
    assert "trained on a model with center_writing_weights" in trained_elsewhere(sae, model)


def test_saes_of_another_model_of_the_hub(silent: Any, transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """Ids of the hub are compared, whoever's copy it is; names of TransformerLens and folders are not."""
    from types import SimpleNamespace

    hub = entry(transformer("gpt2"), "text")
    for used, trained, differs in (
        ("google/gemma-2-2b", "google/gemma-2-2b-it", True),
        ("unsloth/gemma-2-2b", "google/gemma-2-2b", False),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", False),
        ("openai-community/gpt2", "gpt2-small", False),
        ("gpt2", "google/gemma-2-2b", False),
    ):
        assert hub.transformer is not None
        named = hub.transformer.model_copy(update={"path": None, "name": used})
        model = hub.model_copy(update={"transformer": named})
        sae: Any = SimpleNamespace(hook_point=None, training={"model": trained})
        assert (f"trained on {trained}, read from {used}" in trained_elsewhere(sae, model)) == differs


@pytest.mark.parametrize("odd", [{"resample": [1]}, {"image_mean": "x"}, {"size": "big"}, {"crop_size": True}, {}])
def test_odd_settings_say_nothing(tmp_path: Path, silent: Any, odd: dict[str, Any]) -> None:
    """A file beside that makes no sense hinders nobody."""
    folder = write_tiny_model(tmp_path / "model")
    beside(folder, "preprocessor_config.json", **odd)
    assert trained_elsewhere(silent, catalog_model(folder, tmp_path / "sae.pt")) == ""
    model = catalog_model(folder, tmp_path / "sae.pt")
    (folder / "preprocessor_config.json").write_text("[1")
    assert trained_elsewhere(silent, model) == ""
    (folder / "preprocessor_config.json").unlink()
    os.mkfifo(folder / "preprocessor_config.json")  # for which reading would wait
    assert trained_elsewhere(silent, model) == ""


@pytest.mark.parametrize(
    "head", [b"", b"\xff" * 8, (2**40).to_bytes(8, "little"), (9).to_bytes(8, "little") + b"[" * 9]
)
def test_weights_whose_header_makes_no_sense(tmp_path: Path, head: bytes) -> None:
    """No memory is taken for what it says; whoever reads the weights says what is wrong."""
    (tmp_path / "a.safetensors").write_bytes(head)
    assert stored_dtype(tmp_path / "a.safetensors") is stored_dtype(tmp_path / "none") is None
    save_file({"a": torch.zeros(9, dtype=torch.bfloat16), "b": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert stored_dtype(tmp_path / "a.safetensors") == "bfloat16"


def test_spellings() -> None:
    """One word for each way of writing a filter or a size."""
    assert [filter_in_words(value) for value in (3, "bicubic", "PIL.Image.BICUBIC", "InterpolationMode.BICUBIC")] == [
        "bicubic"
    ] * 4
    assert filter_in_words(9) is filter_in_words(None) is filter_in_words(True) is filter_in_words("random") is None
    assert size_in_words(32) == size_in_words([32, 32]) == size_in_words({"height": 32, "width": 32}) == "32x32"
    assert size_in_words({"shortest_edge": 32}) is size_in_words(None) is size_in_words(True) is None
