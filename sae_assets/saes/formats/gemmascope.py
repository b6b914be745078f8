"""Gemma Scope and Gemma Scope 2: JumpReLU SAEs of Gemma models, ``relu(z)·[z > threshold]``, z = ``x @ W_enc + b_enc``.

Gemma Scope (Lieberum et al. 2024, arXiv:2408.05147) publishes ``params.npz``; Gemma Scope 2 publishes a folder with
``params.safetensors`` (names in lower case) and ``config.json``, which also tells SAEs of the residual stream from
SAEs of other places, transcoders and crosscoders. Only the former are read. Of ``params.npz`` the repository's and the
folders' names alone say which it is; where they do, it is compared. ``b_dec`` belongs to the decoder and is
not subtracted from the input. ``average_l0_*`` folders are chosen in ``average_l0``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog.registry import SaeFormat
from sae_assets.errors import CheckpointError
from sae_assets.saes.hook_points import named_by_publisher
from sae_assets.saes.weights import (
    length_of,
    missing_files,
    read_config,
    read_npz,
    read_safetensors,
    tensor_problems,
    unsupported,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sae_assets.ops.jumprelu import JumpReluEncoder
    from sae_assets.ops.reconstruction import Decoder

CONFIG, WEIGHTS, NPZ = "config.json", "params.safetensors", "params.npz"
RESIDUAL_STREAM = re.compile(r"model\.(language_model\.)?layers\.\d+\.output")


@dataclass(frozen=True)
class GemmaScopeCheckpoint:
    """The encoder's weights as published, float32: W_enc [d, n], b_enc [n], threshold [n] (the SAE's own)."""

    name: str
    hook_point: str | None
    W_enc: "Tensor"
    b_enc: "Tensor"
    threshold: "Tensor"
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[0]

    @property
    def n_units(self) -> int:
        return self.W_enc.shape[1]

    def encoder(self, device: "torch.device | str", memory_budget: int) -> "JumpReluEncoder":
        return ops.jumprelu.JumpReluEncoder(
            self.W_enc, self.threshold, bias=self.b_enc, device=device, memory_budget=memory_budget
        )


def read_gemmascope(path: Path) -> GemmaScopeCheckpoint:
    """Read and check a ``params.npz``, or a folder of Gemma Scope 2.

    Raises:
        CheckpointError: other files, tensors, shapes or dtypes than published, or another kind of dictionary than an
            SAE of the residual stream; every problem is named.
    """
    config, tensors = _sound(path)
    name = _name(path.parent if path.is_file() else path)
    hook_point = config.get("hf_hook_point_in") or named_by_publisher(path)
    model = config.get("model_name")
    training = {"model": model} if isinstance(model, str) else {}
    return GemmaScopeCheckpoint(name, hook_point, tensors["W_enc"], tensors["b_enc"], tensors["threshold"], training)


def read_decoder(path: Path, device: "torch.device | str", memory_budget: int) -> "Decoder":
    """Return the decoder: ``x̂ = code @ W_dec + b_dec``.

    Raises:
        CheckpointError: as :func:`read_gemmascope`.
    """
    _, tensors = _sound(path)
    return ops.reconstruction.Decoder(tensors["W_dec"], tensors["b_dec"], device=device, memory_budget=memory_budget)


def _sound(path: Path) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """Return settings, if there are any, and all tensors of a checkpoint with which nothing is wrong."""
    if path.is_file():
        return {}, _checked(path, dict(read_npz(path)), str, [], {})
    if problems := missing_files(path, (CONFIG, WEIGHTS)):
        raise CheckpointError(
            f"{path} is not a Gemma Scope checkpoint, which is a params.npz or (Gemma Scope 2) a folder with "
            "config.json and params.safetensors:",
            problems,
        )
    config = read_config(path / CONFIG)
    hook = config.get("hf_hook_point_in")
    problems = unsupported(
        {"architecture": None, **config},
        {"type": ("sae",), "architecture": ("jump_relu",), "affine_connection": (False,), "hf_hook_point_out": (hook,)},
    )
    if not isinstance(hook, str) or not RESIDUAL_STREAM.fullmatch(hook):
        problems.append(f"hf_hook_point_in is {hook!r}; supported: the residual stream, 'model.layers.<number>.output'")
    return config, _checked(path, dict(read_safetensors(path / WEIGHTS)), str.lower, problems, config)


def _checked(
    path: Path, tensors: dict[str, Any], spelt: Callable[[str], str], problems: list[str], config: dict[str, Any]
) -> "dict[str, Tensor]":
    """Return the tensors by Gemma Scope's names; ``spelt``: how the format writes them."""
    d, n = length_of(tensors, "b_dec"), length_of(tensors, "b_enc")
    shapes = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,), "threshold": (n,)}
    problems = problems + tensor_problems(tensors, {spelt(key): shape for key, shape in shapes.items()})
    width = config.get("width", n)
    if n is not None and width != n:
        problems.append(f"width is {width!r} in config.json, but b_enc has {n} units")
    if problems:
        raise CheckpointError(f"{path} is not a Gemma Scope SAE that can be used:", problems)
    return {key: tensors[spelt(key)] for key in shapes}


def _name(folder: Path) -> str:
    """``layer_34/width_16k/average_l0_102``: as much of the path as Gemma Scope's names need to be told apart."""
    name = folder.name
    while folder.name.startswith(("average_l0_", "width_")):
        folder = folder.parent
        name = f"{folder.name}/{name}"
    return name


FORMAT = SaeFormat("gemmascope", read_gemmascope, (CONFIG, WEIGHTS), single=NPZ, by_l0=True, decoder=read_decoder)
