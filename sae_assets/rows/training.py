"""Files say what an SAE and the weights were trained with; it is held beside what is used here, and may differ.

Each property is one of ``properties.KNOWN``; the libraries' own files are compared in their packages.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Model
from sae_assets.catalog.registry import libraries
from sae_assets.errors import CheckpointError
from sae_assets.rows.properties import BOS, DTYPE, LENGTH, MODEL, NOT_KNOWN, OF, PLACE, TOKENIZER, Property
from sae_assets.rows.texts import open_tokens
from sae_assets.saes.hook_points import difference, in_words, is_before, tower
from sae_assets.wording import shortened, visible

if TYPE_CHECKING:
    from sae_assets.rows.loaded import OpenedSae
    from sae_assets.rows.texts import Tokenizer
    from sae_assets.saes import Checkpoint

Beyond = Callable[[int], Iterable[int] | None]


def trained_elsewhere(
    sae: "Checkpoint | OpenedSae", model: Model, final_norm: str | None = None, beyond: Beyond = lambda limit: None,
    doubts: Iterable[str] = (),
) -> str:  # fmt: skip
    """Return how what files say of the training differs from what is used, in one line; empty if nothing does, or
    nothing is said that is understood. Arguments as of :func:`properties_of`, and ``doubts``: what else is to be said.

    It is kept with the rows, so a folder is named without where it lies.
    """
    differences = [each.differs for each in properties_of(sae, model, final_norm, beyond)]
    folder = None if model.transformer is None else model.transformer.path
    text = visible("; ".join([*filter(None, differences), *doubts]))
    return text if folder is None else text.replace(str(folder), folder.name)


def properties_of(
    sae: "Checkpoint | OpenedSae | None",
    model: Model,
    final_norm: str | None = None,
    beyond: Beyond = lambda limit: None,
) -> list[Property]:
    """Return every property of a model of this modality, in order; of a model without a transformer, none.

    Args:
        sae: None where it cannot be read.
        final_norm: as of :class:`RowSource`; None where the model was not opened.
        beyond: lengths of the texts that are longer than a number of ids; None where nobody knows.
    """
    if model.transformer is None:
        return []
    tokens: Tokenizer | None = None
    properties: dict[str, Property] = {}
    # Of a kept file the model's files need not be here; whoever encodes is told.
    with suppress(CheckpointError):
        properties = {each.name: each for each in libraries()[model.transformer.library].properties(model)}
    if model.modality == "text":
        with suppress(CheckpointError):
            tokens = open_tokens(model)
    training: Mapping[str, Any] = {} if sae is None else sae.training
    trained_at = None if sae is None else sae.hook_point
    properties[PLACE] = Property(
        PLACE,
        model.hook_point,
        sae=None if trained_at is None else in_words(trained_at),
        differs=_hook_point_difference(sae, model, final_norm, tokens),
    )
    properties[MODEL] = _model(training, model)
    if DTYPE in properties and isinstance(dtype := training.get("dtype"), str):
        properties[DTYPE] = _dtype(properties[DTYPE], dtype, model.precision)
    if tokens is not None:
        for name, each in ((BOS, _bos), (LENGTH, _length)):
            with suppress(CheckpointError):
                properties[name] = each(properties.get(name, Property(name, "")), training, tokens, model, beyond)
        doubts = "; ".join(tokens.doubts)
        properties[TOKENIZER] = replace(properties.get(TOKENIZER, Property(TOKENIZER, "")), differs=doubts)
    return [properties.get(name, Property(name, NOT_KNOWN)) for name in OF[model.modality]]


def _hook_point_difference(
    sae: "Checkpoint | OpenedSae | None", model: Model, final_norm: str | None, tokens: "Tokenizer | None"
) -> str:
    """Return how the hook point differs, and whether images or texts are read there; empty if nothing does."""
    if sae is None:
        return ""
    if final_norm is None:
        count = getattr(getattr(tokens, "config", None), "num_hidden_layers", None)
        is_last = count is not None and model.hidden_state == count
        final_norm = "a final norm (if the model has one)" if is_last else ""
    parts = []
    if where := difference(sae.hook_point, model.hidden_state_read, model.module, final_norm):
        state = "" if model.hidden_state_read is None else f" (hidden state {model.hidden_state_read})"
        before = is_before(sae.hook_point, model.hidden_state_read, final_norm)
        advice = f"; set `layer: {model.hidden_state - 1}`" if before and model.hidden_state else ""
        named = f"{shortened(str(sae.hook_point))} ({shortened(where)})"
        parts.append(f"trained at {named}, read at {model.hook_point}{state}{advice}")
    read = tower(sae.hook_point)
    if read is not None and read != model.modality:
        named = shortened(str(sae.hook_point))
        parts.append(f"trained where {read}s are read ({named}), and {model.modality}s are read here")
    return "; ".join(parts)


def _model(training: "Mapping[str, Any]", model: Model) -> Property:
    """Return the model that the SAE was trained on. Ids of the hub are compared; other names (TransformerLens') are
    shown."""
    assert model.transformer is not None
    trained, used, parts = training.get("model") or "", model.transformer.label, list[str]()
    hub_ids = "/" in trained and "/" in (model.transformer.name or "")
    if hub_ids and _plain(trained) != _plain(used):
        parts.append(f"trained on {shortened(trained)}, read from {used} (set `transformer.name`, if that is another)")
    if training.get("centred"):
        parts.append("trained on a model with center_writing_weights, which is used here as it is")
    return Property(MODEL, used, sae=shortened(trained) or None, differs="; ".join(parts))


def _plain(name: str) -> str:
    """Return a model's name without whose it is; some were renamed (``Meta-Llama``)."""
    return name.rpartition("/")[2].casefold().removeprefix("meta-").removesuffix("-hf").replace("_", "-")


def _dtype(own: Property, trained: str, precision: str) -> Property:
    """Return which dtype the model computed in when the SAE was trained, beside the catalog's."""
    if trained == precision:
        return replace(own, sae=trained, differs="")
    advice = f" (set `precision: {trained}`)" if trained in ("float32", "bfloat16", "float16") else ""
    named = f"trained on rows computed in {shortened(trained)}, read in {precision}{advice}"
    return replace(own, sae=shortened(trained), differs="; ".join(filter(None, (named, own.differs))))


def _bos(own: Property, training: "Mapping[str, Any]", tokens: "Tokenizer", model: Model, _beyond: Beyond) -> Property:
    """Return whether texts begin with BOS, by the catalog or by what the tokenizer does where it says nothing."""
    bos = training.get("prepend_bos")
    if not isinstance(bos, bool):
        return own
    has_bos = tokens.has_bos if model.prepend_bos is None else model.prepend_bos
    if bos == has_bos:
        return replace(own, sae=str(bos), differs="")
    advice = f" (set `prepend_bos: {str(bos).lower()}`)" if model.prepend_bos is None else ""
    return replace(own, sae=str(bos), differs=f"trained with prepend_bos {bos}, read with {has_bos}{advice}")


def _length(
    own: Property, training: "Mapping[str, Any]", tokens: "Tokenizer", model: Model, beyond: Beyond
) -> Property:
    """Return how long texts are, where the SAE was trained on shorter ones."""
    length = training.get("context_size")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        return own
    own = replace(own, sae=f"{length:,}")
    limits = [limit for limit in (model.max_tokens, tokens.max_positions) if limit is not None]
    most = min(limits, default=None)
    if most is not None and most <= length:
        return own
    longer = beyond(length)
    first = None if longer is None else next(iter(longer), None)
    if longer is not None and first is None:
        return own
    read = "read of any length" if most is None else f"read of up to {most}"
    advice = f" (set `max_tokens` to at most {length})" if model.max_tokens is None else ""
    here = read if first is None else f"and a text here has {first}"
    return replace(own, differs=f"trained on texts of {length} tokens, {here}{advice}")
