"""Where SAEs were trained, by the names that libraries give, and every known place that is not the one read."""

from pathlib import Path

import pytest

from sae_assets.saes.hook_points import difference, named_by_publisher, understood

RESIDUAL = {
    "blocks.0.hook_resid_pre": 0, "blocks.10.hook_resid_post": 11, "model.layers.34.output": 35, "layers.10": 11,
    "model.language_model.layers.2.output": 3, "vision_model.encoder.layers.7": 8, "transformer.h.3": 4,
}  # fmt: skip
INSIDE = {
    "blocks.7.hook_mlp_out": "the MLP", "blocks.7.mlp.hook_post": "the MLP", "blocks.7.hook_attn_out": "attention",
    "blocks.7.attn.hook_z": "attention", "blocks.7.hook_resid_mid": "`hook_resid_mid`", "layers.7.mlp": "the MLP",
    "blocks.7.ln1.hook_normalized": "`ln1.hook_normalized`", "layers.7.self_attn": "attention",
    "model.layers.7.mlp.down_proj.output": "the MLP", "blocks.7.hook_mlp_in": "the MLP", "h.7.attn": "attention",
    "layers.7.transcoder": "`transcoder`",
}  # fmt: skip
UNKNOWN = ("somewhere", "", None, "layers", "my_sae")


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


@pytest.mark.parametrize("name", ["hook_embed", "hook_pos_embed", "ln_final.hook_normalized", "embedding"])
def test_places_outside_of_blocks(name: str) -> None:
    assert difference(name, 3, None) == "not the residual stream"


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
        ("sae/layer_2/width_1k/average_l0_22/params.npz", "layers.2"),
        ("mlp/layer_3/width_16k/average_l0_60/params.npz", "layers.3.mlp"),
        ("Gemma_Scope_2b_pt_att/layer_3/width_16k/average_l0_60/params.npz", "layers.3.attn"),
        ("research/layer_3/width_16k/average_l0_60/params.npz", "layers.3"),
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
