"""The CLIP-Scope checkpoint: ``{k, n_features, d_in, model_state_dict: {pre_b, enc, dec}}``, TopK, no bias.

Encoding is ``topk((x - pre_b) @ enc, k)``; published at the hub repository ``lewington/CLIP-ViT-L-scope``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog.registry import SaeFormat
from sae_assets.errors import CheckpointError
from sae_assets.saes.hook_points import named_by_publisher
from sae_assets.saes.weights import MOST_NAMED
from sae_assets.wording import shortened

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sae_assets.ops.reconstruction import Decoder
    from sae_assets.ops.sparse_activations import TopKEncoder


@dataclass(frozen=True)
class ClipScopeCheckpoint:
    """Weights as published, float32: pre_b [d], enc [d, n], dec [n, d]."""

    name: str
    k: int
    pre_b: "Tensor"
    enc: "Tensor"
    dec: "Tensor"
    hook_point: str | None = None  # not in the file; CLIP-Scope's repository has a folder per layer

    @property
    def training(self) -> Mapping[str, Any]:
        return {}

    @property
    def d_model(self) -> int:
        return self.enc.shape[0]

    @property
    def n_units(self) -> int:
        return self.enc.shape[1]

    def encoder(self, device: "torch.device | str", memory_budget: int) -> "TopKEncoder":
        return ops.sparse_activations.TopKEncoder(
            self.enc, self.k, shift=self.pre_b, device=device, memory_budget=memory_budget
        )


def read_clipscope(path: Path) -> ClipScopeCheckpoint:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: not a file that ``torch.load(weights_only=True)`` reads, or other keys, shapes or dtypes than
            published; every problem is named.
    """
    import torch

    try:
        content = ops.plain.load(path)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not a CLIP-Scope checkpoint: torch.load(weights_only=True) refuses it ({error})."
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a dictionary (CLIP-Scope format).")
    state = content.get("model_state_dict")
    state = state if isinstance(state, Mapping) else {}
    problems = _missing(content, ("k", "n_features", "d_in", "model_state_dict"), "")
    if not isinstance(content.get("model_state_dict", {}), Mapping):
        problems.append(f"model_state_dict is a {type(content['model_state_dict']).__name__}, expected a dictionary")
    elif "model_state_dict" in content:
        problems += _missing(state, ("pre_b", "enc", "dec"), "model_state_dict.")
    if problems:
        raise CheckpointError(f"{path} is not a CLIP-Scope checkpoint:", problems)
    k, n, d = content["k"], content["n_features"], content["d_in"]
    problems = [f"{name} is {value!r}, expected a positive integer" for name, value in (("k", k), ("n_features", n),
                ("d_in", d)) if not isinstance(value, int) or isinstance(value, bool) or value < 1]  # fmt: skip
    for name, shape in (("pre_b", (d,)), ("enc", (d, n)), ("dec", (n, d))):
        tensor = state[name]
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != shape:
            description = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            problems.append(f"model_state_dict.{name} has shape {description}, expected {shape}")
        elif tensor.dtype != torch.float32:
            problems.append(f"model_state_dict.{name} has dtype {tensor.dtype}, expected float32")
        elif not bool(torch.isfinite(tensor).all()):
            problems.append(f"model_state_dict.{name} holds values that are not finite")
    if not problems and k > n:
        problems.append(f"k is {k}, more than the {n} units")
    if problems:
        raise CheckpointError(f"{path} is not a sound CLIP-Scope checkpoint:", problems)
    return ClipScopeCheckpoint(path.name, k, state["pre_b"], state["enc"], state["dec"], named_by_publisher(path))


def read_decoder(path: Path, device: "torch.device | str", memory_budget: int) -> "Decoder":
    """Return the decoder: ``x̂ = code @ dec + pre_b``.

    Raises:
        CheckpointError: as :func:`read_clipscope`.
    """
    read = read_clipscope(path)
    return ops.reconstruction.Decoder(read.dec, read.pre_b, device=device, memory_budget=memory_budget)


def _missing(content: Mapping, keys: tuple[str, ...], prefix: str) -> list[str]:
    others = shortened(", ".join(map(str, [*content][:MOST_NAMED]))) or "none"
    return [f"key {prefix}{key} is missing; found {others}" for key in keys if key not in content]


FORMAT = SaeFormat("clipscope", read_clipscope, decoder=read_decoder)
