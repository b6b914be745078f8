"""SAELens folders are read and encode as SAELens defines them; what is not supported is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sae_assets.errors import CheckpointError
from sae_assets.saes.formats.saelens import read_saelens
from sae_assets_tests.saes.published_folders import (
    assert_is_dense,
    expected,
    rows,
    saelens_config,
    weights,
    write_saelens,
)

ARCHITECTURES = ("standard", "topk", "jumprelu")


def tensors_of(architecture: str) -> dict[str, torch.Tensor]:
    return weights(threshold=architecture == "jumprelu")


def refusal(path: Path) -> tuple[str, ...]:
    """The problems with which a checkpoint is refused; the message always names the path."""
    with pytest.raises(CheckpointError) as caught:
        read_saelens(path)
    assert str(path) in str(caught.value)
    return caught.value.problems or (str(caught.value),)


@pytest.mark.parametrize("memory_budget", [1, 2**20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_encodes_as_saelens_defines(
    tmp_path: Path, architecture: str, subtract: bool, dtype: torch.dtype, memory_budget: int
) -> None:
    """Every architecture, with b_dec subtracted or not; half-precision weights are taken as they are."""
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of(architecture).items()}
    x = rows()
    config = saelens_config(architecture, apply_b_dec_to_input=subtract, dtype=str(dtype).removeprefix("torch."))
    read = read_saelens(write_saelens(tmp_path / "blocks.5", tensors, config))
    assert (read.name, read.hook_point) == ("blocks.5", "blocks.5.hook_resid_post")
    assert (read.d_model, read.n_units) == (6, 20)
    k = 4 if architecture == "topk" else None
    dense = expected(x, tensors, subtract=subtract, k=k, threshold=architecture == "jumprelu")
    assert_is_dense(read.encoder("cpu", memory_budget).encode(x), dense)


@pytest.mark.parametrize(
    "architecture",
    [
        *("gated", "batchtopk", "matryoshka_batchtopk", "abstopk", "matching_pursuit", "temporal"),
        *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder", None, 3),
    ],
)
def test_other_architectures_are_refused_by_name(tmp_path: Path, architecture: Any) -> None:
    """What was found and what is supported; a BatchTopK SAE is told how it becomes readable."""
    folder = write_saelens(tmp_path, weights(), saelens_config(architecture=architecture))
    (problem,) = refusal(folder)
    assert problem.startswith(f"architecture is {architecture!r}; supported: 'standard', 'topk', 'jumprelu'")
    assert ("save_inference_model" in problem) == ("batchtopk" in str(architecture) and architecture != "abstopk")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *[
            ({"normalize_activations": kind}, f"normalize_activations is {kind!r}; supported: 'none'")
            for kind in (
                "layer_norm",
                "expected_average_only_in",
                "constant_norm_rescale",
                "covariance_whitening",
                None,
            )
        ],
        ({"reshape_activations": "hook_z"}, "reshape_activations is 'hook_z'; supported: 'none'"),
        ({"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm is True; supported: False"),
        ({"apply_b_dec_to_input": 1}, "apply_b_dec_to_input is 1; supported: True, False"),
        ({"apply_b_dec_to_input": None}, "apply_b_dec_to_input is None; supported: True, False"),
        ({"k": 0}, "k is 0, expected a positive integer"),
        ({"k": None}, "k is None, expected a positive integer"),
        ({"k": 4.0}, "k is 4.0, expected a positive integer"),
        ({"k": 21}, "k is 21, more than the 20 units"),
        ({"d_in": "6"}, "d_in is '6', expected a positive integer"),
        ({"d_sae": True}, "d_sae is True, expected a positive integer"),
    ],
)
def test_settings_that_are_not_supported_or_wrong(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """One line: what was found, and what is supported or expected."""
    folder = write_saelens(tmp_path, tensors_of("topk"), saelens_config("topk") | changes)
    assert refusal(folder) == (said,)


@pytest.mark.parametrize("key", ["apply_b_dec_to_input", "normalize_activations", "reshape_activations", "d_in"])
def test_missing_settings_are_not_assumed(tmp_path: Path, key: str) -> None:
    """SAELens 6 writes all of them; their defaults have changed over versions."""
    config = saelens_config()
    del config[key]
    (problem,) = refusal(write_saelens(tmp_path, tensors_of("standard"), config))
    assert problem.startswith(f"{key} is None")


@pytest.mark.parametrize("key", ["activation_fn_str", "finetuning_scaling_factor", "hook_point"])
def test_folders_of_older_versions(tmp_path: Path, key: str) -> None:
    """Before version 6 the same keys meant other things; the message says how to bring a folder up to date."""
    folder = write_saelens(tmp_path, tensors_of("standard"), saelens_config() | {key: "relu"})
    assert f"cfg.json has {key}, as before SAELens 6; load it with SAELens 6 and save it again" in refusal(folder)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"])
def test_missing_tensors(tmp_path: Path, name: str) -> None:
    """The name, and what is there."""
    tensors = tensors_of("jumprelu")
    del tensors[name]
    (problem,) = refusal(write_saelens(tmp_path, tensors, saelens_config("jumprelu")))
    assert problem == f"tensor {name} is missing; found {', '.join(sorted(tensors))}"


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_a_threshold_that_the_architecture_does_not_have(tmp_path: Path, architecture: str) -> None:
    """Weights of another architecture than the config's: not encoded as if the threshold were not there."""
    (problem,) = refusal(write_saelens(tmp_path, weights(), saelens_config(architecture)))
    assert problem == "tensor threshold is not of this format, which has W_enc, W_dec, b_enc, b_dec"


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Config and tensors together."""
    tensors = tensors_of("topk")
    tensors |= {"W_enc": torch.zeros(20, 6), "b_enc": torch.zeros(20, dtype=torch.float64)}
    tensors["b_dec"][2] = torch.inf
    folder = write_saelens(tmp_path, tensors, saelens_config("topk", normalize_activations="layer_norm", k=0))
    assert refusal(folder) == (
        "normalize_activations is 'layer_norm'; supported: 'none'",
        "k is 0, expected a positive integer",
        "W_enc has shape (20, 6), expected (6, 20)",
        "b_enc has dtype float64, expected float32 or float16 or bfloat16",
        "b_dec holds values that are not finite",
    )


def test_missing_files(tmp_path: Path) -> None:
    """Each file by name, with what the folder holds."""
    folder = write_saelens(tmp_path, tensors_of("standard"), saelens_config())
    (folder / "sae_weights.safetensors").rename(folder / "weights.safetensors")
    assert refusal(folder) == ("sae_weights.safetensors is missing; found cfg.json, weights.safetensors",)
    assert "is no folder" in refusal(tmp_path / "nowhere")[0]


def test_broken_files(tmp_path: Path) -> None:
    """Config or weights that are not what their names say."""
    folder = write_saelens(tmp_path, tensors_of("standard"), saelens_config())
    (folder / "sae_weights.safetensors").write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_saelens(folder)
    (folder / "cfg.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list, expected a JSON object"):
        read_saelens(folder)


@pytest.mark.parametrize("metadata", [None, [], {"hook_name": 3}, {}])
def test_metadata_is_optional(tmp_path: Path, metadata: Any) -> None:
    """Where it was trained is only told, so a folder that does not say it is read."""
    folder = write_saelens(tmp_path, tensors_of("standard"), saelens_config(metadata=metadata))
    assert read_saelens(folder).hook_point is None


def test_many_tensors_with_long_names_fill_no_message(tmp_path: Path) -> None:
    others = {f"{number}{'x' * 10**5}": torch.zeros(1) for number in range(30)}
    write_saelens(tmp_path, {**tensors_of("topk"), **others}, saelens_config("topk", k=2))
    problems = refusal(tmp_path)
    assert "… and 10 more tensors" in problems and sum(map(len, problems)) < 10_000
    write_saelens(tmp_path, others, saelens_config("topk", k=2))
    assert sum(map(len, refusal(tmp_path))) < 20_000
