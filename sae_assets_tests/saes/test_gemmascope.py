"""Gemma Scope and Gemma Scope 2 are read and encode as published; what is no SAE of the residual stream is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_assets.errors import CheckpointError
from sae_assets.saes.formats.gemmascope import read_gemmascope
from sae_assets_tests.saes.published_folders import (
    GEMMA_SCOPE_2,
    assert_is_dense,
    expected,
    rows,
    weights,
    write_gemma_scope_2,
    write_npz,
)

KINDS = ("npz", "folder")


def write(kind: str, path: Path, tensors: dict[str, Any]) -> Path:
    return write_npz(path / "params.npz", tensors) if kind == "npz" else write_gemma_scope_2(path, tensors)


def refusal(path: Path) -> tuple[str, ...]:
    """The problems with which a checkpoint is refused; the message always names the path."""
    with pytest.raises(CheckpointError) as caught:
        read_gemmascope(path)
    assert str(path) in str(caught.value)
    return caught.value.problems or (str(caught.value),)


@pytest.mark.parametrize("memory_budget", [1, 2**20])
@pytest.mark.parametrize("kind", KINDS)
def test_encodes_as_published(tmp_path: Path, kind: str, memory_budget: int) -> None:
    """relu(z)·[z > threshold] with z = x @ W_enc + b_enc; b_dec is not subtracted from the input."""
    tensors, x = weights(), rows()
    read = read_gemmascope(write(kind, tmp_path, tensors))
    assert (read.d_model, read.n_units) == (6, 20)
    assert_is_dense(read.encoder("cpu", memory_budget).encode(x), expected(x, tensors, subtract=False, threshold=True))


def test_what_it_is_called_and_where_it_was_trained(tmp_path: Path) -> None:
    """Gemma Scope's folders repeat across layers and widths, so the name has all of them."""
    read = read_gemmascope(write_npz(tmp_path / "layer_3/width_16k/average_l0_71/params.npz", weights()))
    assert (read.name, read.hook_point) == ("layer_3/width_16k/average_l0_71", "layer_3")
    read = read_gemmascope(write_gemma_scope_2(tmp_path / "layer_17_width_16k_l0_big", weights()))
    assert (read.name, read.hook_point) == ("layer_17_width_16k_l0_big", "model.layers.17.output")


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"])
@pytest.mark.parametrize("kind", KINDS)
def test_missing_tensors(tmp_path: Path, kind: str, name: str) -> None:
    """The tensor's name as the format spells it, and what is there."""
    tensors = weights()
    del tensors[name]
    spelt = name if kind == "npz" else name.lower()
    assert any(
        problem.startswith(f"tensor {spelt} is missing; found") for problem in refusal(write(kind, tmp_path, tensors))
    )


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Config and tensors: every mistake is one line."""
    tensors = weights() | {"W_dec": torch.zeros(6, 20), "threshold": torch.full((20,), torch.nan)}
    del tensors["W_enc"]
    config = GEMMA_SCOPE_2 | {"type": "transcoder", "affine_connection": True, "width": 21}
    problems = refusal(write_gemma_scope_2(tmp_path, tensors, config))
    assert problems == (
        "type is 'transcoder'; supported: 'sae'",
        "affine_connection is True; supported: False",
        "tensor w_enc is missing; found b_dec, b_enc, threshold, w_dec",
        "w_dec has shape (6, 20), expected (20, 6)",
        "threshold holds values that are not finite",
        "width is 21 in config.json, but b_enc has 20 units",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shapes(tmp_path: Path, kind: str) -> None:
    """A transposed matrix and a threshold for another number of units."""
    tensors = weights() | {"W_enc": torch.zeros(20, 6), "threshold": torch.zeros(1)}
    problems = refusal(write(kind, tmp_path, tensors))
    assert [problem.split(" ", 1)[1] for problem in problems] == [
        "has shape (20, 6), expected (6, 20)",
        "has shape (1,), expected (20,)",
    ]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
def test_other_dtypes_in_npz(tmp_path: Path, dtype: Any) -> None:
    """Published weights are float32; nothing is rounded or reinterpreted silently."""
    tensors: dict[str, Any] = dict(weights())
    tensors["b_enc"] = tensors["b_enc"].numpy().astype(dtype)
    assert refusal(write_npz(tmp_path / "params.npz", tensors)) == (
        f"b_enc has dtype {np.dtype(dtype)}, expected float32",
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_in_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    """As in npz."""
    tensors = weights()
    tensors["b_enc"] = tensors["b_enc"].to(dtype)
    name = str(dtype).removeprefix("torch.")
    assert refusal(write_gemma_scope_2(tmp_path, tensors)) == (f"b_enc has dtype {name}, expected float32",)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_tensors(tmp_path: Path, kind: str) -> None:
    """A tensor that the format does not have, such as a transcoder's skip connection, is not left out in silence."""
    tensors = weights() | {"affine_skip_connection": torch.zeros(6, 6)}
    (problem,) = refusal(write(kind, tmp_path, tensors))
    assert problem.startswith("tensor affine_skip_connection is not of this format, which has ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "transcoder"}, "type is 'transcoder'; supported: 'sae'"),
        ({"type": "crosscoder"}, "type is 'crosscoder'; supported: 'sae'"),
        ({"type": "clt"}, "type is 'clt'; supported: 'sae'"),
        ({"architecture": "relu"}, "architecture is 'relu'; supported: 'jump_relu'"),
        ({"architecture": None}, "architecture is None; supported: 'jump_relu'"),
        ({"affine_connection": True}, "affine_connection is True; supported: False"),
        ({"affine_connection": 0}, "affine_connection is 0; supported: False"),
        (
            {"hf_hook_point_out": "model.layers.18.output"},
            "hf_hook_point_out is 'model.layers.18.output'; supported: 'model.layers.17.output'",
        ),
        ({"width": 16384}, "width is 16384 in config.json, but b_enc has 20 units"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """What was found and what is supported."""
    assert refusal(write_gemma_scope_2(tmp_path, weights(), GEMMA_SCOPE_2 | changes)) == (said,)


@pytest.mark.parametrize(
    "hook",
    [
        "model.layers.17.self_attn.o_proj.input",
        "model.layers.17.post_feedforward_layernorm.output",
        "model.layers.{5,9,12,15}.output",
        None,
        17,
    ],
)
def test_other_places_are_refused(tmp_path: Path, hook: Any) -> None:
    """Attention and MLP outputs, several layers at once, or no place at all."""
    config = GEMMA_SCOPE_2 | {"hf_hook_point_in": hook, "hf_hook_point_out": hook}
    (problem,) = refusal(write_gemma_scope_2(tmp_path, weights(), config))
    assert problem == f"hf_hook_point_in is {hook!r}; supported: the residual stream, 'model.layers.<number>.output'"


def test_a_config_without_the_optional_keys(tmp_path: Path) -> None:
    """Architecture and place are enough; a missing architecture is not assumed."""
    config = {key: GEMMA_SCOPE_2[key] for key in ("architecture", "hf_hook_point_in")}
    assert read_gemmascope(write_gemma_scope_2(tmp_path / "a", weights(), config)).n_units == 20
    del config["architecture"]
    assert "architecture is None; supported: 'jump_relu'" in refusal(
        write_gemma_scope_2(tmp_path / "b", weights(), config)
    )


def test_missing_files_of_the_folder(tmp_path: Path) -> None:
    """What the folder should hold and what it holds."""
    folder = write_gemma_scope_2(tmp_path / "sae", weights())
    (folder / "config.json").rename(folder / "conf.json")
    assert refusal(folder) == ("config.json is missing; found conf.json, params.safetensors",)
    (tmp_path / "empty").mkdir()
    assert [problem.split("; ")[1] for problem in refusal(tmp_path / "empty")] == ["found nothing"] * 2
    assert "is no folder" in refusal(tmp_path / "nowhere")[0]


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "\xff"])
def test_broken_config(tmp_path: Path, content: str) -> None:
    """Not JSON, or not an object."""
    folder = write_gemma_scope_2(tmp_path, weights())
    (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_gemmascope(folder)


def test_objects_in_npz_are_refused_and_not_run(tmp_path: Path) -> None:
    """An array of objects needs pickle, which is never used."""

    class Harmful:
        def __reduce__(self) -> tuple:
            return Path.mkdir, (tmp_path / "trace",)

    tensors: dict[str, Any] = dict(weights())
    tensors["extra"] = np.array([Harmful()], dtype=object)
    assert "without pickle" in refusal(write_npz(tmp_path / "params.npz", tensors))[0]
    assert not (tmp_path / "trace").exists()
    with np.load(tmp_path / "params.npz", allow_pickle=True) as arrays:
        assert arrays["extra"] is not None
    assert (tmp_path / "trace").is_dir()  # it would have worked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_truncated_weights(tmp_path: Path, kind: str, share: float) -> None:
    """A download that stopped early."""
    path = write(kind, tmp_path, weights())
    file = path if kind == "npz" else path / "params.safetensors"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(CheckpointError, match="cannot be read as"):
        read_gemmascope(path)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b"<html>", bytes(64)])
def test_files_of_something_else(tmp_path: Path, content: bytes) -> None:
    """A Git LFS pointer, a web page, zeros; and a single array, which numpy would read."""
    path = tmp_path / "params.npz"
    path.write_bytes(content)
    assert "cannot be read as npz" in refusal(path)[0]
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "cannot be read as npz" in refusal(path)[0]


def test_config_is_not_needed_for_npz(tmp_path: Path) -> None:
    """A config beside a params.npz belongs to something else."""
    path = write_npz(tmp_path / "params.npz", weights())
    (tmp_path / "config.json").write_text(json.dumps({"type": "transcoder"}))
    assert read_gemmascope(path).n_units == 20
