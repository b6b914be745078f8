"""Fingerprints name the makers of rows: transformer, hook point, tokens, precomputed files.

Weights are hashed, never loaded. Provenance itself is put together in ``pipeline.recipes``.
"""

from typing import Any

from sae_assets.catalog import Dataset, Model, Transformer
from sae_assets.catalog.registry import libraries

PIXELS = 2  # how files become pictures and masks (``datasets.pixels``, ``datasets.masks``): another reading, other rows


def transformer_identity(transformer: Transformer | None) -> dict[str, Any] | None:
    """Return library, name and revision of a hub model, or the hashes of a local one's files.

    Raises:
        CheckpointError: a local path that does not exist or holds no model.
    """
    if transformer is None:
        return None
    return libraries()[transformer.library].identity(transformer)


def rows_identity(dataset: Dataset, model: Model, kind: str) -> dict[str, Any]:
    """Return what turns an example of a data set into dense rows of a token kind."""
    if kind in dataset.embeddings.get(model.name, {}):
        return {"precomputed": model.name, "rows": dataset.embeddings[model.name][kind].rows_per_example}
    hook_point = {key: getattr(model, key) for key in ("layer", "hidden_state", "module")}
    rows = {"transformer": transformer_identity(model.transformer), **hook_point, **_text_settings(model)}
    if model.modality == "image":
        rows |= {"pixels": PIXELS} | ({} if dataset.white is None else {"white": dataset.white})
    # The mean is what rows of earlier versions are, whose identity does not name it.
    named = model.modality == "text" and kind == "cls" and model.cls_of_texts != "mean_embedding"
    return {**rows, "cls": model.cls_of_texts} if named else rows


def truth_settings(dataset: Dataset, model: Model, kind: str) -> dict[str, Any]:
    """Return the catalog settings that the ground truth of rows depends on; no file is read for them."""
    if kind == "cls":
        return {}
    settings = location_settings(dataset, model, kind)
    if dataset.modality == "image":
        settings |= {"masks": dataset.masks, "min_overlap": dataset.min_overlap}
        settings |= {} if dataset.labels is None else {"labels": dataset.model_dump(mode="json")["labels"]}
    return settings


def location_settings(dataset: Dataset, model: Model, kind: str) -> dict[str, Any]:
    """Return the catalog settings that say what rows are and where they stand; no file is read for them."""
    pixels = {"pixels": PIXELS} if dataset.modality == "image" else {}
    precomputed = {"precomputed": model.name} if kind in dataset.embeddings.get(model.name, {}) else {}
    return {"layout": dataset.layout, **_text_settings(model), **pixels, **precomputed}


def _text_settings(model: Model) -> dict[str, Any]:
    if model.modality != "text":
        return {}
    return {"max_tokens": model.max_tokens, "prepend_bos": model.prepend_bos}
