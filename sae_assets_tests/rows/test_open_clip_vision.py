"""Vision transformers: the right block's output, row by row, for each image by itself; clear errors otherwise."""

import json
import logging
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError
from sae_assets.rows.open_clip.geometry import ImageGeometry, expect_activation
from sae_assets.rows.open_clip.library import library
from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.rows.open_clip.weights import identity, locate_weights
from sae_assets_tests.rows.tiny_model import LAYERS, SIZE, WIDTH, local, write_tiny_model


def images(number: int, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def rows_of(vision: VisionTransformer, image: Tensor) -> Tensor:
    """Rows of one image by itself."""
    return vision.embed(image[None])[0]


def open_clip_output(folder: Path, layer: int, image: Tensor) -> Tensor:
    """The block's output by open_clip alone: the whole model, a forward hook, nothing cut off."""
    model = library().create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    found: list[Tensor] = []
    model.visual.transformer.resblocks[layer].register_forward_hook(lambda _m, _i, out: found.append(out))
    with torch.inference_mode():
        model.encode_image(image[None])
    assert len(found) == 1
    return found[0][0]


def named(name: str, tag: str, weights: Path | None = None) -> Transformer:
    return Transformer(library="open_clip", name=name, pretrained=tag, weights=weights)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_rows_are_the_blocks_output(tiny: Path, layer: int) -> None:
    """CLS and one row per patch, float32, and bit by bit what open_clip's full model gives at that block."""
    image = images(1)[0]
    vision = VisionTransformer(local(tiny), layer)
    rows = rows_of(vision, image)
    assert vision.d_model == WIDTH
    assert (tuple(rows.shape), rows.dtype) == ((1 + 16, WIDTH), torch.float32)
    assert torch.equal(rows, open_clip_output(tiny, layer, image))


def test_blocks_differ(tiny: Path) -> None:
    """Another block gives other rows: the comparison above can fail."""
    image = images(1)[0]
    first, second = (rows_of(VisionTransformer(local(tiny), layer), image) for layer in (0, 1))
    assert not torch.equal(first, second)


def test_patches_stand_row_by_row(tiny: Path) -> None:
    """Before any attention mixes them, a patch's row depends on its own pixels only: row 1 + 4 * down + across."""
    vision = VisionTransformer(local(tiny), 0)
    found: list[Tensor] = []
    vision._visual.transformer.resblocks[0].register_forward_pre_hook(lambda _m, inputs: found.append(inputs[0]))
    base = images(1)[0]
    rows_of(vision, base)
    for down, across in ((0, 0), (0, 3), (1, 2), (3, 1)):
        changed = base.clone()
        changed[:, 8 * down : 8 * down + 8, 8 * across : 8 * across + 8] += 1
        rows_of(vision, changed)
        differs = (found[-1][0] != found[0][0]).any(1)
        assert differs.nonzero().flatten().tolist() == [1 + 4 * down + across]


def test_rows_do_not_depend_on_order(tiny: Path) -> None:
    """Each image by itself: the same bits whatever came before, forwards, backwards, twice."""
    vision, batch = VisionTransformer(local(tiny), 1), images(5)
    alone = [rows_of(VisionTransformer(local(tiny), 1), image) for image in batch]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 2, 0, 4, 0]):
        for place in order:
            assert torch.equal(rows_of(vision, batch[place]), alone[place])


def test_images_may_go_together(tiny: Path) -> None:
    """A batch gives each image its own rows, in order, equal to those alone up to the last bits of its products."""
    vision, batch = VisionTransformer(local(tiny), 1), images(5)
    together = vision.embed(batch)
    assert tuple(together.shape) == (5, 1 + 16, WIDTH)
    for place, image in enumerate(batch):
        torch.testing.assert_close(together[place], rows_of(vision, image), rtol=1e-5, atol=1e-5)


def test_nothing_is_remembered_between_images(tiny: Path) -> None:
    """Rows belong to the caller: the next image does not change them, and they ask for no gradient."""
    vision, batch = VisionTransformer(local(tiny), 1), images(2)
    rows = rows_of(vision, batch[0])
    before = rows.clone()
    rows_of(vision, batch[1])
    assert torch.equal(rows, before)
    assert not rows.requires_grad


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_float32_rows_near_the_exact_ones(tiny: Path, precision: str) -> None:
    """Weights and forward pass in half precision; rows come out as float32, near but not equal."""
    image = images(1)[0]
    exact = rows_of(VisionTransformer(local(tiny), 1), image)
    rough = rows_of(VisionTransformer(local(tiny), 1, precision=precision), image)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("layer", [LAYERS, 99])
def test_layer_out_of_range(tiny: Path, layer: int) -> None:
    """A block that does not exist: which ones there are, and the catalog's key."""
    with pytest.raises(CheckpointError, match=rf"has blocks 0\.\.2; `layer: {layer}` does not exist") as caught:
        VisionTransformer(local(tiny), layer)
    assert str(tiny) in str(caught.value)


@pytest.mark.parametrize("missing", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_incomplete_folder(tiny: Path, tmp_path: Path, missing: str) -> None:
    """Weights or configuration missing: the folder, the expected names and the catalog's key."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / missing).unlink()
    for use in (
        lambda: VisionTransformer(local(folder), 1),
        lambda: ImageGeometry(local(folder)),
        lambda: locate_weights(local(folder)),
        lambda: identity(local(folder)),
    ):
        with pytest.raises(CheckpointError, match=r"`transformer\.path`") as caught:
            use()
        for part in (str(folder), "open_clip_config.json", "open_clip_model.safetensors"):
            assert part in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is refused in the same words."""
    with pytest.raises(CheckpointError, match="is not an open_clip folder"):
        VisionTransformer(local(tmp_path / "nowhere"), 0)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x00" * 64])
def test_damaged_weights(tiny: Path, tmp_path: Path, content: bytes) -> None:
    """A weights file that is none: the folder, the cause and what to set."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "open_clip_model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="could not be loaded") as caught:
        VisionTransformer(local(folder), 0)
    assert str(folder) in str(caught.value) and "`transformer.path`" in str(caught.value)


def test_weights_of_another_model(tiny: Path, tmp_path: Path) -> None:
    """Weights that do not fit the configuration beside them are refused, never partly loaded."""
    folder = write_tiny_model(tmp_path / "wider", vision={"width": 32})
    shutil.copy(tiny / "open_clip_model.safetensors", folder)
    with pytest.raises(CheckpointError, match="could not be loaded"):
        VisionTransformer(local(folder), 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"model_cfg": {}}', b'{"model_cfg": 3}', b"\xff"])
def test_damaged_configuration(tiny: Path, tmp_path: Path, content: bytes) -> None:
    """A configuration that is no JSON, or lacks the vision part, is refused by its path."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "open_clip_config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not readable") as caught:
        ImageGeometry(local(folder))
    assert str(folder / "open_clip_config.json") in str(caught.value)


def test_unknown_architecture_lists_the_nearest() -> None:
    """A misspelt architecture: the nearest known ones."""
    with pytest.raises(CheckpointError, match=r"no architecture 'ViT-L-15'\. Nearest: .*ViT-L-14"):
        ImageGeometry(named("ViT-L-15", "laion2b_s32b_b82k"))


def test_unknown_tag_lists_the_known_ones() -> None:
    """A misspelt weights tag: every tag of the architecture."""
    with pytest.raises(CheckpointError, match=r"no weights 'laion3b' for ViT-L-14\. Known tags: ") as caught:
        ImageGeometry(named("ViT-L-14", "laion3b"))
    for tag in library().list_pretrained_tags_by_model("ViT-L-14"):
        assert tag in str(caught.value)


@pytest.mark.parametrize(("name", "tag"), [("RN50", "openai"), ("convnext_base", "laion400m_s13b_b51k")])
def test_network_without_patches(name: str, tag: str) -> None:
    """A convolutional network has no patches and is refused by name."""
    with pytest.raises(CheckpointError, match=f"{name} is no vision transformer"):
        ImageGeometry(named(name, tag))


def test_missing_weights_file_is_named_by_every_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A local weights file that is not there: its path and key, before a model is built; nothing else is logged."""
    missing = named("ViT-L-14", "laion2b_s32b_b82k", tmp_path / "nowhere.bin")
    for use in (
        lambda: locate_weights(missing),
        lambda: identity(missing),
        lambda: VisionTransformer(missing, 22),
    ):
        with pytest.raises(CheckpointError, match=r"nowhere\.bin does not exist \(`transformer\.weights`\)"):
            use()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_named_model_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published weights that are not on this machine: None when located, and an error that says what to set."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    clip = named("ViT-L-14", "laion2b_s32b_b82k")
    assert locate_weights(clip) is None
    with pytest.raises(CheckpointError, match=r"Without network, set `transformer\.path` or `transformer\.w"):
        VisionTransformer(clip, 22)


def test_cached_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that the hub's client fetched before are located without network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K"
    file = repository / "snapshots/abc/open_clip_pytorch_model.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    assert locate_weights(named("ViT-L-14", "laion2b_s32b_b82k")) == file


def test_identity_of_a_named_model_is_its_name() -> None:
    """Architecture and tag name published weights; nothing is read."""
    found = identity(named("ViT-L-14", "laion2b_s32b_b82k"))
    assert found == {"library": "open_clip", "name": "ViT-L-14", "pretrained": "laion2b_s32b_b82k"}


def test_identity_of_local_files_follows_their_content(tiny: Path, tmp_path: Path) -> None:
    """A copy elsewhere is the same model; other weights or another configuration are another."""
    for name in ("copy", "weights", "config"):
        shutil.copytree(tiny, tmp_path / name)
    assert identity(local(tmp_path / "copy")) == identity(local(tiny))
    for name, file in (("weights", "open_clip_model.safetensors"), ("config", "open_clip_config.json")):
        path = tmp_path / name / file
        path.write_bytes(path.read_bytes() + b" ")
        assert identity(local(tmp_path / name)) != identity(local(tiny))


@pytest.mark.parametrize("tag", ["openai", "laion400m_e32", "metaclip_fullcc"])
def test_weights_of_another_activation_function_are_refused(tag: str) -> None:
    """Local weights or the hub's: open_clip would compute GELU with them; the right entry is named and accepted."""
    with pytest.raises(
        CheckpointError, match=r"trained with QuickGELU.* GELU .*Set `transformer.name: ViT-B-32-quickgelu`"
    ):
        ImageGeometry(named("ViT-B-32", tag))
    assert ImageGeometry(named("ViT-B-32-quickgelu", tag)).n_patches == 49


def test_no_tag_is_computed_with_another_function_than_it_was_trained_with() -> None:
    """Of all that open_clip knows: what is accepted agrees with its tag, and advice names an architecture there is."""
    models, refused = set(library().list_models()), 0
    for name, tag in library().list_pretrained():
        computed = bool(library().get_model_config(name).get("quick_gelu"))
        trained = bool(library().get_pretrained_cfg(name, tag).get("quick_gelu"))
        try:
            expect_activation(name, tag)
            assert computed == trained or name == "roberta-ViT-B-32"
        except CheckpointError as error:
            refused += 1
            assert computed != trained
            assert any(f"`transformer.name: {twin}`" in str(error) for twin in models) or "config.json" in str(error)
    assert refused > 10


def test_weights_for_images_of_another_size_are_refused(tiny: Path, tmp_path: Path) -> None:
    """open_clip would stretch their position embeddings; safetensors and pickled."""
    other = write_tiny_model(tmp_path / "other", vision={"image_size": 48})
    folder = shutil.copytree(tiny, tmp_path / "model")
    shutil.copy(other / "open_clip_model.safetensors", folder)
    with pytest.raises(CheckpointError, match="has 37 positions, the architecture 17"):
        VisionTransformer(local(folder), 0)
    state = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="has 37 positions, the architecture 17"):
        VisionTransformer(local(folder), 0)


def test_folder_that_does_not_say_its_normalisation(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    for content in ({"model_cfg": config["model_cfg"]}, {**config, "preprocess_cfg": {"interpolation": "bicubic"}}):
        (folder / "open_clip_config.json").write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="says nothing of mean and std"):
            ImageGeometry(local(folder))
