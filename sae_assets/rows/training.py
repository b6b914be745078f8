"""What an SAE was trained with, where its checkpoint says so, beside what it is given here: place, BOS, text length."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Model
from sae_assets.errors import CheckpointError
from sae_assets.rows.texts import open_tokens
from sae_assets.saes.hook_points import difference, tower
from sae_assets.wording import shortened

if TYPE_CHECKING:
    from sae_assets.rows.loaded import OpenedSae
    from sae_assets.rows.texts import Tokenizer
    from sae_assets.saes import Checkpoint


def trained_elsewhere(
    sae: "Checkpoint | OpenedSae", model: Model, behind: str | None = None,
    beyond: Callable[[int], Iterable[int] | None] = lambda limit: None, doubts: Iterable[str] = (),
) -> str:  # fmt: skip
    """How what the checkpoint says of its training differs from what is read: the place, and whether images or texts
    are read there, BOS, the length of texts; and whether the tokenizer seems to be another model's.

    Empty if nothing differs, or the checkpoint says nothing that is understood.

    Args:
        behind: as of :class:`RowSource`; None where the model was not opened.
        doubts: why the tokenizer may be another model's, by the weights.
        beyond: lengths of the texts that are longer than a number of ids; None where nobody knows.
    """
    if model.transformer is None:
        return ""
    tokens: Tokenizer | None = None
    if model.modality == "text":
        with suppress(CheckpointError):  # of a kept file the tokenizer need not be here; whoever encodes is told
            tokens = open_tokens(model)
    if behind is None:
        count = getattr(getattr(tokens, "config", None), "num_hidden_layers", None)
        is_last = count is not None and model.hidden_state == count
        behind = "a final norm (if the model has one)" if is_last else ""
    parts = []
    if where := difference(sae.hook_point, model.hidden_state_read, model.module, behind):
        state = "" if model.hidden_state_read is None else f" (hidden state {model.hidden_state_read})"
        before = where.startswith("before ")
        advice = f"; set `layer: {model.hidden_state - 1}`" if before and model.hidden_state else ""
        named = f"{shortened(str(sae.hook_point))} ({shortened(where)})"
        parts.append(f"trained at {named}, read at {model.hook_point}{state}{advice}")
    read = tower(sae.hook_point)
    if read is not None and read != model.modality:
        named = shortened(str(sae.hook_point))
        parts.append(f"trained where {read}s are read ({named}), and {model.modality}s are read here")
    if tokens is not None:
        with suppress(CheckpointError):
            parts += _texts_differ(sae.training, tokens, model, beyond)
    return "; ".join([*parts, *doubts])


def _texts_differ(
    training: "Mapping[str, Any]", tokens: "Tokenizer", model: Model, beyond: Callable[[int], Iterable[int] | None]
) -> list[str]:
    """How texts are read otherwise than the SAE was trained on them: by the catalog's keys, or by what the tokenizer
    and the model do where these say nothing.
    """
    parts = []
    bos, length = training.get("prepend_bos"), training.get("context_size")
    has_bos = tokens.has_bos if model.prepend_bos is None else model.prepend_bos
    if isinstance(bos, bool) and bos != has_bos:
        advice = f" (set `prepend_bos: {str(bos).lower()}`)" if model.prepend_bos is None else ""
        parts.append(f"trained with prepend_bos {bos}, read with {has_bos}{advice}")
    limits = [limit for limit in (model.max_tokens, tokens.max_positions) if limit is not None]
    most = min(limits, default=None)
    if isinstance(length, int) and length > 0 and length is not True and (most is None or most > length):
        longer = beyond(length)
        first = None if longer is None else next(iter(longer), None)
        read = "read of any length" if most is None else f"read of up to {most}"
        advice = f" (set `max_tokens` to at most {length})" if model.max_tokens is None else ""
        if longer is None or first is not None:
            here = read if first is None else f"and a text here has {first}"
            parts.append(f"trained on texts of {length} tokens, {here}{advice}")
    return [*parts, *tokens.doubts]
