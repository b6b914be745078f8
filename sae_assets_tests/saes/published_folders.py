"""Small checkpoints of Gemma Scope, Gemma Scope 2, SAELens and sparsify, in exactly the files that are published.

Configs have the keys that the published ones have. Weights are random; the dense references are written out.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sae_assets.ops.sparse_code import SparseCode
from sae_assets_tests.reference.sparse_activations import dense_jumprelu, dense_topk

GEMMA_SCOPE_2 = {
    "hf_hook_point_in": "model.layers.17.output",
    "hf_hook_point_out": "model.layers.17.output",
    "width": 20,
    "model_name": "google/gemma-3-4b-pt",
    "architecture": "jump_relu",
    "l0": 60,
    "affine_connection": False,
    "type": "sae",
}
SPARSIFY = {
    "activation": "topk",
    "expansion_factor": 32,
    "normalize_decoder": True,
    "num_latents": 20,
    "k": 4,
    "multi_topk": False,
    "skip_connection": False,
    "transcode": False,
    "d_in": 6,
}


def saelens_config(architecture: str = "standard", **changes: Any) -> dict[str, Any]:
    """cfg.json of SAELens 6."""
    config: dict[str, Any] = {
        "d_in": 6,
        "d_sae": 20,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "gpt2", "hook_name": "blocks.5.hook_resid_post"},
        "architecture": architecture,
    }
    if architecture == "topk":
        config |= {"k": 4, "rescale_acts_by_decoder_norm": False}
    return config | changes


def weights(d: int = 6, n: int = 20, seed: int = 0, threshold: bool = True) -> dict[str, Tensor]:
    """W_enc, W_dec, b_enc, b_dec and, of JumpReLU SAEs, threshold."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return tensors | ({"threshold": torch.rand(n, generator=generator) * 2} if threshold else {})


def sparsify_weights(seed: int = 0) -> dict[str, Tensor]:
    tensors = weights(seed=seed, threshold=False)
    return {
        "encoder.weight": tensors["W_enc"].T.contiguous(),
        "encoder.bias": tensors["b_enc"],
        "W_dec": tensors["W_dec"],
        "b_dec": tensors["b_dec"],
    }


def write_npz(path: Path, tensors: dict[str, Any]) -> Path:
    """Gemma Scope: params.npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: np.asarray(tensor) for name, tensor in tensors.items()})
    return path


def write_gemma_scope_2(folder: Path, tensors: dict[str, Tensor], config: Any = GEMMA_SCOPE_2) -> Path:
    """Gemma Scope 2: a folder whose tensors have lower-case names."""
    lower = {name.lower(): tensor for name, tensor in tensors.items()}
    return write_folder(folder, "params.safetensors", lower, "config.json", config)


def write_saelens(folder: Path, tensors: dict[str, Tensor], config: Any) -> Path:
    return write_folder(folder, "sae_weights.safetensors", tensors, "cfg.json", config)


def write_sparsify(folder: Path, tensors: dict[str, Tensor], config: Any = SPARSIFY) -> Path:
    return write_folder(folder, "sae.safetensors", tensors, "cfg.json", config)


def write_folder(folder: Path, file: str, tensors: dict[str, Tensor], config_file: str, config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file)
    (folder / config_file).write_text(json.dumps(config))
    return folder


def rows(d: int = 6, n_rows: int = 40) -> Tensor:
    return torch.randn(n_rows, d, generator=torch.Generator().manual_seed(1)) * 3


def expected(
    x: Tensor, tensors: dict[str, Tensor], *, subtract: bool, k: int | None = None, threshold: bool = False
) -> np.ndarray:
    """Dense activations, float32 [rows, n], of the definition: TopK with k, JumpReLU with threshold, or ReLU."""
    enc, bias = tensors["W_enc"].float().numpy(), tensors["b_enc"].float().numpy()
    shift = tensors["b_dec"].float().numpy() if subtract else None
    if k is not None:
        return dense_topk(x.numpy(), enc, shift, k, bias)["activations"]
    limits = tensors["threshold"].float().numpy() if threshold else None
    return dense_jumprelu(x.numpy(), enc, shift, bias, limits)["activations"]


def assert_is_dense(code: SparseCode, dense: np.ndarray) -> None:
    """The same active units, and values equal to a few units in the last place."""
    row = torch.repeat_interleave(torch.arange(len(dense)), code.row_offsets.diff())
    found = np.zeros_like(dense)
    found[row.numpy(), code.unit_ids.numpy()] = code.values.numpy()
    assert ((found > 0) == (dense > 0)).all() and (dense > 0).any()
    np.testing.assert_allclose(found, dense, rtol=2.0**-22)
