"""Rows of images from open_clip's vision transformers, and ``LIBRARY``, which says to the catalog what these can do."""

from sae_assets.catalog import Model, Transformer
from sae_assets.catalog.registry import Library
from sae_assets.rows.open_clip.geometry import ImageGeometry
from sae_assets.rows.open_clip.statements import properties
from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.rows.open_clip.weights import identity, locate_weights


def _check_transformer(transformer: Transformer) -> None:
    if transformer.revision:
        raise ValueError("`revision` is for library transformers; open_clip names its weights by `pretrained`")
    if transformer.name is not None and transformer.pretrained is None:
        raise ValueError("`name` needs `pretrained` (a weights tag): random weights are refused")
    if transformer.path is not None and (transformer.pretrained or transformer.weights):
        raise ValueError("`path` is a whole folder; `pretrained` and `weights` go with `name` only")


def _check_model(model: Model) -> None:
    if model.layer is None:
        raise ValueError("library open_clip takes `layer`")


def _vision(model: Model, device: object, precision: str) -> VisionTransformer:
    assert model.transformer is not None and model.layer is not None
    return VisionTransformer(model.transformer, model.layer, device, precision)


LIBRARY = Library(
    name="open_clip",
    identity=identity,
    geometry=ImageGeometry,
    vision=_vision,
    properties=properties,
    located=locate_weights,
    check_transformer=_check_transformer,
    check_model=_check_model,
)
