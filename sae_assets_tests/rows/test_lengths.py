"""Models that read long texts in another way than short ones, by what was read before: only up to that length."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers as hf

from sae_assets.errors import CheckpointError
from sae_assets.rows.transformers.files import quiet
from sae_assets.rows.transformers.lengths import has_experts, one_way_up_to
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets_tests.rows.tiny_transformers import TEXT, entry, gemma_tokenizer

THETA = {"rope_theta": 10000.0}
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
LONG = {"rope_type": "longrope", "original_max_position_embeddings": 24, **FACTORS, **THETA}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, **THETA}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
LENGTHS = {"original_max_position_embeddings": 24, "max_position_embeddings": 96}
CONFIGURATIONS: dict[str, tuple[Any, int | None]] = {
    "big_bird": (hf.BigBirdConfig(**TEXT, block_size=4, num_random_blocks=1), 28),
    "big_bird_full": (hf.BigBirdConfig(**TEXT, attention_type="original_full"), None),
    "reformer": (hf.ReformerConfig(attn_layers=["local", "lsh"], lsh_attn_chunk_length=16), 16),
    "phi3": (hf.Phi3Config(**TEXT, **SPECIAL, **LENGTHS, rope_parameters=LONG), 24),
    "llama": (hf.LlamaConfig(**TEXT, max_position_embeddings=32, rope_parameters=DYNAMIC), 32),
    "plain": (hf.LlamaConfig(**TEXT), None),
    "linear": (hf.LlamaConfig(**TEXT, rope_parameters={"rope_type": "linear", "factor": 2.0, **THETA}), None),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_length_up_to_which_nothing_changes(name: str) -> None:
    config, limit = CONFIGURATIONS[name]
    found = one_way_up_to(config)
    assert (None if found is None else found[0]) == limit


def test_mixtures_of_experts_are_known() -> None:
    for config, mixes in (
        (hf.MixtralConfig(**TEXT), True),
        (hf.LlamaConfig(**TEXT), False),
        (hf.Qwen2MoeConfig(), True),
    ):
        assert has_experts(config) == mixes


def test_settings_of_each_kind_of_layer_and_of_earlier_versions() -> None:
    layers = {"full_attention": {"rope_type": "default"}, "sliding_attention": LONG}
    assert one_way_up_to(SimpleNamespace(rope_parameters=layers)) == (24, "rope_type longrope")
    earlier = SimpleNamespace(rope_scaling={"type": "dynamic", "factor": 2.0}, max_position_embeddings=64)
    assert one_way_up_to(earlier) == (64, "rope_type dynamic")


@pytest.mark.parametrize(("name", "limit"), [("big_bird", 28), ("phi3", 24)])
def test_longer_texts_are_refused_by_name(tmp_path: Path, name: str, limit: int) -> None:
    """Unless ``max_tokens`` cuts them; then none is filled up beyond either. BOS counts."""
    with quiet():
        hf.AutoModel.from_config(CONFIGURATIONS[name][0]).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    for cut in (None, limit):
        with pytest.raises(CheckpointError, match=f"other texts. Set `max_tokens: {limit - 1}` or less"):
            Tokens(entry(tmp_path, "text", max_tokens=cut))
    tokens = Tokens(entry(tmp_path, "text", max_tokens=limit - 1))
    assert tokens.max_positions == limit and len(tokens.encode("hello " * 90).ids) == limit


def test_a_model_that_takes_no_longer_texts_is_read_as_it_is(tmp_path: Path) -> None:
    with quiet():
        hf.AutoModel.from_config(CONFIGURATIONS["llama"][0]).save_pretrained(tmp_path)
        gemma_tokenizer().save_pretrained(tmp_path)
    assert Tokens(entry(tmp_path, "text")).max_positions == 32
