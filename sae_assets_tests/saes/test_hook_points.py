"""Where SAEs were trained, by the names that libraries give, and every known place that is not the one read."""

from pathlib import Path

import pytest

from sae_assets.saes.hook_points import difference, in_words, is_before, named_by_publisher, tower, understood

RESIDUAL = {
    "blocks.0.hook_resid_pre": 0, "blocks.10.hook_resid_post": 11, "model.layers.34.output": 35, "layers.10": 11,
    "model.language_model.layers.2.output": 3, "vision_model.encoder.layers.7": 8, "transformer.h.3": 4,
    "model.layers[7]": 8, "model.layers[7].output[0]": 8, "layers/7": 8, "model.layers['7']": 8, "gpt_neox.layers.7": 8,
    "encoder.layer.7.output": 8, "visual.transformer.resblocks[7]": 8, "encoder.layers.encoder_layer_7": 8,
    "resid_post_layer_7": 8, "resid_pre_layer_7": 7,
    "layers.7.input": 7, "blocks.7.hook_in": 7, "blocks.7.hook_out": 8, "decoder.block.7": 8,
    "decoder.block.7.layer.2": 8, "encoder.block.7.layer.1": 8,
}  # fmt: skip
INSIDE = {
    "blocks.7.hook_mlp_out": "the MLP", "blocks.7.mlp.hook_post": "the MLP", "blocks.7.hook_attn_out": "attention",
    "blocks.7.attn.hook_z": "attention", "blocks.7.hook_resid_mid": "`hook_resid_mid`", "layers.7.mlp": "the MLP",
    "blocks.7.ln1.hook_normalized": "`ln1.hook_normalized`", "layers.7.self_attn": "attention",
    "model.layers.7.mlp.down_proj.output": "the MLP", "blocks.7.hook_mlp_in": "the MLP", "h.7.attn": "attention",
    "layers.7.transcoder": "`transcoder`", "model.layers[7].mlp": "the MLP", "transformer.h.7.mlp": "the MLP",
    "transformer.h[7].attn": "attention", "decoder.block.7.layer.1": "the cross-attention sublayer",
    "decoder.block[7].layer[0]": "the self-attention sublayer", "encoder.block.7.layer.1.DenseReluDense": "the MLP",
    "encoder.layer.7.output.dense": "the MLP", "vision_model.encoder.layers.7.self_attn": "attention",
    "visual.transformer.resblocks.7.ln_2": "`ln_2`", "gpt_neox.layers.7.post_attention_layernorm":
    "`post_attention_layernorm`", "model.layers.7.block_sparse_moe": "the MLP",
    "mlp_out_layer_7": "the MLP", "attn_layer_7": "attention", "resid_mid_layer_7": "`resid_mid`",
    "transcoder_layer_7": "`transcoder`",
}  # fmt: skip
UNKNOWN = (
    "somewhere",
    "",
    None,
    "layers",
    "my_sae",
    "model.layers[-1]",
    "encoder.layers.0.blocks.1",
    "7",
    "layer7",
    f"layers.{'9' * 5000}",
    f"layer_{'9' * 5000}",
    "layers.\u0667",
)


@pytest.mark.parametrize("name", RESIDUAL)
def test_residual_stream(name: str) -> None:
    """As indices into hidden_states, which the catalog's `layer` and `hidden_state` stand for too."""
    place = understood(name)
    assert place is not None and place.hidden_state == RESIDUAL[name]
    assert difference(name, RESIDUAL[name], None) == ""
    assert f"hidden state {RESIDUAL[name]}" in difference(name, RESIDUAL[name] + 1, None)


@pytest.mark.parametrize("name", INSIDE)
def test_other_places_are_known_and_different(name: str) -> None:
    """None of them passes for the residual stream of the same block, before or behind it."""
    place = understood(name)
    assert place is not None and (place.block, place.part, place.hidden_state) == (7, INSIDE[name], None)
    for state in (7, 8):
        assert difference(name, state, None) == f"{INSIDE[name]} of block 7, not the residual stream"
    assert difference(name, None, name) == difference(name, None, f"vision.{name}") == ""


OUTSIDE = ["hook_embed", "hook_pos_embed", "ln_final.hook_normalized", "embedding", "lm_head", "unembed"]
EMBEDDINGS = ["model.embed_tokens", "transformer.wte", "gpt_neox.embed_in", "vision_model.embeddings.patch_embedding"]


@pytest.mark.parametrize("name", [*OUTSIDE, *EMBEDDINGS])
def test_places_outside_of_blocks(name: str) -> None:
    """What a table of embeddings gives is the first hidden state of many models."""
    assert difference(name, 3, None) == "not the residual stream"
    assert not difference(name, 0, None) or name in OUTSIDE


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_says_nothing(name: str | None) -> None:
    assert understood(name) is None and difference(name, 3, None) == difference(name, None, "layers.3.mlp") == ""


@pytest.mark.parametrize(
    ("trained", "module", "differs"),
    [
        ("blocks.7.hook_mlp_out", "model.layers.7.mlp", False), ("blocks.7.hook_mlp_out", "model.layers.8.mlp", True),
        ("blocks.7.hook_attn_out", "model.layers.7.mlp", True), ("layers.7.mlp", "encoder.layers.7.mlp", False),
        ("blocks.7.hook_resid_post", "model.layers.7", False), ("blocks.7.hook_resid_pre", "model.layers.6", False),
        ("blocks.7.hook_resid_post", "model.layers.6", True), ("layers.7.mlp", "somewhere", False),
        ("model.layers[7].mlp", "model.layers.7.mlp", False), ("model.layers[7].mlp", "layers.7.mlp.down_proj", False),
        ("blocks.7.mlp.hook_pre", "model.layers.7.mlp", True), ("blocks.7.attn.hook_z", "h.7.attn", True),
        ("blocks.7.hook_resid_post", "model.norm", True), ("ln_final.hook_normalized", "model.norm", False),
        ("layer_7", "model.layers.7.mlp", False), ("layer_7", "model.layers.8.mlp", True),
        ("decoder.block.7.layer.1", "decoder.block.1", True), ("layers.7.mlp", "h.7.attn", True),
    ],
)  # fmt: skip
def test_named_modules(trained: str, module: str, differs: bool) -> None:
    assert bool(difference(trained, None, module)) == differs


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models--google--gemma-scope-9b-pt-res/snapshots/x/layer_34/width_16k/average_l0_114/params.npz", "layers.34"),
        ("gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_60/params.npz", "layers.3.mlp"),
        ("gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_60/params.npz", "layers.3.attn"),
        ("gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_60/params.npz", "layers.3.transcoder"),
        ("sae/layer_2/width_1k/average_l0_22/params.npz", "layer_2"),
        ("mlp/layer_3/width_16k/average_l0_60/params.npz", "layers.3.mlp"),
        ("Gemma_Scope_2b_pt_att/layer_3/width_16k/average_l0_60/params.npz", "layers.3.attn"),
        ("research/layer_3/width_16k/average_l0_60/params.npz", "layer_3"),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6/params.npz", "embedding"),
        ("CLIP-ViT-L-scope/22_resid/1200013184.pt", "layers.22"),
        ("CLIP-ViT-L-scope/22_mlp/1200013184.pt", "layers.22.mlp"),
        ("anywhere/sae.pt", None),
        ("anywhere/params.npz", None),
    ],
)
def test_names_of_published_folders(path: str, name: str | None) -> None:
    """Only the path tells, where files have the same tensors; a file that was moved tells nothing."""
    assert named_by_publisher(Path(path)) == name


def test_folder_that_says_no_kind() -> None:
    """The block is compared; that it is the residual stream's SAE is not claimed."""
    assert in_words("layer_34") == "layer_34 (not known: residual stream, MLP or attention)"
    assert difference("layer_34", 35, None) == ""
    assert difference("layer_34", 34, None) == "an unknown part of block 34"
    assert in_words(None) == "not known" and in_words("my_sae") == "my_sae (not known where that is)"
    assert in_words("layers.7") == "layers.7"


def test_last_hidden_state_behind_a_final_norm() -> None:
    """The stream before the norm is another place than behind it, and the norm's output is none of the stream."""
    assert difference("blocks.2.hook_resid_post", 3, None, "`norm`") == "before `norm`, not behind it"
    assert difference("ln_final.hook_normalized", 3, None, "`norm`") == ""
    assert difference("blocks.1.hook_resid_post", 3, None, "`norm`") == "hidden state 2"
    assert is_before("blocks.2.hook_resid_post", 3, "`norm`")
    for name, state, behind in (
        ("blocks.2.hook_resid_post", 3, ""), ("blocks.2.hook_resid_post", None, "`norm`"), (None, 3, "`norm`"),
        ("blocks.1.hook_resid_post", 3, "`norm`"), ("ln_final.hook_normalized", 3, "`norm`"), ("ln_final", None, "`n`"),
    ):  # fmt: skip
        assert not is_before(name, state, behind)


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("vision_model.encoder.layers.7", "image"), ("visual.transformer.resblocks[7].mlp", "image"),
        ("model.vision_tower.vision_model.encoder.layers.3", "image"), ("text_model.encoder.layers.7", "text"),
        ("model.language_model.layers.7.mlp", "text"), ("transformer.resblocks.7", None), ("layers.7.visual", None),
        ("blocks.7.hook_resid_post", None), (None, None),
    ],
)  # fmt: skip
def test_towers(name: str | None, reads: str | None) -> None:
    assert tower(name) == reads


def test_a_name_of_a_million_letters_fills_no_message() -> None:
    for name in ("x" * 10**6, f"blocks.7.{'y' * 10**6}"):
        assert len(in_words(name)) < 300
