"""Rows of images and texts from models of the library transformers, and ``LIBRARY``, which says so to the catalog."""

from sae_assets.catalog import Transformer
from sae_assets.catalog.registry import Library
from sae_assets.rows.transformers.belonging import doubt_of_texts
from sae_assets.rows.transformers.files import identity, locate_hub_folder
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets.rows.transformers.language import TransformersLanguage
from sae_assets.rows.transformers.statements import properties
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets.rows.transformers.vision import TransformersVision


def _check_transformer(transformer: Transformer) -> None:
    if transformer.pretrained or transformer.weights:
        raise ValueError("`pretrained` and `weights` are open_clip's; transformers takes `name` or `path` alone")
    if transformer.path is not None and transformer.revision:
        raise ValueError("`revision` belongs to a hub `name`; a local `path` has none")


LIBRARY = Library(
    name="transformers",
    identity=identity,
    geometry=TransformersGeometry,
    vision=TransformersVision,
    tokens=Tokens,
    language=TransformersLanguage,
    doubt_of_texts=doubt_of_texts,
    properties=properties,
    located=locate_hub_folder,
    check_transformer=_check_transformer,
)
