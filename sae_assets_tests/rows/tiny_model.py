"""A tiny open_clip model as a local folder in open_clip's published layout, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sae_assets.catalog import Model, Pruning, Sae, Transformer
from sae_assets.rows.open_clip.library import library

LAYERS, WIDTH, PATCH, SIZE = 3, 16, 8, 32
PREPROCESSING = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}


def write_tiny_model(folder: Path, *, vision: dict[str, Any] | None = None, preprocessing: Any = None) -> Path:
    """Configuration and weights of a model of three blocks; ``vision`` and ``preprocessing`` change the former."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": SIZE,
            "layers": LAYERS,
            "width": WIDTH,
            "head_width": 8,
            "patch_size": PATCH,
            "mlp_ratio": 2.0,
            **(vision or {}),
        },
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = library().CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    chosen = {"model_cfg": config, "preprocess_cfg": {**PREPROCESSING, **(preprocessing or {})}}
    (folder / "open_clip_config.json").write_text(json.dumps(chosen))
    return folder


def local(folder: Path) -> Transformer:
    return Transformer(library="open_clip", path=folder)


def catalog_model(folder: Path, sae: Path, layer: int = 1) -> Model:
    """A catalog entry with a local transformer and a local SAE."""
    return Model(
        modality="image",
        transformer=local(folder),
        layer=layer,
        sae=Sae(format="clipscope", path=sae),
        pruning=Pruning(min_active=1, max_density=1, strength_percentile=0, target_units=100),
    ).named("tiny")
