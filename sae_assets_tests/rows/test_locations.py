"""Where rows stand: the pixels of a patch are those that the model's own preprocessing shows it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sae_assets import ops
from sae_assets.artifacts import Examples, offsets_of
from sae_assets.artifacts.row_locations import RowLocations
from sae_assets.datasets import ImageReader, open_dataset
from sae_assets.errors import CheckpointError
from sae_assets.rows.images import Geometry
from sae_assets.rows.locations import locate_rows, transform_of
from sae_assets.rows.open_clip.geometry import ImageGeometry
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets_tests.datasets.layouts import entry_of, write_csv
from sae_assets_tests.datasets.pictures import SHOWN, save
from sae_assets_tests.rows import tiny_transformers
from sae_assets_tests.rows.tiny_model import catalog_model, local, write_tiny_model

SIZES = [(64, 64), (320, 240), (240, 320), (301, 223), (40, 30), (33, 500), (1, 7)]


@pytest.fixture(scope="module")
def geometries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Geometry]:
    base = tmp_path_factory.mktemp("geometries")
    made: dict[str, Geometry] = {}
    for mode in ("shortest", "squash", "longest"):
        folder = write_tiny_model(base / mode, vision={"image_size": 64}, preprocessing={"resize_mode": mode})
        made[mode] = ImageGeometry(local(folder))
    oblong = write_tiny_model(base / "oblong", vision={"image_size": [48, 80]}, preprocessing={"resize_mode": "squash"})
    made["not square"] = ImageGeometry(local(oblong))
    made["transformers"] = TransformersGeometry(
        tiny_transformers.local(tiny_transformers.write_transformer(base / "vit", "vit"))
    )
    return made


def located(geometry: Geometry, size: tuple[int, int]) -> RowLocations:
    transform = torch.tensor([transform_of(geometry, *size)], dtype=torch.int32)
    side = geometry.patch_size
    return RowLocations(0, offsets_of(torch.tensor([geometry.n_patches])), None, transform, geometry.grid, (side, side))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["shortest", "squash", "longest", "not square", "transformers"])
def test_patches_lie_where_the_model_sees_them(
    geometries: dict[str, Geometry], name: str, size: tuple[int, int]
) -> None:
    """What is white within a patch's box is white to the model in that patch, and what is white outside is black.

    The picture goes through the model's own preprocessing, which interpolates: within a pixel of the border nothing is
    asked.
    """
    geometry = geometries[name]
    boxes = located(geometry, size).boxes(0)
    low, high = (geometry.tensor(Image.new("RGB", size, colour))[0] for colour in ("black", "white"))
    middle = (low + high) / 2
    down, across = geometry.grid
    side = geometry.patch_size
    for place in (0, across - 1, down * across // 2, down * across - 1):
        left, top, right, bottom = boxes[place].tolist()
        pixels = np.zeros((size[1], size[0]), np.uint8)
        pixels[int(np.ceil(top)) : int(bottom), int(np.ceil(left)) : int(right)] = 255
        seen = (geometry.tensor(Image.fromarray(pixels).convert("RGB"))[0] > middle)[: down * side, : across * side]
        share = seen.view(down, side, across, side).float().mean((1, 3)).flatten()
        if (right - left) * (bottom - top) < 1:
            continue  # padding, or less than a pixel
        others = torch.cat([share[:place], share[place + 1 :]])
        scale = min(right - left, bottom - top)
        if scale >= 4:  # of fewer pixels, rounding to whole ones decides
            assert share[place] > 0.3
            assert share[place] >= others.max()
        assert int(share.argmax()) == place or scale < 4


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["shortest", "squash", "longest", "not square", "transformers"])
def test_a_mask_comes_back_from_its_patches(geometries: dict[str, Geometry], name: str, size: tuple[int, int]) -> None:
    """A mask to patches and back: every pixel of it that the model sees lies in the box of a patch that it covers."""
    geometry = geometries[name]
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : max(height // 3 + 1, 2 * height // 3), width // 4 : max(width // 4 + 1, width // 2)] = 255
    covered = ops.ground_truth.pixels_of_patches(geometry.mask(Image.fromarray(mask)), geometry.patch_size) > 0
    boxes = located(geometry, size).boxes(0)
    back = np.zeros((height, width), bool)
    seen = np.zeros((height, width), bool)
    for box, is_covered in zip(boxes.tolist(), covered.tolist(), strict=True):
        left, top, right, bottom = box
        part = (slice(int(top), int(np.ceil(bottom))), slice(int(left), int(np.ceil(right))))
        seen[part] = True
        if is_covered:
            back[part] = True
    lost = (mask > 0) & seen & ~back
    step = max(1, int(np.ceil(max(width, height) / 48)))  # nearest neighbour passes over pixels between its samples
    rows, columns = np.nonzero(lost)
    inner = mask.copy()
    for _ in range(step):
        padded = np.pad(inner, 1)
        inner = np.minimum.reduce(
            [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        )
    assert not inner[rows, columns].any()


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (480, 640), (500, 333), (1920, 1080), (225, 224), (100, 80)])
def test_the_transform_is_the_librarys_own(geometries: dict[str, Geometry], size: tuple[int, int]) -> None:
    """To the pixel: the shorter side becomes the input, the longer is cut to whole pixels and cropped in the middle."""
    short = min(size)
    width, height = (64 * side // short for side in size)
    expected = (*size, width, height, round((width - 64) / 2), round((height - 64) / 2))
    assert transform_of(geometries["shortest"], *size) == expected


def test_padding_is_no_part_of_a_picture(geometries: dict[str, Geometry]) -> None:
    """A picture twice as wide as high is padded above and below: those patches have empty boxes."""
    boxes = located(geometries["longest"], (128, 64)).boxes(0).view(8, 8, 4)
    heights = (boxes[..., 3] - boxes[..., 1])[:, 0]
    assert heights.tolist() == [0, 0, 16, 16, 16, 16, 0, 0]
    assert boxes[0, 0].tolist() == [0, 0, 16, 0]


@pytest.mark.slow
def test_what_is_no_resize_is_refused() -> None:
    """A transform that turns pictures cannot be told by a resize and a crop."""

    class Turned:
        patch_size, grid, n_patches, n_prefix, has_cls = 8, (2, 2), 4, 0, False

        def mask(self, mask: Image.Image) -> torch.Tensor:
            return torch.from_numpy(np.asarray(mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((16, 16))) > 0)

    with pytest.raises(CheckpointError, match="no resize with a crop or padding"):
        transform_of(Turned(), 40, 40)  # type: ignore[arg-type]


def test_boxes_are_of_pictures() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        RowLocations(0, torch.tensor([0, 1]), torch.zeros(1, 2, dtype=torch.int32), None).boxes(0)


@pytest.mark.parametrize("orientation", sorted(SHOWN))
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_a_picture_turned_by_exif_is_marked_as_it_is_shown(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, orientation: int, mode: str
) -> None:
    """Its mask goes to patches, and these lie on the square that a person sees: boxes are of the picture as shown."""
    folder = tmp_path_factory.getbasetemp() / f"exif-{mode}"
    if not folder.exists():
        write_tiny_model(folder, vision={"image_size": 64}, preprocessing={"resize_mode": mode})
    stored = np.zeros((96, 160, 3), np.uint8)
    stored[40:64, 56:88] = 255
    upright = SHOWN[orientation](stored)
    save(Image.fromarray(stored), tmp_path / "turned.png", "PNG", orientation, {})
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ascontiguousarray(upright[..., 0])).save(tmp_path / "masks" / "turned.png")
    write_csv(tmp_path / "metadata.csv", [{"image": "turned.png", "square": 1, "split": "cal"}])
    entry, model = entry_of(tmp_path, "table", ("square",)), catalog_model(folder, folder / "no-sae")
    reader = open_dataset(entry)
    assert isinstance(reader, ImageReader)
    assert np.array_equal(np.asarray(reader.image("turned")), upright)
    chunk = Examples(first_index=0, example_ids=("turned",), paths=("turned.png",), file_hashes=("",))
    boxes = locate_rows(chunk, entry, model, reader).boxes(0)
    covered = (
        ops.ground_truth.pixels_of_patches(ImageGeometry(local(folder)).mask(reader.masks("turned")["square"]), 8) > 0
    )
    back = np.zeros(upright.shape[:2], bool)
    for left, top, right, bottom in boxes[covered].tolist():
        part = (slice(int(top), int(np.ceil(bottom))), slice(int(left), int(np.ceil(right))))
        back[part] = True
        assert upright[part].any(), "a patch that the mask covers lies beside the square"
    assert back[upright[..., 0] > 0].all()
