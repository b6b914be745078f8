"""Masks: inside is whatever is not black, label maps by number or colour, and many values are asked about."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sae_assets.catalog import load_catalog
from sae_assets.datasets import open_dataset, pixels
from sae_assets.datasets.inspection import inspect_dataset
from sae_assets.datasets.masks import open_mask
from sae_assets.errors import CatalogError, DatasetError
from sae_assets_tests.datasets.layouts import entry_of, write_csv, write_image
from sae_assets_tests.datasets.pictures import SHOWN, save
from sae_assets_tests.datasets.test_pixels import png
from sae_assets_tests.strategies import PROPERTY

CONCEPTS = ("road", "sky")
HALF = np.zeros((6, 8), bool)
HALF[:, :4] = True


def streets(root: Path, **changes: Any) -> Any:
    """One image ``a`` of which all concepts are true, with masks as they lie in ``masks``."""
    write_image(root / "a.png")
    write_csv(root / "streets.csv", [{"image": "a.png", "road": 1, "sky": 1, "split": "cal"}])
    return open_dataset(entry_of(root, "table", CONCEPTS, **changes))


def seen(reader: Any, concept: str = "road") -> np.ndarray:
    return np.asarray(reader.masks("a")[concept]) > 0


def refusal(root: Path, **changes: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        streets(root, **changes).masks("a")
    return str(caught.value)


def masked(root: Path, drawn: np.ndarray | Image.Image, name: str = "a", **options: Any) -> Path:
    image = drawn if isinstance(drawn, Image.Image) else Image.fromarray(drawn)
    path = root / "masks" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("colour", [(0, 0, 1), (1, 0, 0), (0, 1, 0), (255, 0, 0), (255, 255, 255)])
def test_any_channel_above_zero_is_inside(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    """Luminance would round the darkest of them to black."""
    masked(tmp_path, (HALF[..., None] * np.array(colour)).astype(np.uint8))
    assert (seen(streets(tmp_path)) == HALF).all()


@pytest.mark.parametrize("labels", [None, [0], ["#000001"]])
def test_large_masks_of_colours_are_looked_at_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: list[Any] | None
) -> None:
    """Three bytes of each pixel, and what is made of them, are not in memory at once beside the library's own."""
    monkeypatch.setattr(pixels, "PIXELS_AT_ONCE", 10_000)
    n = 800
    inside = np.arange(n)[:, None].repeat(n, 1) < 300
    colours = np.zeros((n, n, 3), np.uint8)
    colours[inside if labels != [0] else ~inside] = (0, 0, 1) if labels != [0] else (5, 5, 5)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    tracemalloc.start()
    try:
        found = np.asarray(open_mask("x", tmp_path / "mask.png", (n, n), labels=labels)) > 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, inside) and peak < 5 * n * n


@pytest.mark.parametrize("level", [1, 2, 255, 256, 65535])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_any_level_is_inside(tmp_path: Path, level: int, kind: Any) -> None:
    masked(tmp_path, (HALF * min(level, np.iinfo(kind).max)).astype(kind))
    assert (seen(streets(tmp_path)) == HALF).all()


def test_palette_counts_by_its_colours(tmp_path: Path) -> None:
    """A place of the palette may be any colour; two places that are black are asked about."""
    image = Image.fromarray(HALF.astype(np.uint8))
    image.putpalette(bytes([0, 0, 0, 0, 0, 4]))
    masked(tmp_path, image)
    assert (seen(streets(tmp_path)) == HALF).all()
    image.putpalette(bytes(6))
    masked(tmp_path, image)
    assert "0 of its palette, which is black too, 1 of its palette" in refusal(tmp_path)
    assert (seen(streets(tmp_path, labels={"road": 1, "sky": 0})) == HALF).all()


def test_many_values_are_asked_about(tmp_path: Path) -> None:
    """``inspect`` names the mask, the values and both ways out."""
    numbers = np.zeros((6, 8), np.uint8)
    numbers[:, :4], numbers[3:, 4:], numbers[0] = 3, 7, 255
    masked(tmp_path, numbers)
    said = refusal(tmp_path)
    assert "a.png holds 3 values beside black (" in said and "`labels: {road: 7}`" in said and "`any`" in said
    streets(tmp_path)
    (bad,) = inspect_dataset(entry_of(tmp_path, "table", CONCEPTS), files=True)["files"]["bad"]
    assert "3 values beside black" in bad
    reader = streets(tmp_path, labels={"road": 7, "sky": (3, 255)})
    assert (seen(reader) == (numbers == 7)).all()
    assert (seen(reader, "sky") == np.isin(numbers, (3, 255))).all()
    assert (seen(streets(tmp_path, labels="any")) == (numbers > 0)).all()
    rng = np.random.default_rng(0)
    masked(tmp_path, rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    assert "holds 48 values beside black" in refusal(tmp_path)


def test_labels_that_no_map_holds_are_a_problem(tmp_path: Path) -> None:
    """Rows of all positive examples would be negative."""
    masked(tmp_path, HALF.astype(np.uint8) * 7)
    streets(tmp_path)
    for labels, problem in (({"road": 7, "sky": (8, 300)}, True), ({"road": 7, "sky": 0}, False)):
        found = inspect_dataset(entry_of(tmp_path, "table", CONCEPTS, labels=labels), files=True)
        said = "no mask of the 1 positive examples of 'sky' holds 8, 300, as `labels` says"
        assert (said in found["problems"]) == problem and found["sound"] != problem


def test_mask_that_is_transparent_in_parts(tmp_path: Path) -> None:
    """White everywhere, and cut out by transparency: nothing says that this means inside."""
    pixels = np.full((6, 8, 4), 255, np.uint8)
    masked(tmp_path, pixels)
    assert seen(streets(tmp_path)).all()
    pixels[0, 0, 3] = 0
    masked(tmp_path, pixels)
    assert "transparent in parts" in refusal(tmp_path)


def test_mask_is_turned_as_its_image(tmp_path: Path) -> None:
    """The mask is drawn on the picture as shown; one of the stored picture has another size."""
    save(Image.new("RGB", (6, 8)), tmp_path / "a.jpg", "JPEG", 6, {})
    write_csv(tmp_path / "streets.csv", [{"image": "a.jpg", "road": 1, "sky": 1, "split": "cal"}])
    masked(tmp_path, HALF.astype(np.uint8) * 255)
    entry = entry_of(tmp_path, "table", CONCEPTS)
    assert (seen(open_dataset(entry)) == HALF).all()
    masked(tmp_path, HALF.T.astype(np.uint8) * 255)
    with pytest.raises(DatasetError, match=r"mask a\.png is 6x8, its image 8x6 pixels as shown \(EXIF"):
        open_dataset(entry).masks("a")  # type: ignore[attr-defined]


@dataclass(frozen=True)
class LabelMap:
    """Class numbers [height, width], and how they are stored."""

    numbers: np.ndarray
    kind: str
    orientation: int


KINDS = {"grey": 256, "palette": 256, "grey of 16 bits": 65536, "grey of 4 bits": 16, "grey of 2 bits": 4,
         "one bit": 2, "equal channels": 256, "tiff": 65536}  # fmt: skip


@st.composite
def label_maps(draw: st.DrawFn) -> LabelMap:
    kind = draw(st.sampled_from(sorted(KINDS)))
    values = draw(st.lists(st.integers(0, KINDS[kind] - 1), min_size=1, max_size=4, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = rng.choice(values, (draw(st.integers(1, 6)), draw(st.integers(1, 6))))
    turns = kind in ("grey", "palette", "grey of 16 bits", "equal channels")
    return LabelMap(numbers, kind, draw(st.sampled_from(sorted(SHOWN))) if turns else 1)


def write_label_map(one: LabelMap, stem: Path) -> Path:
    numbers, path = one.numbers, stem.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = {"grey of 4 bits": 4, "grey of 2 bits": 2, "one bit": 1}.get(one.kind)
    if depth is not None:
        path.write_bytes(png(numbers, 0, depth))
    elif one.kind in ("grey of 16 bits", "tiff"):
        path, form = (stem.with_suffix(".tif"), "TIFF") if one.kind == "tiff" else (path, "PNG")
        save(Image.fromarray(numbers.astype(np.uint16)), path, form, one.orientation, {})
    else:
        grey = numbers.astype(np.uint8)
        image = Image.fromarray(np.repeat(grey[..., None], 3, 2) if one.kind == "equal channels" else grey)
        if one.kind == "palette":
            image.putpalette(np.random.default_rng(5).integers(0, 256, 768).astype(np.uint8).tobytes())
        save(image, path, "PNG", one.orientation, {})
    return path


@settings(PROPERTY, max_examples=2 * PROPERTY.max_examples)
@given(one=label_maps(), data=st.data())
def test_any_label_map_gives_each_class_its_pixels(
    tmp_path_factory: pytest.TempPathFactory, one: LabelMap, data: st.DataObject
) -> None:
    """Whatever stores the numbers; one that is nowhere is an empty mask."""
    root = tmp_path_factory.mktemp("streets")
    shown = SHOWN[one.orientation](one.numbers)
    write_image(root / "a.png", shown.shape[::-1])
    path = write_label_map(one, root / "labels" / "a")
    row = {"image": "a.png", "road": 1, "sky": 1, "split": "cal", "regions": f"labels/{path.name}"}
    write_csv(root / "streets.csv", [row])
    number = data.draw(st.sampled_from([int(value) for value in np.unique(one.numbers)]))
    other = data.draw(st.integers(0, 65535))
    for labels, truth in (
        ({"road": number, "sky": other}, {"road": shown == number, "sky": shown == other}),
        ({"road": f"{number}-{number + other}", "sky": [number, other]},
         {"road": (shown >= number) & (shown <= number + other), "sky": (shown == number) | (shown == other)}),
    ):  # fmt: skip
        reader = open_dataset(entry_of(root, "table", CONCEPTS, labels=labels, columns={"mask": "regions"}))
        for concept in CONCEPTS:
            assert (seen(reader, concept) == truth[concept]).all()


def test_colour_table(tmp_path: Path) -> None:
    """Cityscapes draws its classes in colours; in RGB and in a palette."""
    colours = np.array([(0, 0, 0), (128, 64, 128), (70, 130, 180)], np.uint8)
    numbers = np.arange(48).reshape(6, 8) % 3
    palette = Image.fromarray(numbers.astype(np.uint8))
    palette.putpalette(colours.tobytes())
    for image in (Image.fromarray(colours[numbers]), palette):
        masked(tmp_path, image)
        reader = streets(tmp_path, labels={"road": "#804080", "sky": ["#4682B4", "#ffffff"]})
        assert (seen(reader) == (numbers == 1)).all() and (seen(reader, "sky") == (numbers == 2)).all()
    masked(tmp_path, colours[numbers])
    assert "holds colours, but `labels` names the class number 7" in refusal(tmp_path, labels={"road": 7, "sky": 3})
    masked(tmp_path, numbers.astype(np.uint16))
    assert "has no colours" in refusal(tmp_path, labels={"road": "#804080", "sky": 3})


def test_numbers_that_a_format_does_not_keep(tmp_path: Path) -> None:
    """JPEG, and floats that are no numbers."""
    write_image(tmp_path / "a.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(HALF.astype(np.uint8) * 7).save(tmp_path / "masks/a.png", "JPEG")
    assert "class number 7; name a colour" in refusal(tmp_path, labels={"road": 7, "sky": 3})
    values = np.where(HALF, np.nan, 0).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "masks/a.png", "TIFF")
    assert "none at all (NaN)" in refusal(tmp_path)


def catalog_problems(tmp_path: Path, **changes: Any) -> str:
    fields = {"root": ".", "layout": "table", "modality": "image", "concepts": [*CONCEPTS], "models": ["clip-mini"]}
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {"streets": {**fields, **changes}}}))
    with pytest.raises(CatalogError) as caught:
        load_catalog(tmp_path / "catalog.yaml")
    return str(caught.value)


def test_labels_in_the_catalog(tmp_path: Path) -> None:
    """Every concept has one, each is a number, range or colour, and layouts that have no masks refuse them."""
    assert "labels: concept 'sky' has none" in catalog_problems(tmp_path, labels={"road": 7})
    labels = {"road": 7, "sky": 1}
    assert "labels.skyy: no such concept" in catalog_problems(tmp_path, labels={**labels, "skyy": 2})
    for wrong in ("seven", "#12", "9-3", -1, True, 1.5, []):
        assert "labels" in catalog_problems(tmp_path, labels={**labels, "road": wrong})
    assert "layout 'coco' has none" in catalog_problems(tmp_path, labels=labels, layout="coco")
    text = {"modality": "text", "models": ["gemma-mini"]}
    assert "labels: is for images" in catalog_problems(tmp_path, labels=labels, **text)
    assert "white: is for images" in catalog_problems(tmp_path, white=255, **text)
