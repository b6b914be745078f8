"""The files of an open_clip model say how its weights were trained, beside what is used.

A folder that was published for open_clip often serves transformers too, and says the same things once more.
"""

from typing import TYPE_CHECKING

from sae_assets.catalog import Model
from sae_assets.rows.images import open_geometry
from sae_assets.rows.open_clip.weights import locate_weights
from sae_assets.rows.properties import (
    ACTIVATION,
    CONTRADICTION,
    INTERPOLATION,
    NORMALISATION,
    NOT_KNOWN,
    RESIZE,
    SIZE,
    Property,
    compared,
    dtype_property,
    filter_in_words,
    image_statements,
    normalisation_in_words,
    size_in_words,
    stored_dtype,
)

if TYPE_CHECKING:
    from sae_assets.rows.open_clip.geometry import ImageGeometry


NAME_ADVICE = "name the architecture and the tag that the weights were trained as, or their whole folder by `path`"


def properties(model: Model) -> list[Property]:
    """Return every property of an open_clip model that is compared.

    Raises:
        CheckpointError: as its geometry.
    """
    assert model.transformer is not None
    geometry: ImageGeometry = open_geometry(model.transformer)  # type: ignore[assignment]
    weights, own = locate_weights(model.transformer), geometry.preprocessing
    used = {
        ACTIVATION: geometry.activation,
        NORMALISATION: normalisation_in_words(own["mean"], own["std"]) or NOT_KNOWN,
        INTERPOLATION: filter_in_words(own.get("interpolation", "bicubic")) or NOT_KNOWN,
        SIZE: size_in_words(own["size"]) or NOT_KNOWN,
        RESIZE: own.get("resize_mode", "shortest"),
    }
    statements = image_statements(None if weights is None else weights.parent)
    if model.transformer.path is None:  # what is used is the tag's
        where = f"{model.transformer.name} {model.transformer.pretrained}"
        keys = {NORMALISATION: "mean", INTERPOLATION: "interpolation", RESIZE: "resize_mode", SIZE: "size"}
        for name in [ACTIVATION, *(name for name, key in keys.items() if key in own)]:
            statements[name] = {where: used[name], **statements.get(name, {})}
    advice = CONTRADICTION if model.transformer.path is not None else NAME_ADVICE
    of_images = [compared(name, value, statements.get(name, {}), advice) for name, value in used.items()]
    dtype = None if weights is None else stored_dtype(weights)
    stored = {} if weights is None or dtype is None else {weights.name: dtype}
    return [*of_images, dtype_property(model.precision, stored)]
