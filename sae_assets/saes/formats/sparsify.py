"""sparsify (EleutherAI) folders: ``cfg.json`` and ``sae.safetensors``, TopK with an encoder bias.

``z = (x - b_dec) @ encoder.weight.T + encoder.bias``, ReLU, the k largest. Transcoders, skip connections, groupmax and
signed latents are refused by name. Weights in half precision are widened to float32, which is exact; sparsify itself
would also compute in half precision.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog.registry import SaeFormat
from sae_assets.errors import CheckpointError
from sae_assets.saes.weights import (
    WIDENED,
    count_of,
    count_problems,
    length_of,
    missing_files,
    read_config,
    read_safetensors,
    tensor_problems,
    unsupported,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sae_assets.ops.reconstruction import Decoder
    from sae_assets.ops.sparse_activations import TopKEncoder

CONFIG, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"
# Checkpoints of older versions lack some of these and mean the first value.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "activation": ("topk",),
    "transcode": (False,),
    "skip_connection": (False,),
    "signed": (False,),
}


@dataclass(frozen=True)
class SparsifyCheckpoint:
    """The encoder's weights, float32: weight [n, d], bias [n], b_dec [d]."""

    name: str
    k: int
    weight: "Tensor"
    bias: "Tensor"
    b_dec: "Tensor"
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hook_point(self) -> str | None:
        """Return the folder's name: sparsify names it after the module, such as ``layers.10``, and says so nowhere
        else."""
        return self.name

    @property
    def d_model(self) -> int:
        return self.weight.shape[1]

    @property
    def n_units(self) -> int:
        return self.weight.shape[0]

    def encoder(self, device: "torch.device | str", memory_budget: int) -> "TopKEncoder":
        return ops.sparse_activations.TopKEncoder(
            self.weight.T, self.k, shift=self.b_dec, bias=self.bias, device=device, memory_budget=memory_budget
        )


def read_sparsify(folder: Path) -> SparsifyCheckpoint:
    """Read and check a folder.

    Raises:
        CheckpointError: files, tensors, shapes or dtypes that are not the format's, or settings that are not supported;
            every problem is named with what is supported.
    """
    k, tensors = _sound(folder)
    weight, bias, b_dec = (tensors[key].float() for key in ("encoder.weight", "encoder.bias", "b_dec"))
    return SparsifyCheckpoint(folder.name, k, weight, bias, b_dec, _training(folder))


def _training(folder: Path) -> dict[str, Any]:
    """Return what the settings of the run say, which sparsify writes above its SAEs; empty where they are not there."""
    config: dict[str, Any] = {}
    with suppress(CheckpointError):
        config = read_config(folder.parent / RUN)
    if not isinstance(config.get("sae"), dict):  # a file of something else
        return {}
    noted = {
        "context_size": count_of(config, "ctx_len"),
        "model": name if isinstance(name := config.get("model"), str) else None,
        "dtype": "8 bits" if config.get("load_in_8bit") is True else None,
    }
    return {key: value for key, value in noted.items() if value is not None}


def read_decoder(folder: Path, device: "torch.device | str", memory_budget: int) -> "Decoder":
    """Return the decoder: ``x̂ = code @ W_dec + b_dec``.

    Raises:
        CheckpointError: as :func:`read_sparsify`.
    """
    _, tensors = _sound(folder)
    return ops.reconstruction.Decoder(tensors["W_dec"], tensors["b_dec"], device=device, memory_budget=memory_budget)


def _sound(folder: Path) -> "tuple[int, dict[str, Tensor]]":
    """Return k and all tensors of a folder with which nothing is wrong."""
    if problems := missing_files(folder, (CONFIG, WEIGHTS)):
        raise CheckpointError(f"{folder} is not a sparsify checkpoint:", problems)
    config, tensors = read_config(folder / CONFIG), read_safetensors(folder / WEIGHTS)
    problems = unsupported(config, SUPPORTED) + count_problems(config, ("d_in", "k"))
    d, k = count_of(config, "d_in"), count_of(config, "k")
    n = length_of(tensors, "encoder.bias")
    shapes = {"encoder.weight": (n, d), "encoder.bias": (n,), "W_dec": (n, d), "b_dec": (d,)}
    problems += tensor_problems(tensors, shapes, WIDENED)
    named = count_of(config, "num_latents")
    if named is None and d is not None and (factor := count_of(config, "expansion_factor")):
        named = d * factor  # num_latents 0, or none in older versions
    if named is not None and n is not None and named != n:
        problems.append(f"{CONFIG} asks for {named} units, but encoder.bias has {n}")
    if k and n and k > n:
        problems.append(f"k is {k}, more than the {n} units")
    if problems:
        raise CheckpointError(f"{folder} is not a sparsify SAE that can be used:", problems)
    assert k is not None
    return k, tensors


FORMAT = SaeFormat("sparsify", read_sparsify, (CONFIG, WEIGHTS), decoder=read_decoder)
