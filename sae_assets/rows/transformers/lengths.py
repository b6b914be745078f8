"""A model's rows may depend on other texts: by the number of ids it computes in one way, and by mixtures of experts.

Beyond, some models of ``transformers`` silently take another attention or other positional frequencies, for all tokens
of the text, by the length to which it was filled up, and some remember what they took.
"""

from collections.abc import Iterator
from typing import Any

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHANGING_ROPE = ("dynamic", "longrope")


def one_way_up_to(config: Any) -> tuple[int, str] | None:
    """Return the most ids of a text that is read like shorter ones, and what changes beyond; None where nothing
    does."""
    kind = getattr(config, "model_type", "")
    if kind == "big_bird" and config.attention_type == "block_sparse":
        # Shorter ones are read with full attention, and so is everything after the first of them.
        return (5 + 2 * config.num_random_blocks) * config.block_size, "attention_type block_sparse"
    if kind == "reformer" and "lsh" in config.attn_layers:
        return config.lsh_attn_chunk_length, "attn_layers lsh, whose buckets the first text decides"
    limits = [
        (int(limit), f"rope_type {rope}")
        for parameters in _ropes(config)
        if (rope := parameters.get("rope_type", parameters.get("type"))) in CHANGING_ROPE
        and (limit := _trained_on(config, parameters, str(rope)))
    ]
    return min(limits, default=None)


def has_experts(config: Any) -> bool:
    """Return whether tokens of all texts of a pass are multiplied together by the expert they go to, so that the shape
    of such a product, and with it the last bits, depends on the other texts.
    """
    counts = (getattr(config, name, None) for name in EXPERTS)
    return any(isinstance(count, int) and count > 1 for count in counts)


def _ropes(config: Any) -> Iterator[dict[str, Any]]:
    """Yield settings of rotary positions: one set, or one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None)
        if isinstance(settings, dict):
            yield settings
            yield from (setting for setting in settings.values() if isinstance(setting, dict))


def _trained_on(config: Any, parameters: dict[str, Any], rope: str) -> Any:
    """Return ids up to which frequencies are those of the training."""
    original = parameters.get("original_max_position_embeddings")
    if rope == "longrope":
        original = original or getattr(config, "original_max_position_embeddings", None)
    return original or getattr(config, "max_position_embeddings", None)
