"""Settings of models that nobody means are refused by name, before memory is taken for them or a hub is asked."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sae_assets.catalog import Model, Transformer, load_catalog
from sae_assets.datasets import open_dataset
from sae_assets.errors import CheckpointError
from sae_assets.rows.images import open_geometry
from sae_assets.rows.inspection import inspect_model
from sae_assets.rows.loaded import KEPT
from sae_assets.rows.open_clip.geometry import ImageGeometry
from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.rows.transformers.files import expect_folder, weight_files
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets_tests.rows.tiny_transformers import entry, local

NAN = float("nan")
Settings = dict[str, Any]


def changed(folder: Path, copy: Path, file: str, settings: Settings, *inside: str) -> Path:
    """A copy of a model's folder with other settings in one of its files."""
    shutil.copytree(folder, copy)
    content = json.loads((copy / file).read_text(encoding="utf-8"))
    of = content
    for key in inside:
        of = of.setdefault(key, {})
    of |= settings
    (copy / file).write_text(json.dumps(content), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("inside", "settings"),
    [
        ("vision_cfg", {"width": 10**9}), ("vision_cfg", {"width": -8}), ("vision_cfg", {"width": "x"}),
        ("vision_cfg", {"width": NAN}), ("vision_cfg", {"width": 200_000}), ("vision_cfg", {"layers": 10**9}),
        ("vision_cfg", {"patch_size": 0}), ("vision_cfg", {"patch_size": [16, 16]}), ("vision_cfg", {"head_width": 0}),
        ("vision_cfg", {"image_size": 10**6}), ("vision_cfg", {"image_size": None}),
        ("vision_cfg", {"mlp_ratio": 1e12}),
        ("text_cfg", {"vocab_size": 10**12}), ("text_cfg", {"layers": 10**9}), ("text_cfg", {"width": 10**6}),
        ("preprocess_cfg", {"mean": [NAN] * 3}), ("preprocess_cfg", {"mean": [0.5]}), ("preprocess_cfg", {"std": None}),
        ("preprocess_cfg", {"std": [0, 0, 0]}), ("preprocess_cfg", {"std": [-1, -1, -1]}),
        ("preprocess_cfg", {"interpolation": "evil"}), ("preprocess_cfg", {"resize_mode": "evil"}),
        ("preprocess_cfg", {"mode": "L"}), ("preprocess_cfg", {"fill_color": "x"}),
    ],
)  # fmt: skip
def test_settings_of_open_clip(tiny: Path, tmp_path: Path, inside: str, settings: Settings) -> None:
    """The message has the key and what was found; sizes that the weights cannot fill are such too."""
    at = ("preprocess_cfg",) if inside == "preprocess_cfg" else ("model_cfg", inside)
    folder = changed(tiny, tmp_path / "model", "open_clip_config.json", settings, *at)
    with pytest.raises(CheckpointError) as caught:
        ImageGeometry(Transformer(library="open_clip", path=folder))
    assert "open_clip_config.json" in str(caught.value)
    (key,) = settings
    assert f"{key} is {settings[key]!r}" in str(caught.value) or "numbers or more, but" in str(caught.value)


def test_a_local_folder_of_open_clip_asks_no_hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration may name any model of the hub as the text tower."""
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address) or [])
    named = {"hf_model_name": "somebody/model", "hf_tokenizer_name": "somebody/model"}
    folder = changed(tiny, tmp_path / "model", "open_clip_config.json", named, "model_cfg", "text_cfg")
    with pytest.raises(CheckpointError, match="could not be loaded"):
        VisionTransformer(Transformer(library="open_clip", path=folder), 1)
    assert asked == []


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": [NAN] * 3}, {"image_mean": ["a"] * 3}, {"image_mean": [0.5]}, {"image_mean": None},
        {"image_std": [0, 0, 0]}, {"image_std": [-1, -1, -1]}, {"rescale_factor": float("inf")},
        {"rescale_factor": "x"}, {"resample": 99}, {"resample": "x"}, {"size": {"height": 10**6, "width": 10**6}},
        {"size": {"height": 0, "width": 0}},
        {"do_center_crop": True, "crop_size": {"height": 10**6, "width": 8}},
    ],
)  # fmt: skip
def test_settings_of_image_processors(transformer: Callable[[str], Path], tmp_path: Path, settings: Settings) -> None:
    folder = changed(transformer("vit"), tmp_path / "model", "preprocessor_config.json", settings)
    with pytest.raises(CheckpointError, match="image processor of") as caught:
        TransformersGeometry(local(folder))
    assert f"{[*settings][-1]} is" in str(caught.value)


def test_an_image_processor_that_fails(transformer: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises names the model and the picture's size."""
    geometry = TransformersGeometry(local(transformer("vit")))
    monkeypatch.setattr(geometry, "_processor", lambda **_: 1 / 0)
    with pytest.raises(CheckpointError, match=r"fails on 9x7 pixels \(ZeroDivisionError"):
        geometry.tensor(Image.new("RGB", (9, 7)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": 10**9}, "hidden_size 1,000,000,000, expected 1,048,576 at most"),
        ({"hidden_size": 10**5, "num_attention_heads": 10}, "by config.json, but all of its weights are"),
        ({"vision_config": {"hidden_size": 3}}, "has a vision_config in config.json, but its model has no towers"),
        ({"vision_config": 3}, "has a vision_config in config.json, but its model has no towers"),
        ({"attn_implementation": "somebody/kernel"}, "names code of the hub"),
    ],
)
def test_settings_of_vision_models(
    transformer: Callable[[str], Path], tmp_path: Path, settings: Settings, said: str
) -> None:
    """A block is not made on the CPU before its size is known to fit the weights; a small one may be without them."""
    folder = changed(transformer("vit"), tmp_path / "model", "config.json", settings)
    with pytest.raises(CheckpointError, match=said):
        TransformersGeometry(local(folder))


@pytest.mark.parametrize("most", [-1, 0, "x", NAN])
def test_tokenizers_that_take_no_text(transformer: Callable[[str], Path], tmp_path: Path, most: Any) -> None:
    """All texts would be cut to nothing."""
    folder = changed(transformer("gemma2"), tmp_path / "model", "tokenizer_config.json", {"model_max_length": most})
    with pytest.raises(CheckpointError, match="model_max_length"):
        Tokens(entry(folder, "text"))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["(a+)+$", "((a{1,100}){1,100}){1,100}b"])
def test_patterns_that_do_not_come_to_an_end(
    transformer: Callable[[str], Path], tmp_path: Path, pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library's expressions count their steps and panic, which is no ``Exception``; other texts are read."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    folder = changed(transformer("roberta"), tmp_path / "model", "tokenizer.json", {"pre_tokenizer": split})
    tokens = Tokens(entry(folder, "text"))
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"fails on the text 'aaa.*PanicException.*retry-limit-in-match"):
        tokens.encode("a" * 300 + "!")
    assert time.perf_counter() - started < 60
    assert len(tokens.encode("ok").spans)
    capfd.readouterr()  # the library's own report


def test_a_model_that_fails_is_a_problem_of_check(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """It is asked about its texts first, which says nothing of it, and then for their rows."""
    folder = changed(transformer("gemma2"), tmp_path / "model", "config.json", {"sliding_window": -1})
    dataset = load_catalog().datasets["moods_mini"]
    model: Model = entry(folder, "text", load_catalog().models["gemma-mini"].sae.path or Path())
    found = inspect_model(model, dataset, open_dataset(dataset), 2**24)
    assert not found["sound"] and found["problems"]


def test_what_is_refused_is_not_kept(tiny: Path, tmp_path: Path) -> None:
    """A corrected configuration is read."""
    KEPT.clear()
    folder = changed(tiny, tmp_path / "model", "open_clip_config.json", {"std": [0, 0, 0]}, "preprocess_cfg")
    with pytest.raises(CheckpointError):
        open_geometry(Transformer(library="open_clip", path=folder))
    shutil.copy(tiny / "open_clip_config.json", folder)
    assert open_geometry(Transformer(library="open_clip", path=folder)).n_patches


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "vocab.txt", "preprocessor_config.json"])
def test_settings_of_a_terabyte(transformer: Callable[[str], Path], tmp_path: Path, file: str) -> None:
    """The library would read them whole; they take no room on the disk."""
    folder = changed(transformer("gemma2"), tmp_path / "model", "config.json", {})
    with (folder / file).open("ab") as opened:
        opened.truncate(2**40)
    with pytest.raises(CheckpointError, match=f"{file} has 1,099,511,627,776 bytes"):
        Tokens(entry(folder, "text"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_pipes_are_no_settings(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    folder = changed(transformer("gemma2"), tmp_path / "model", "config.json", {})
    os.mkfifo(folder / "added_tokens.json")
    with pytest.raises(CheckpointError, match=r"added_tokens.json is no file"):
        Tokens(entry(folder, "text"))


def test_folders_of_quantised_weights_say_so(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """Beside a configuration and without one."""
    folder = changed(transformer("vit"), tmp_path / "model", "config.json", {})
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")
    with pytest.raises(CheckpointError, match=r"holds no model.safetensors .* GGUF files are not read"):
        weight_files(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json is not there. GGUF files are not read"):
        expect_folder(folder)
