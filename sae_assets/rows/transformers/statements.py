"""The files of a model of ``transformers`` say how its weights were trained, beside what is used.

What no file says the library takes from its classes' defaults, which may be another model's.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Model
from sae_assets.rows.images import open_geometry
from sae_assets.rows.properties import (
    ACTIVATION,
    BOS,
    CONFIG,
    CONTRADICTION,
    INTERPOLATION,
    LENGTH,
    NORMALISATION,
    NOT_KNOWN,
    RESIZE,
    SIZE,
    TOKENIZER,
    Property,
    activation_of,
    compared,
    dtype_in_words,
    dtype_property,
    filter_in_words,
    image_statements,
    normalisation_in_words,
    resize_in_words,
    settings,
    size_in_words,
    stored_dtype,
)
from sae_assets.rows.texts import open_tokens
from sae_assets.rows.transformers.files import INDEX, WHOLE, locate_hub_folder

if TYPE_CHECKING:
    from sae_assets.rows.transformers.geometry import TransformersGeometry
    from sae_assets.rows.transformers.tokens import Tokens

TOKENIZER_CONFIG = "tokenizer_config.json"
STRETCHED = "dinov2"  # begins the types of models that are published with positions of another size than they read


def properties(model: Model) -> list[Property]:
    """Return every property of a model of transformers that is compared; a tokenizer's doubts are told elsewhere.

    Raises:
        CheckpointError: files that cannot be read.
    """
    assert model.transformer is not None
    folder = model.transformer.path or locate_hub_folder(model.transformer)
    own = _of_images(model, folder) if model.modality == "image" else _of_texts(model, folder)
    config, dtypes = settings(folder, CONFIG), dict[str, str]()
    part = config.get("vision_config" if model.modality == "image" else "text_config")
    parts = [part if isinstance(part, dict) else {}, config]
    dtype_name = next((one[key] for one in parts for key in ("dtype", "torch_dtype") if one.get(key)), None)
    if (dtype := dtype_in_words(dtype_name)) is not None:
        dtypes[CONFIG] = dtype
    if (weights := _weights(folder)) is not None and (stored := stored_dtype(weights)) is not None:
        dtypes[weights.name] = stored
    return [*own, dtype_property(model.precision, dtypes)]


def _weights(folder: Path | None) -> Path | None:
    """Return a file of weights, the first of several."""
    if folder is None or (folder / WHOLE).is_file():
        return None if folder is None else folder / WHOLE
    shards = settings(folder, INDEX).get("weight_map")
    first = next(iter(shards.values()), "") if isinstance(shards, dict) else ""
    return folder / Path(str(first)).name if first else None


def _of_images(model: Model, folder: Path | None) -> list[Property]:
    assert model.transformer is not None
    geometry: TransformersGeometry = open_geometry(model.transformer)  # type: ignore[assignment]
    statements, processor = image_statements(folder), geometry.processor
    plain = normalisation_in_words((0.0,) * 3, (1.0,) * 3)
    normalised = normalisation_in_words(getattr(processor, "image_mean", None), getattr(processor, "image_std", None))
    used = {
        ACTIVATION: _activation(geometry.config),
        NORMALISATION: (normalised if getattr(processor, "do_normalize", False) else plain) or NOT_KNOWN,
        INTERPOLATION: filter_in_words(getattr(processor, "resample", None)) or NOT_KNOWN,
        SIZE: size_in_words(geometry.size) or NOT_KNOWN,
        RESIZE: resize_in_words(getattr(processor, "size", None)) or NOT_KNOWN,
    }
    properties = [compared(name, value, statements.get(name, {}), CONTRADICTION) for name, value in used.items()]
    if geometry.config.model_type.startswith(STRETCHED):
        others = {where: value for where, value in statements.get(SIZE, {}).items() if where != CONFIG}
        own = [compared(each.name, each.used, others, CONTRADICTION).differs if each.name == SIZE else each.differs
               for each in properties]  # fmt: skip
        properties = [
            Property(each.name, each.used, each.statements, differs=text)
            for each, text in zip(properties, own, strict=True)
        ]
    return properties


def _of_texts(model: Model, folder: Path | None) -> list[Property]:
    tokens: Tokens = open_tokens(model)  # type: ignore[assignment]
    config, own = settings(folder, CONFIG), settings(folder, TOKENIZER_CONFIG)
    text = config.get("text_config")
    config = text if isinstance(text, dict) else config
    named = activation_of(config)
    activation = compared(
        ACTIVATION, _activation(tokens.config), {} if named is None else {CONFIG: named}, CONTRADICTION
    )
    kind = own.get("tokenizer_class")
    adds = own.get("add_bos_token")
    bos = compared(
        BOS,
        str(tokens.has_bos),
        {TOKENIZER_CONFIG: str(adds)} if isinstance(adds, bool) else {},
        f"set `prepend_bos: {str(adds).lower()}`",
    )
    if model.prepend_bos is not None:  # asked for
        bos = Property(BOS, bos.used, bos.statements)
    limits = {CONFIG: config.get("max_position_embeddings"), TOKENIZER_CONFIG: own.get("model_max_length")}
    shown = {where: f"{limit:,}" for where, limit in limits.items() if isinstance(limit, int) and limit < 10**9}
    most = [limit for limit in (model.max_tokens, tokens.max_positions) if limit is not None]
    return [
        activation,
        Property(TOKENIZER, tokens.kind, {TOKENIZER_CONFIG: kind} if isinstance(kind, str) else {}),
        bos,
        Property(LENGTH, f"{min(most):,}" if most else "any", shown),
    ]


def _activation(config: Any) -> str:
    """Return what the library made of the configuration, its class's default where nothing is said."""
    return activation_of(config.to_dict()) or NOT_KNOWN
