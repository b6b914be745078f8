"""The weights of an open_clip model before they are loaded: where they lie, what names them, whether they fit."""

from pathlib import Path
from typing import Any

from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError
from sae_assets.rows.open_clip.library import library
from sae_assets.saes.files import cached_hub_file, file_hash
from sae_assets.saes.weights import expect_small_header

WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def locate_weights(transformer: Transformer) -> Path | None:
    """Return the weights file if it is on this machine, else None; never touches the network.

    Raises:
        CheckpointError: a local path that does not exist or holds no weights.
    """
    if transformer.path is not None:
        files = [transformer.path / name for name in WEIGHT_FILES if (transformer.path / name).is_file()]
        if not files or not (transformer.path / "open_clip_config.json").is_file():
            raise CheckpointError(
                f"{transformer.path} is not an open_clip folder: expected open_clip_config.json and one of "
                f"{', '.join(WEIGHT_FILES)}. Correct `transformer.path` in the catalog."
            )
        return _sound(files[0])
    if transformer.weights is not None:
        if not transformer.weights.is_file():
            raise CheckpointError(f"Weights file {transformer.weights} does not exist (`transformer.weights`).")
        return _sound(transformer.weights)
    tag = library().get_pretrained_cfg(transformer.name, transformer.pretrained) or {}
    repo = tag.get("hf_hub", "").strip("/")
    hits = [cached_hub_file(repo, name) for name in WEIGHT_FILES] if repo.count("/") == 1 else []
    return next((hit for hit in hits if hit), None)


def _sound(weights: Path) -> Path:
    try:
        if weights.suffix == ".safetensors":
            expect_small_header(weights)
    except ValueError as error:
        raise CheckpointError(f"{weights} is not readable as safetensors: {error}.") from None
    return weights


def identity(transformer: Transformer) -> dict[str, Any]:
    """Return what names this transformer in fingerprints: its architecture and tag, or the hash of its local files."""
    named = {"library": transformer.library, "name": transformer.name, "pretrained": transformer.pretrained}
    if transformer.path is None and transformer.weights is None:
        return named
    weights = locate_weights(transformer)
    assert weights is not None
    named["weights"] = file_hash(weights)
    if transformer.path is not None:
        named["config"] = file_hash(transformer.path / "open_clip_config.json")
    return named


def expect_positions(weights: Path, expected: int) -> None:
    """Refuse weights for images of another size, whose position embeddings open_clip would stretch without a word.

    Args:
        expected: positions of the architecture: CLS and patches.

    Raises:
        CheckpointError: the file has another number of positions.
    """
    shape = _shape_in(weights, "visual.positional_embedding")
    if shape is not None and shape[0] != expected:
        raise CheckpointError(
            f"{weights} has {shape[0]} positions, the architecture {expected}: the weights are for images of another "
            "size. Name the architecture that they were trained as."
        )


def _shape_in(weights: Path, name: str) -> tuple[int, ...] | None:
    """Return shape of a tensor in a file of weights; None where there is none, or the file is no such, which loading
    says."""
    import safetensors
    import torch

    try:
        if weights.suffix == ".safetensors":
            with safetensors.safe_open(weights, "pt", device="cpu") as file:
                return tuple(file.get_slice(name).get_shape()) if name in file.keys() else None  # noqa: SIM118
        content = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        content = content.get("state_dict", content)
        return tuple((content.get(name) if name in content else content[f"module.{name}"]).shape)
    except Exception:  # whatever is wrong with the file is said when it is loaded
        return None
