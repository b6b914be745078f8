"""Vision models of transformers: the library's own hidden states, known positions, masks under the same transform."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf
from PIL import Image, ImageDraw
from torch import Tensor

from sae_assets.datasets import open_dataset
from sae_assets.errors import CheckpointError, DatasetError
from sae_assets.rows.images import open_geometry, open_image_rows
from sae_assets.rows.transformers.files import quiet
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets.rows.transformers.vision import TransformersVision
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.helpers.images import near_border
from sae_assets_tests.rows.tiny_transformers import LAYERS, WIDTH, entry, full_model, local, long_but

pytestmark = pytest.mark.slow

Models = Callable[[str], Path]
# name: grid, positions before the patches, whether CLS is the first of them
SHAPES = {
    "clip_vision": ((4, 4), 1, True),
    "clip": ((4, 4), 1, True),
    "siglip": ((4, 4), 0, False),
    "dinov2": ((4, 4), 1, True),
    "dinov2_registers": ((4, 4), 5, True),
    "dinov3": ((4, 4), 5, True),
    "vit": ((4, 4), 1, True),
    "vit_wide": ((4, 6), 1, True),
    "vit_remainder": ((4, 4), 1, True),
    "deit": ((4, 4), 2, True),
    "aimv2": ((4, 4), 0, False),
    "beit": ((4, 4), 1, True),
    "beit_shared": ((4, 4), 1, True),
    "data2vec": ((4, 4), 1, True),
}
PLACES = [("layer", layer) for layer in range(LAYERS)] + [("hidden_state", state) for state in range(LAYERS + 1)]
AT_EACH = [(name, *place) for name in SHAPES for place in PLACES]


def noise(width: int = 57, height: int = 43) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def tower(folder: Path) -> torch.nn.Module:
    network = full_model(folder)
    return getattr(network, "vision_model", network)


def hidden_states(folder: Path, images: Tensor) -> tuple[Tensor, ...]:
    """By the library alone, the whole model."""
    with torch.inference_mode(), quiet():
        return tower(folder)(pixel_values=images, output_hidden_states=True).hidden_states


def block_output(folder: Path, images: Tensor, layer: int) -> Tensor:
    """By the whole model and a hook of the test's own."""
    network, found = tower(folder), []
    blocks = next(m for m in network.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == LAYERS)
    handle = blocks[layer].register_forward_hook(lambda _m, _i, out: found.append(out))
    with torch.inference_mode():
        network(pixel_values=images)
    handle.remove()
    return found[0][0] if isinstance(found[0], tuple) else found[0]


@pytest.mark.parametrize("name", SHAPES)
def test_positions_come_from_the_configuration(transformer: Models, name: str) -> None:
    """Grid, tokens before the patches and CLS, without weights; images have the processor's size."""
    geometry = TransformersGeometry(local(transformer(name)))
    grid, prefix, has_cls = SHAPES[name]
    assert (geometry.patch_size, geometry.grid, geometry.n_patches) == (8, grid, grid[0] * grid[1])
    assert (geometry.n_prefix, geometry.has_cls) == (prefix, has_cls)
    tensor = geometry.tensor(noise())
    assert (tuple(tensor.shape), tensor.dtype) == ((3, *geometry.size), torch.float32)
    assert geometry.backend == ("torchvision" if name == "dinov3" else "pil")


@pytest.mark.parametrize("name", SHAPES)
def test_no_weights_are_needed_for_the_geometry(transformer: Models, tmp_path: Path, name: str) -> None:
    """Weights that cannot be read are no matter: only their file has to be there."""
    folder = shutil.copytree(transformer(name), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert TransformersGeometry(local(folder)).grid == SHAPES[name][0]


@pytest.mark.parametrize(
    "case",
    long_but([case for case in AT_EACH if case[0] == "clip" or case[2] == LAYERS or case[1:] == ("layer", 1)], AT_EACH),
    ids=lambda case: "-".join(map(str, case)),
)
def test_rows_are_the_librarys_hidden_states(transformer: Models, case: tuple[str, str, int]) -> None:
    """Bit by bit; a block's output is under no final norm, the last hidden state is what the library says."""
    name, kind, number = case
    folder, place = transformer(name), {kind: number}
    vision = TransformersVision(entry(folder, **place))
    images = torch.stack([vision.geometry.tensor(noise()), vision.geometry.tensor(noise(40, 60))])
    rows = vision.embed(images)
    assert vision.d_model == WIDTH
    assert (tuple(rows.shape[::2]), rows.dtype) == ((2, WIDTH), torch.float32)
    assert rows.shape[1] == vision.geometry.n_prefix + vision.geometry.n_patches
    if "layer" in place:
        assert torch.equal(rows, block_output(folder, images, place["layer"]))
    else:
        assert torch.equal(rows, hidden_states(folder, images)[place["hidden_state"]])


@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2", "vit"])
def test_a_module_may_be_named(transformer: Models, name: str) -> None:
    """The output of a named module: a norm inside of the second block."""
    folder = transformer(name)
    known = dict(tower(folder).named_modules())
    path = next(key for key, module in known.items() if ".1." in key and isinstance(module, torch.nn.LayerNorm))
    vision = TransformersVision(entry(folder, module=path))
    images = vision.geometry.tensor(noise())[None]
    found: list[Tensor] = []
    handle = known[path].register_forward_hook(lambda _m, _i, out: found.append(out))
    hidden_states(folder, images)
    handle.remove()
    assert torch.equal(vision.embed(images), found[0])


def test_blocks_behind_the_place_are_neither_read_nor_computed(transformer: Models) -> None:
    """Fewer parameters than the whole model, one block; the final norm is never entered."""
    vision = TransformersVision(entry(transformer("dinov2"), layer=0))
    network = vision._network.network
    assert network.config.num_hidden_layers == 1
    assert sum(p.numel() for p in network.parameters()) < sum(
        p.numel() for p in full_model(transformer("dinov2")).parameters()
    )
    entered: list[int] = []
    network.layernorm.register_forward_pre_hook(lambda _m, _i: entered.append(1))
    vision.embed(torch.zeros(1, 3, 32, 32))
    assert entered == []


def test_patches_stand_row_by_row(transformer: Models) -> None:
    """What one patch shows changes one row of the first block's input: the n-th after the prefix, row by row."""
    for name in ("vit_wide", "dinov2_registers", "siglip"):
        vision = TransformersVision(entry(transformer(name), hidden_state=0))
        down, across = vision.geometry.grid
        base = torch.zeros(1, 3, *vision.geometry.size)
        for row, column in ((0, 0), (0, across - 1), (down - 1, 1)):
            changed = base.clone()
            changed[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
            differs = (vision.embed(changed) != vision.embed(base))[0].any(1).nonzero().flatten().tolist()
            assert differs == [vision.geometry.n_prefix + row * across + column]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_float32_rows_near_the_exact_ones(transformer: Models, precision: str) -> None:
    """Weights and forward pass in half precision; rows come out as float32, near but not equal."""
    model = entry(transformer("dinov2"))
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact = TransformersVision(model).embed(images)
    rough = TransformersVision(model, precision=precision).embed(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1 * float(exact.abs().max()))


@pytest.mark.parametrize(
    "size", long_but([(240, 321), (64, 500)], [(320, 240), (240, 321), (100, 100), (301, 223), (64, 500)])
)
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "clip"])
def test_mask_follows_the_image(transformer: Models, name: str, size: tuple[int, int]) -> None:
    """A white rectangle on black and its mask land on the same pixels, but for one pixel along the border."""
    geometry = TransformersGeometry(local(transformer(name)))
    image, mask = Image.new("RGB", size), Image.new("L", size)
    corners = [round(share * side) for share, side in zip((0.3, 0.2, 0.6, 0.7), (*size, *size), strict=True)]
    ImageDraw.Draw(image).rectangle(corners, "white")
    ImageDraw.Draw(mask).rectangle(corners, 255)
    low, high = (geometry.tensor(Image.new("RGB", size, colour))[0] for colour in ("black", "white"))
    down, across = (8 * patches for patches in geometry.grid)
    seen = (geometry.tensor(image)[0] > (low + high) / 2)[:down, :across]
    moved = geometry.mask(mask)
    assert (moved.dtype, tuple(moved.shape)) == (torch.bool, (down, across))
    assert not bool(((moved != seen) & ~near_border(moved, 1)).any())
    assert bool(moved.any())


@pytest.mark.parametrize("edge", [32, 35, 41])
def test_mask_and_image_agree_in_every_pixel(transformer: Models, tmp_path: Path, edge: int) -> None:
    """With nearest neighbour for the image too, nothing may differ: size, rounding and crop are the library's."""
    folder = shutil.copytree(transformer("dinov2"), tmp_path / "model")
    crop = {"height": 32, "width": 32}
    with quiet():
        hf.BitImageProcessor(size={"shortest_edge": edge}, crop_size=crop, resample=0).save_pretrained(folder)
    geometry = TransformersGeometry(local(folder))
    for size in [(57, 43), (43, 57), (100, 37), (50, 33), (33, 61), *((64, side) for side in range(65, 110, 4))]:
        mask = Image.effect_noise(size, 200).point(lambda level: 255 if level > 128 else 0)
        tensor = geometry.tensor(mask.convert("RGB"))[0]
        assert torch.equal(geometry.mask(mask), tensor > float(tensor.mean())), size


def test_odd_remainders_are_cropped_as_the_library_crops(transformer: Models, tmp_path: Path) -> None:
    """A crop that cannot stand in the middle: mask and image agree in every pixel (nothing is resampled here)."""
    folder = shutil.copytree(transformer("dinov2"), tmp_path / "model")
    with quiet():
        hf.BitImageProcessor(size={"shortest_edge": 41}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    geometry = TransformersGeometry(local(folder))
    for size in ((41, 41), (41, 50), (62, 41)):
        mask = Image.effect_noise(size, 200).point(lambda level: 255 if level > 128 else 0)
        tensor = geometry.tensor(mask.convert("RGB"))[0]
        assert torch.equal(geometry.mask(mask), tensor > float(tensor.mean()))


def test_a_transform_that_masks_cannot_follow_is_refused(transformer: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image processor that does something else, here a flip, is found out by trying and refused by name."""
    geometry = TransformersGeometry(local(transformer("vit")))
    plain = geometry._processor

    class Flipping:
        size, do_resize = plain.size, True

        def __call__(self, images: Image.Image, **options: object) -> object:
            return plain(images=images.transpose(Image.Transpose.FLIP_LEFT_RIGHT), **options)

    monkeypatch.setattr(geometry, "_processor", Flipping())
    with pytest.raises(
        CheckpointError, match=r"Masks cannot follow Flipping of .*more than a resize and a centre crop"
    ):
        geometry.mask(Image.new("L", (50, 40)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("swin", r"\(swin\) is hierarchical \(depths: \[1, 1\]\)"),
        ("naflex", r"varies with the image \(NaFlex, up to 16 patches\)"),
        ("mae", r"gives \[5, 16\] for an image, expected 1 CLS and register tokens and 16 patches \(4x4 of 8 pixels\)"),
    ],
)
def test_other_grids_are_refused_by_what_was_found(transformer: Models, name: str, said: str) -> None:
    """Hierarchical models, variable grids and random subsets of patches."""
    with pytest.raises(CheckpointError, match=said):
        TransformersGeometry(local(transformer(name)))


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (lambda: hf.ViTImageProcessor(size={"height": 48, "width": 48}), "does not take the 48x48 images"),
        (lambda: hf.ViTImageProcessor(do_resize=False), "no fixed size"),
        (lambda: hf.CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False), "no fixed size"),
    ],
)
def test_an_image_processor_that_does_not_fit(
    transformer: Models, tmp_path: Path, processor: Callable[[], object], said: str
) -> None:
    """Images of another size than the model's, or of no fixed size."""
    folder = shutil.copytree(transformer("vit"), tmp_path / "model")
    with quiet():
        processor().save_pretrained(folder)  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match=said):
        TransformersGeometry(local(folder))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"layer": 3}, r"has blocks 0\.\.2; `layer: 3` does not exist"),
        ({"hidden_state": 4}, r"has hidden states 0\.\.3; `hidden_state: 4` does not exist"),
        ({"module": "layers.1.norm9"}, r"has no module `layers\.1\.norm9`\. Nearest: "),
        ({"module": "pooler"}, r"gave \[1, 16\], expected \[1, positions, d_model\]"),
        ({"module": "embeddings.patch_embeddings"}, r"gave 16 positions, expected 17 \(1 before the patches and 16"),
    ],
)
def test_places_that_do_not_exist_or_hold_no_rows(transformer: Models, place: dict[str, object], said: str) -> None:
    """Which places there are, or what the place gave."""
    with pytest.raises(CheckpointError, match=said):
        TransformersVision(entry(transformer("vit"), **place))


def test_rows_of_a_data_set(transformer: Models, pictures: ClevrFolder) -> None:
    """Through the platform's own door: CLS is position 0, patches come behind the registers."""
    model = entry(transformer("dinov2_registers"))
    reader = open_dataset(pictures.entry())
    source = open_image_rows(reader, model, ("patch", "cls"), "cpu", "float32")
    vision = TransformersVision(model)
    for example, rows in zip(("a", "b"), source.embed(["a", "b"]), strict=True):
        expected = vision.embed(vision.geometry.tensor(reader.image(example))[None])[0]
        torch.testing.assert_close(rows.rows["cls"], expected[:1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rows.rows["patch"], expected[5:], rtol=1e-5, atol=1e-5)
    assert open_geometry(model.transformer).n_patches == source.rows_per_example("patch") == 16


def test_cls_of_a_model_without_cls_is_refused(transformer: Models, pictures: ClevrFolder) -> None:
    """SigLIP has patches only."""
    reader, model = open_dataset(pictures.entry()), entry(transformer("siglip"))
    with pytest.raises(CheckpointError, match="have no CLS position; use token kind `patch`"):
        open_image_rows(reader, model, ("patch", "cls"), "cpu", "float32")


def test_a_mask_smaller_than_the_crop_is_refused(transformer: Models, tmp_path: Path) -> None:
    """Where the library would fill up with black, a mask has nothing to say."""
    folder = shutil.copytree(transformer("dinov2"), tmp_path / "model")
    with quiet():
        hf.BitImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    with pytest.raises(DatasetError, match="less than the crop"):
        TransformersGeometry(local(folder)).mask(Image.new("L", (50, 50)))
