"""An image's way into a transformer, and its mask's: the same geometric steps, known from the configuration alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sae_assets.artifacts import Labels
from sae_assets.catalog import Dataset, Model, Transformer
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_labels
from sae_assets.datasets import open_dataset
from sae_assets.rows.open_clip.geometry import ImageGeometry
from sae_assets.rows.truth import row_truth
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.helpers.images import near_border
from sae_assets_tests.rows.tiny_model import catalog_model, local, write_tiny_model

CLIP = Transformer(library="open_clip", name="ViT-L-14", pretrained="laion2b_s32b_b82k")


def test_published_model_from_its_configuration_alone() -> None:
    """ViT-L-14 of LAION-2B: patches of 14 in a grid of 16x16, and mean = std = 0.5 (OpenAI's are others)."""
    geometry = ImageGeometry(CLIP)
    assert (geometry.patch_size, geometry.grid, geometry.n_patches) == (14, (16, 16), 256)
    assert tuple(geometry.preprocessing["mean"]) == tuple(geometry.preprocessing["std"]) == (0.5, 0.5, 0.5)
    openai = ImageGeometry(CLIP.model_copy(update={"name": "ViT-L-14-quickgelu", "pretrained": "openai"}))
    assert tuple(openai.preprocessing["mean"]) != (0.5, 0.5, 0.5)


def test_published_preprocessing_is_applied() -> None:
    """White is 1 and black is -1 after mean = std = 0.5; the tensor has the model's size."""
    geometry = ImageGeometry(CLIP)
    for colour, value in (("white", 1.0), ("black", -1.0)):
        tensor = geometry.tensor(Image.new("RGB", (320, 240), colour))
        assert (tuple(tensor.shape), tensor.dtype) == ((3, 224, 224), torch.float32)
        assert bool((tensor == value).all())


def test_local_model_from_its_folder(tiny: Path) -> None:
    """The tiny model: patches of 8 in a grid of 4x4."""
    geometry = ImageGeometry(local(tiny))
    assert (geometry.patch_size, geometry.grid, geometry.n_patches) == (8, (4, 4), 16)
    assert tuple(geometry.tensor(Image.new("RGB", (50, 40))).shape) == (3, 32, 32)


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (224, 224), (100, 100), (301, 223), (64, 500)])
@pytest.mark.parametrize("box", [(0.3, 0.2, 0.6, 0.7), (0.0, 0.0, 0.5, 0.5), (0.1, 0.55, 0.95, 0.9)])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_mask_follows_the_image(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], box: tuple[float, ...], resize_mode: str
) -> None:
    """A white rectangle on black and its mask land on the same pixels, but for one pixel along the border."""
    folder = tmp_path_factory.getbasetemp() / f"geometry-{resize_mode}"
    if not folder.exists():
        write_tiny_model(folder, vision={"image_size": 64}, preprocessing={"resize_mode": resize_mode})
    corners = tuple(round(share * side) for share, side in zip(box, (*size, *size), strict=True))
    image, mask = Image.new("RGB", size), Image.new("L", size)
    ImageDraw.Draw(image).rectangle(corners, "white")
    ImageDraw.Draw(mask).rectangle(corners, 255)
    for geometry in (ImageGeometry(local(folder)), *([ImageGeometry(CLIP)] if resize_mode == "shortest" else [])):
        moved, seen = geometry.mask(mask), geometry.tensor(image)[0] > 0
        assert (moved.dtype, moved.shape) == (torch.bool, seen.shape)
        wrong = moved != seen
        assert not bool((wrong & ~near_border(moved, 1)).any())
        assert bool(seen.any()) == bool(moved.any())


def test_mask_off_by_more_than_a_pixel_would_be_seen(tiny: Path) -> None:
    """The comparison above can fail: a mask shifted by a tenth of the image differs away from the border."""
    geometry = ImageGeometry(local(tiny))
    image, mask = Image.new("RGB", (320, 240)), Image.new("L", (320, 240))
    ImageDraw.Draw(image).rectangle((100, 60, 200, 160), "white")
    ImageDraw.Draw(mask).rectangle((132, 60, 232, 160), 255)
    wrong = geometry.mask(mask) != (geometry.tensor(image)[0] > 0)
    assert bool((wrong & ~near_border(geometry.mask(mask), 1)).any())


def chunk_of(folder: ClevrFolder, **changes: object) -> tuple[Labels, Dataset]:
    entry = folder.write().entry(**changes)
    reader = open_dataset(entry)
    return describe_labels(Manifest("0000", 0, tuple(reader.by_id)), reader), entry


def model_of(folder: Path) -> Model:
    return catalog_model(folder, folder / "no-sae.pt")


@pytest.mark.parametrize(
    ("box", "min_overlap", "patches"),
    [
        ((8, 0, 15, 7), 1, [1]),
        ((8, 0, 15, 7), 64, [1]),
        ((8, 0, 15, 7), 65, []),
        ((0, 0, 31, 31), 1, list(range(16))),
        ((24, 24, 31, 31), 1, [15]),
        ((0, 8, 0, 8), 1, [4]),
        ((0, 8, 0, 8), 2, []),
        ((4, 4, 9, 7), 1, [0, 1]),
        ((4, 4, 9, 7), 8, [0, 1]),
        ((4, 4, 9, 7), 9, [0]),
        ((4, 4, 9, 7), 17, []),
    ],
)
def test_patches_with_enough_of_the_mask_are_positive(
    tiny: Path, tmp_path: Path, box: tuple[int, ...], min_overlap: int, patches: list[int]
) -> None:
    """A patch is positive for the image's concepts when at least ``min_overlap`` of its pixels are in the mask."""
    folder = ClevrFolder(tmp_path / "pictures")
    folder.add("a", concept="color::red", box=box)
    folder.add("b", concept="neither", box=box)
    chunk, dataset = chunk_of(folder, min_overlap=min_overlap)
    truth = row_truth(chunk, "patch", dataset, model_of(tiny), open_dataset(dataset))
    rows = truth.rows
    assert {len(each) for each in rows} == {16} and truth.patch_pixels == 64
    assert truth.pixels is not None
    area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    assert [pixels.sum(0).tolist() for pixels in truth.pixels] == [[0, area], [0, 0]]
    assert [tuple(truth.shape) for truth in rows] == [(16, 2), (16, 2)]
    assert rows[0][:, 1].nonzero().flatten().tolist() == patches
    assert not bool(rows[0][:, 0].any())
    assert not bool(rows[1].any())


def test_examples_without_concepts_need_no_mask(tiny: Path, tmp_path: Path) -> None:
    """Where no concept is true nothing can be positive: a missing mask is no error there."""
    folder = ClevrFolder(tmp_path / "pictures")
    folder.add("a", concept="neither")
    (folder.root / "masks/a.png").unlink()
    chunk, dataset = chunk_of(folder, masks="files")
    assert not bool(row_truth(chunk, "patch", dataset, model_of(tiny), open_dataset(dataset)).rows[0].any())


def test_truth_of_whole_examples_is_their_labels(tmp_path: Path) -> None:
    """One row per example with its labels, for CLS rows."""
    folder = ClevrFolder(tmp_path / "pictures")
    for name, concept in (("a", "color::red"), ("b", "neither"), ("c", "color::blue")):
        folder.add(name, concept=concept)
    chunk, dataset = chunk_of(folder)
    whole = row_truth(chunk, "cls", dataset, model_of(tmp_path), open_dataset(dataset))
    assert whole.pixels is None
    assert [truth.tolist() for truth in whole.rows] == [[[False, True]], [[False, False]], [[True, False]]]


def test_many_inputs_are_each_its_own(tiny: Path) -> None:
    """Pictures by threads, numbers of all of them at once: the bits of open_clip's transform of each."""
    geometry, noise = ImageGeometry(local(tiny)), np.random.default_rng(0)
    sizes = [(32, 32), (33, 47), (90, 40), (320, 240)]
    images = [Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]
    every_value = np.arange(32 * 32 * 3).reshape(3, 32, 32).transpose(1, 2, 0)  # of a byte, in each channel
    images.append(Image.fromarray(every_value.astype(np.uint8)))
    together = geometry.inputs([geometry.pixels(image) for image in images], "cpu")
    for image, found in zip(images, together, strict=True):
        assert torch.equal(found, geometry._transform(image)) and torch.equal(found, geometry.tensor(image))
