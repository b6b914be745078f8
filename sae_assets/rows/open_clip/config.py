"""open_clip takes the numbers of an ``open_clip_config.json`` as they are, so wrong ones are refused here.

Some would take all memory or time before an error comes, others are computed with as if they were settings.
"""

import math
from pathlib import Path
from typing import Any

from sae_assets.rows.images import odd_normalisation

MOST_SIDE = 4096  # pixels of an input; those of published models are 1,024 at most
MOST_LAYERS, MOST_WIDTH = 10_000, 2**20
FEW_NUMBERS = 2**26  # of a model that any machine has room for
INTERPOLATIONS, RESIZE_MODES = ("bicubic", "bilinear"), ("shortest", "longest", "squash")


def odd_numbers(model: Any, weights: Path | None) -> list[str]:
    """Return what is wrong with the sizes of both towers.

    Args:
        model: ``model_cfg``, whose ``vision_cfg`` has a ``patch_size``; weights: their file, which no model is much
            larger than.
    """
    problems: list[str] = []
    vision, text = model["vision_cfg"], model.get("text_cfg", {})
    if not isinstance(text, dict):
        return [f"text_cfg is {text!r}, expected keys and values"]

    def expect(of: dict[str, Any], key: str, most: int) -> None:
        value = of.get(key)
        if key in of and not (isinstance(value, int) and 1 <= value <= most):
            problems.append(f"{key} is {value!r}, expected a whole number from 1 to {most:,}")

    size = vision.get("image_size", 224)
    sides = size if isinstance(size, (list, tuple)) and len(size) == 2 else [size]
    for side in sides:
        expect({"image_size": side}, "image_size", MOST_SIDE)
    expect(vision, "patch_size", MOST_SIDE)
    for tower in (vision, text):
        for key, most in (("layers", MOST_LAYERS), ("width", MOST_WIDTH), ("head_width", MOST_WIDTH)):
            expect(tower, key, most)
    expect(model, "embed_dim", MOST_WIDTH)
    for key, most in (("context_length", MOST_WIDTH), ("vocab_size", 2**24), ("heads", MOST_WIDTH)):
        expect(text, key, most)
    ratio = vision.get("mlp_ratio", 4.0)
    if not isinstance(ratio, (int, float)) or not 0 < ratio <= 1000:
        problems.append(f"mlp_ratio is {ratio!r}, expected a number above 0 and up to 1,000")
    if problems or weights is None:
        return problems
    numbers = sum(_numbers(tower, float(ratio) if tower is vision else 4.0) for tower in (vision, text))
    n_bytes = weights.stat().st_size
    if numbers > max(n_bytes, FEW_NUMBERS):  # a byte at least for each
        problems.append(f"the model has {numbers:,} numbers or more, but {weights.name} has {n_bytes:,} bytes")
    return problems


def _numbers(tower: dict[str, Any], ratio: float) -> int:
    """Count numbers of the matrices of a tower whose sizes are named; there are more."""
    width, layers = tower.get("width", 0), tower.get("layers", 0)
    return int(width * (width * layers * (4 + 2 * ratio) + tower.get("vocab_size", 0)))


def odd_preprocessing(settings: dict[str, Any]) -> list[str]:
    """Return what is wrong with ``preprocess_cfg``."""
    problems = odd_normalisation(settings["mean"], settings["std"])
    for key, options in (("interpolation", INTERPOLATIONS), ("resize_mode", RESIZE_MODES), ("mode", ("RGB",))):
        if key in settings and settings[key] not in options:
            problems.append(f"{key} is {settings[key]!r}, expected one of {', '.join(options)}")
    fill = settings.get("fill_color", 0)
    if not isinstance(fill, (int, float)) or not math.isfinite(fill):
        problems.append(f"fill_color is {fill!r}, expected a number")
    return problems
