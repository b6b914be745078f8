"""SAELens 6 folders: ``cfg.json`` and ``sae_weights.safetensors``, of architecture standard, topk or jumprelu.

``z = x' @ W_enc + b_enc`` with ``x' = x - b_dec`` if ``apply_b_dec_to_input``, else x; then ReLU, the k largest and
ReLU, or ``relu(z)·[z > threshold]``. SAELens saves a trained BatchTopK or Matryoshka SAE as jumprelu, which is read.
Everything that changes the input or the output otherwise is refused by name. Weights in half precision are widened to
float32, which is exact; SAELens itself would also compute in half precision.
"""

from collections.abc import Mapping
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
    from sae_assets.ops.sparse_activations import Encoder

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "architecture": ("standard", "topk", "jumprelu"),
    "apply_b_dec_to_input": (True, False),
    "normalize_activations": ("none",),
    "reshape_activations": ("none",),
    "rescale_acts_by_decoder_norm": (False,),
}
REQUIRED = ("architecture", "apply_b_dec_to_input", "normalize_activations", "reshape_activations")
TRAINING = ("prepend_bos", "context_size")
BEFORE_6 = ("activation_fn", "activation_fn_str", "activation_fn_kwargs", "finetuning_scaling_factor", "hook_point")


@dataclass(frozen=True)
class SaeLensCheckpoint:
    """The encoder's weights, float32: W_enc [d, n], b_enc [n], and b_dec [d] where it is subtracted from the input.

    Attributes:
        k: of a topk SAE; threshold: float32 [n], the SAE's own, of a jumprelu SAE; neither is a standard SAE.
    """

    name: str
    hook_point: str | None
    W_enc: "Tensor"
    b_enc: "Tensor"
    b_dec: "Tensor | None"
    k: int | None
    threshold: "Tensor | None"
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[0]

    @property
    def n_units(self) -> int:
        return self.W_enc.shape[1]

    def encoder(self, device: "torch.device | str", memory_budget: int) -> "Encoder":
        shared: dict[str, Any] = {
            "shift": self.b_dec, "bias": self.b_enc, "device": device, "memory_budget": memory_budget
        }  # fmt: skip
        if self.k is not None:
            return ops.sparse_activations.TopKEncoder(self.W_enc, self.k, **shared)
        if self.threshold is not None:
            return ops.jumprelu.JumpReluEncoder(self.W_enc, self.threshold, **shared)
        return ops.jumprelu.ReluEncoder(self.W_enc, **shared)


def read_saelens(folder: Path) -> SaeLensCheckpoint:
    """Read and check a folder.

    Raises:
        CheckpointError: files, tensors, shapes or dtypes that are not the format's, or settings that are not supported;
            every problem is named with what is supported.
    """
    config, tensors = _sound(folder)
    kind = config["architecture"]
    metadata = metadata if isinstance(metadata := config.get("metadata"), dict) else {}
    hook = metadata.get("hook_name")
    return SaeLensCheckpoint(
        name=folder.name,
        hook_point=hook if isinstance(hook, str) else None,
        W_enc=tensors["W_enc"].float(),
        b_enc=tensors["b_enc"].float(),
        b_dec=tensors["b_dec"].float() if config["apply_b_dec_to_input"] else None,
        k=count_of(config, "k") if kind == "topk" else None,
        threshold=tensors["threshold"].float() if kind == "jumprelu" else None,
        training=_training(metadata),
    )


def _training(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what SAELens notes of the model that gave the rows, and of its texts."""
    loaded = metadata.get("model_from_pretrained_kwargs")
    loaded = loaded if isinstance(loaded, dict) else {}
    dtype = next((loaded[key] for key in ("dtype", "torch_dtype") if isinstance(loaded.get(key), str)), None)
    noted = {
        **{key: metadata[key] for key in TRAINING if metadata.get(key) is not None},
        "dtype": dtype and dtype.removeprefix("torch."),
        "model": name if isinstance(name := metadata.get("model_name"), str) else None,
        "centred": True if loaded.get("center_writing_weights") is True else None,
    }
    return {key: value for key, value in noted.items() if value is not None}


def read_decoder(folder: Path, device: "torch.device | str", memory_budget: int) -> "Decoder":
    """Return the decoder: ``x̂ = code @ W_dec + b_dec``, whether or not b_dec is subtracted from the input.

    Raises:
        CheckpointError: as :func:`read_saelens`.
    """
    _, tensors = _sound(folder)
    return ops.reconstruction.Decoder(tensors["W_dec"], tensors["b_dec"], device=device, memory_budget=memory_budget)


def _sound(folder: Path) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """Return settings and all tensors of a folder with which nothing is wrong."""
    if problems := missing_files(folder, (CONFIG, WEIGHTS)):
        raise CheckpointError(f"{folder} is not a SAELens checkpoint:", problems)
    config, tensors = read_config(folder / CONFIG), read_safetensors(folder / WEIGHTS)
    problems = _config_problems(config)
    d, n = (count_of(config, key) for key in ("d_in", "d_sae"))
    kind = config.get("architecture")
    shapes: dict[str, tuple[int | None, ...]] = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,)}
    if kind == "jumprelu":
        shapes["threshold"] = (n,)
    if kind in SUPPORTED["architecture"]:  # what tensors another architecture has is not this module's to know
        problems += tensor_problems(tensors, shapes, WIDENED)
    if problems:
        raise CheckpointError(f"{folder} is not a SAELens SAE that can be used:", problems)
    return config, tensors


def _config_problems(config: dict[str, Any]) -> list[str]:
    old = [key for key in BEFORE_6 if key in config]
    if old:
        return [f"{CONFIG} has {', '.join(old)}, as before SAELens 6; load it with SAELens 6 and save it again"]
    problems = unsupported({**dict.fromkeys(REQUIRED), **config}, SUPPORTED)
    metadata = metadata if isinstance(metadata := config.get("metadata"), dict) else {}
    hook, target = metadata.get("hook_name"), metadata.get("hook_name_out")
    if target not in (None, hook):
        problems.append(f"metadata.hook_name_out is {target!r} beside hook_name {hook!r}: transcoders are not read")
    if metadata.get("hook_head_index") is not None:
        problems.append(f"metadata.hook_head_index is {metadata['hook_head_index']!r}: SAEs of one head are not read")
    if config.get("architecture") in ("batchtopk", "matryoshka_batchtopk"):
        problems[0] += "; SAELens saves a trained one as jumprelu (save_inference_model)"
    problems += count_problems(config, ("d_in", "d_sae"))
    if config.get("architecture") == "topk":
        problems += count_problems(config, ("k",))
        k, n = count_of(config, "k"), count_of(config, "d_sae")
        if k and n and k > n:
            problems.append(f"k is {k}, more than the {n} units")
    return problems


FORMAT = SaeFormat("saelens", read_saelens, (CONFIG, WEIGHTS), decoder=read_decoder)
