"""sparsify folders are read and encode as sparsify defines them; what is not supported is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sae_assets.errors import CheckpointError
from sae_assets.saes.formats.sparsify import read_sparsify
from sae_assets_tests.saes.published_folders import (
    SPARSIFY,
    assert_is_dense,
    expected,
    rows,
    sparsify_weights,
    weights,
    write_sparsify,
)


def refusal(path: Path) -> tuple[str, ...]:
    """The problems with which a checkpoint is refused; the message always names the path."""
    with pytest.raises(CheckpointError) as caught:
        read_sparsify(path)
    assert str(path) in str(caught.value)
    return caught.value.problems or (str(caught.value),)


@pytest.mark.parametrize("memory_budget", [1, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_encodes_as_sparsify_defines(tmp_path: Path, dtype: torch.dtype, memory_budget: int) -> None:
    """b_dec is subtracted, the bias added, the k largest kept; half-precision weights are taken as they are."""
    x = rows()
    folder = write_sparsify(
        tmp_path / "layers.10", {name: tensor.to(dtype) for name, tensor in sparsify_weights().items()}
    )
    read = read_sparsify(folder)
    assert (read.name, read.hook_point, read.k, read.d_model, read.n_units) == ("layers.10", "layers.10", 4, 6, 20)
    plain = {name: tensor.to(dtype) for name, tensor in weights(threshold=False).items()}
    assert_is_dense(read.encoder("cpu", memory_budget).encode(x), expected(x, plain, subtract=True, k=4))


@pytest.mark.parametrize(
    "config",
    [
        {"expansion_factor": 32, "normalize_decoder": True, "num_latents": 20, "k": 4, "signed": False, "d_in": 6},
        {"normalize_decoder": True, "k": 4, "signed": False, "d_in": 6},
    ],
)
def test_configs_of_older_versions(tmp_path: Path, config: dict[str, Any]) -> None:
    """As published for Pythia and Llama 3: without activation, transcode and skip_connection."""
    assert read_sparsify(write_sparsify(tmp_path, sparsify_weights(), config)).n_units == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "groupmax"}, "activation is 'groupmax'; supported: 'topk'"),
        ({"transcode": True}, "transcode is True; supported: False"),
        ({"skip_connection": True}, "skip_connection is True; supported: False"),
        ({"signed": True}, "signed is True; supported: False"),
        ({"k": 0}, "k is 0, expected a positive integer"),
        ({"k": "4"}, "k is '4', expected a positive integer"),
        ({"k": 21}, "k is 21, more than the 20 units"),
        ({"d_in": None}, "d_in is None, expected a positive integer"),
        ({"num_latents": 21}, "cfg.json asks for 21 units, but encoder.bias has 20"),
        ({"num_latents": 0, "expansion_factor": 4}, "cfg.json asks for 24 units, but encoder.bias has 20"),
    ],
)
def test_settings_that_are_not_supported_or_wrong(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """One line: what was found, and what is supported or expected."""
    assert refusal(write_sparsify(tmp_path, sparsify_weights(), SPARSIFY | changes)) == (said,)


@pytest.mark.parametrize("name", ["encoder.weight", "encoder.bias", "W_dec", "b_dec"])
def test_missing_tensors(tmp_path: Path, name: str) -> None:
    """The name, and what is there."""
    tensors = sparsify_weights()
    del tensors[name]
    assert f"tensor {name} is missing; found {', '.join(sorted(tensors))}" in refusal(write_sparsify(tmp_path, tensors))


def test_a_skip_connection_in_the_weights(tmp_path: Path) -> None:
    """Weights of a transcoder under the config of an SAE."""
    (problem,) = refusal(write_sparsify(tmp_path, sparsify_weights() | {"W_skip": torch.zeros(6, 6)}))
    assert problem.startswith("tensor W_skip is not of this format")


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Config and tensors together."""
    tensors = sparsify_weights()
    tensors |= {"encoder.weight": torch.zeros(6, 20), "W_dec": torch.zeros(20, 6, dtype=torch.int8)}
    tensors["b_dec"][0] = torch.nan
    config = SPARSIFY | {"transcode": True, "k": 64, "num_latents": 0, "expansion_factor": 2}
    assert refusal(write_sparsify(tmp_path, tensors, config)) == (
        "transcode is True; supported: False",
        "encoder.weight has shape (6, 20), expected (20, 6)",
        "W_dec has dtype int8, expected float32 or float16 or bfloat16",
        "b_dec holds values that are not finite",
        "cfg.json asks for 12 units, but encoder.bias has 20",
        "k is 64, more than the 20 units",
    )


def test_missing_files(tmp_path: Path) -> None:
    """Each file by name, with what the folder holds; SAELens folders have the same config's name."""
    folder = write_sparsify(tmp_path, sparsify_weights())
    (folder / "sae.safetensors").rename(folder / "sae_weights.safetensors")
    assert refusal(folder) == ("sae.safetensors is missing; found cfg.json, sae_weights.safetensors",)


def test_tensors_without_entries(tmp_path: Path) -> None:
    """No units at all."""
    empty = {"encoder.weight": torch.zeros(0, 6), "encoder.bias": torch.zeros(0), "W_dec": torch.zeros(0, 6)}
    config = {"k": 4, "d_in": 6}
    problems = refusal(write_sparsify(tmp_path, empty | {"b_dec": torch.zeros(6)}, config))
    assert "encoder.bias has shape (0,) and holds nothing" in problems
