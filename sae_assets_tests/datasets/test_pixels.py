"""Pictures of every format, mode, depth and orientation are read as they are shown, or refused by name."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, ImageCms, TiffImagePlugin

from sae_assets.datasets import open_dataset, pixels
from sae_assets.datasets.images import image_size, open_image
from sae_assets.datasets.inputs import _picture
from sae_assets.datasets.masks import open_mask
from sae_assets.errors import CatalogError, DatasetError
from sae_assets.settings import PIXELS_VARIABLE
from sae_assets_tests.datasets.layouts import entry_of, write_csv
from sae_assets_tests.datasets.pictures import SHOWN, Picture, pictures, save
from sae_assets_tests.strategies import PROPERTY

RAMP = np.arange(96, dtype=np.int64)[None].repeat(4, 0)
HEIGHT, WIDTH = 3, 5
COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture(autouse=True, scope="module")
def _a_few_pixels_at_once() -> Iterator[None]:
    """Pictures of tests are too small to be converted in parts otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "PIXELS_AT_ONCE", 4)
        yield


def read(path: Path, white: float | None = None) -> np.ndarray:
    return np.asarray(open_image("pictures", path.parent, path.name, white))


def refusal(path: Path, white: float | None = None) -> str:
    with pytest.raises(DatasetError, match="'pictures'") as caught:
        read(path, white)
    assert path.name in str(caught.value)
    return str(caught.value)


def png(values: np.ndarray, colour_type: int, depth: int, chunks: bytes = b"") -> bytes:
    """A PNG by its own specification: Pillow writes neither 16 bits per colour nor fewer than 8 of grey as wished."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    flat = values.reshape(height, -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = ((flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(height, -1).astype(np.uint8)
        rows = [np.packbits(row).tobytes() for row in bits]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@settings(PROPERTY, max_examples=4 * PROPERTY.max_examples)
@given(picture=pictures())
def test_any_picture_is_read_as_it_is_shown(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> None:
    """Through a data set's reader, and its size from the header; expectations are numpy's."""
    root = tmp_path_factory.mktemp("pictures")
    path = picture.save(root / "a")
    write_csv(root / "birds.csv", [{"image": path.name, "wing": 1, "split": "cal"}])
    image: Any = open_dataset(entry_of(root, "table", ("wing",), white=picture.white)).image("a")  # type: ignore[attr-defined]
    assert image.mode == "RGB"
    seen = np.asarray(image).astype(float)
    assert seen.shape == picture.shown.shape
    assert np.abs(seen - picture.shown).max() <= picture.tolerance
    assert image_size("pictures", root, path.name) == image.size


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F"])
@pytest.mark.parametrize("orientation", sorted(SHOWN))
def test_orientation_of_tiff_tag(tmp_path: Path, mode: str, orientation: int) -> None:
    """TIFF says it in a tag of its own; compressed and not."""
    values = COLOURS[..., 0].astype(np.uint16) * 257
    values[0, 0] = 65535
    pixels = {"L": COLOURS[..., 0], "RGB": COLOURS, "I;16": values, "F": (values / 65535).astype(np.float32)}[mode]
    truth = COLOURS if mode == "RGB" else np.repeat((values / 257)[..., None], 3, 2)
    truth = np.repeat(COLOURS[..., :1], 3, 2) if mode == "L" else truth
    for name, compression in (("raw.tif", None), ("lzw.tif", "tiff_lzw")):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[274] = orientation
        Image.fromarray(pixels).save(tmp_path / name, compression=compression, tiffinfo=tags)
        seen = read(tmp_path / name)
        assert np.abs(seen - SHOWN[orientation](truth)).max() <= 1
        assert image_size("pictures", tmp_path, name) == seen.shape[1::-1]


def test_orientation_said_in_xmp(tmp_path: Path) -> None:
    """Some programs say it there alone."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(COLOURS).save(tmp_path / "a.png", pnginfo=None)
    Image.fromarray(COLOURS).save(tmp_path / "a.webp", lossless=True, xmp=xmp)
    assert (read(tmp_path / "a.webp") == SHOWN[6](COLOURS)).all()
    assert image_size("pictures", tmp_path, "a.webp") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
def test_fewer_bits_in_sixteen_are_asked_about(tmp_path: Path, bits: int) -> None:
    """They would come out dark; with ``white`` they are the ramp."""
    white = 2**bits - 1
    Image.fromarray((RAMP * white // 95).astype(np.uint16)).save(tmp_path / "a.png")
    said = refusal(tmp_path / "a.png")
    assert f"from 0 to {white} (mode I;16" in said and f"`white` in the catalog (65535, or {white}?)" in said
    assert np.abs(read(tmp_path / "a.png", white)[..., 0] - RAMP * 255 / 95).max() <= 1
    dark = read(tmp_path / "a.png", 65535)
    assert np.abs(dark[..., 0] - RAMP * white / 95 / 257).max() <= 1
    (tmp_path / "b.png").write_bytes(png(np.repeat((RAMP * white // 95)[..., None], 3, 2), 2, 16))
    assert "16 bits per colour, and none reaches half of them" in refusal(tmp_path / "b.png")
    assert "read with 65535 as white only" in refusal(tmp_path / "b.png", white)
    assert read(tmp_path / "b.png", 65535).max() == white >> 8


def test_black_is_black_at_any_depth(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "a.png")
    assert not read(tmp_path / "a.png").any()


@pytest.mark.parametrize(("colour_type", "bands"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_sixteen_bits(tmp_path: Path, colour_type: int, bands: int) -> None:
    """Within one level, transparency included."""
    values = np.random.default_rng(1).integers(0, 65536, (4, 5, bands))
    values[0, 0] = 65535
    (tmp_path / "a.png").write_bytes(png(values, colour_type, 16))
    colours = values[..., :3] if bands > 2 else np.repeat(values[..., :1], 3, 2)
    alpha = values[..., -1:] / 65535 if bands in (2, 4) else 1
    truth = (colours * alpha + 65535 * (1 - alpha)) / 257
    assert np.abs(read(tmp_path / "a.png") - truth).max() <= 2


def test_numbers_without_agreed_white(tmp_path: Path) -> None:
    """32 bits are refused until somebody says which number is white; numbers outside are refused then."""
    Image.fromarray((RAMP * 65535 // 95).astype(np.int32)).save(tmp_path / "a.tif")
    assert "32 bits have no agreed white" in refusal(tmp_path / "a.tif")
    assert np.abs(read(tmp_path / "a.tif", 65535)[..., 0] - RAMP * 255 / 95).max() <= 1
    assert "expected 0 (black) to 4095" in refusal(tmp_path / "a.tif", 4095)
    Image.fromarray((RAMP - 1).astype(np.int32)).save(tmp_path / "b.tif")
    assert "numbers from -1 to 94" in refusal(tmp_path / "b.tif", 255)


@pytest.mark.parametrize("wrong", [[-0.1, 1], [0, 255], [0, np.nan], [0, np.inf]])
def test_floats_outside_their_range(tmp_path: Path, wrong: list[float]) -> None:
    Image.fromarray(np.array([wrong], np.float32)).save(tmp_path / "a.tif")
    assert "expected 0 (black) to 1 (white" in refusal(tmp_path / "a.tif")


def test_white_is_zero(tmp_path: Path) -> None:
    """A TIFF whose zero is white, of 16 bits too, which Pillow leaves as they are."""
    values = (RAMP * 65535 // 95).astype(np.uint16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=tags)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    entry = content.index(struct.pack("<HHI", 262, 3, 1))
    content[entry + 8 : entry + 10] = struct.pack("<H", 0)
    (tmp_path / "a.tif").write_bytes(content)
    assert np.abs(read(tmp_path / "a.tif")[..., 0] - (255 - RAMP * 255 / 95)).max() <= 1


def test_palette_with_transparency(tmp_path: Path) -> None:
    """The entry's own colour is hidden."""
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette(bytes([10, 20, 30, 200, 100, 50]))
    image.save(tmp_path / "a.png", transparency=0)
    image.save(tmp_path / "a.gif", transparency=0)
    for name in ("a.png", "a.gif"):
        assert read(tmp_path / name).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    Image.fromarray(COLOURS).save(tmp_path / "b.png", transparency=tuple(int(c) for c in COLOURS[0, 0]))
    seen = read(tmp_path / "b.png")
    assert (seen[0, 0] == 255).all() and (seen[1:] == COLOURS[1:]).all()


@pytest.mark.parametrize(("bits", "row"), [(1, 0b01_000000), (2, 0b00_01_10_11), (4, 0x02)])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_transparent_grey_of_few_bits(tmp_path: Path, bits: int, row: int, number: int) -> None:
    """The transparent number is one of the file's own, not of the levels that they become; in masks too."""
    width = 8 // bits if bits > 1 else 2
    numbers = [row >> (8 - bits * (place + 1)) & (2**bits - 1) for place in range(width)]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", number)),
        (b"IDAT", zlib.compress(bytes([0, row]))),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "a.png").write_bytes(content)
    levels = [255 if value == number else value * 255 // (2**bits - 1) for value in numbers]
    assert read(tmp_path / "a.png")[0, :, 0].tolist() == levels
    if number in numbers:
        with pytest.raises(DatasetError, match="transparent in parts"):
            open_mask("masks", tmp_path / "a.png", (width, 1), labels="any")


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (read(tmp_path / name) == (255, 0, 0)).all()


def tiff_with(path: Path, tag: int, value: Any, **options: Any) -> Path:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = value
    Image.fromarray(COLOURS).save(path, "TIFF", tiffinfo=tags, **options)
    return path


def test_what_is_no_one_picture_is_refused(tmp_path: Path) -> None:
    """Pages, camera files behind a thumbnail, signed numbers, Lab, formats that are not read."""
    page = Image.fromarray(COLOURS)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    assert "TIFF of 2 pages" in refusal(tmp_path / "a.tif")
    assert "camera's raw file" in refusal(tiff_with(tmp_path / "b.dng", 50706, b"\1\4\0\0"))
    assert "camera's raw file" in refusal(tiff_with(tmp_path / "thumbnail.tif", 254, 1))
    page.save(tmp_path / "c.nef", "TIFF")
    assert "camera's raw file" in refusal(tmp_path / "c.nef")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[339] = 2
    Image.new("L", (3, 3), 200).save(tmp_path / "d.tif", tiffinfo=tags)
    assert "signed numbers" in refusal(tmp_path / "d.tif")
    Image.new("LAB", (3, 3)).save(tmp_path / "e.tif")
    assert "mode LAB" in refusal(tmp_path / "e.tif")
    page.save(tmp_path / "f.eps")
    (tmp_path / "g.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("f.eps", "g.heic"):
        assert "not a readable image: expected one of PNG, JPEG" in refusal(tmp_path / name)


def planes(values: np.ndarray) -> bytes:
    """A TIFF of colours, uint8 or uint16 [height, width, bands], in planes, which Pillow does not write."""
    height, width, bands = values.shape
    size, lists = values[..., 0].nbytes, 10 + 9 * 12 + 4
    start = lists + 10 * bands
    apart = struct.pack(f"<{bands}H", *[8 * values.itemsize] * bands)
    apart += struct.pack(f"<{bands}I", *(start + band * size for band in range(bands)))
    apart += struct.pack(f"<{bands}I", *[size] * bands)
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, bands, lists), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, bands, lists + 2 * bands), (277, 3, 1, bands), (279, 4, bands, lists + 6 * bands),
            (284, 3, 1, 2)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    content = np.moveaxis(values, -1, 0).astype(values.dtype.newbyteorder("<")).tobytes()
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + apart + content


def test_planes_of_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    """Pillow takes each byte of them for a pixel; of 8 bits they are read."""
    path = tmp_path / "a.tif"
    path.write_bytes(planes(COLOURS))
    assert np.array_equal(read(path), COLOURS)
    path.write_bytes(planes(COLOURS.astype(np.uint16) * 257))
    assert "in planes behind one another" in refusal(path)


def test_strips_are_refused(tmp_path: Path) -> None:
    """A model's preprocessing would make gigabytes of a few thousand pixels; masks, and pictures that are handed over,
    too.
    """
    for size in ((1, 501), (1001, 2)):
        Image.new("L", size).save(tmp_path / "a.png")
        assert f"is {size[0]}x{size[1]} pixels, more than 500 times as long as wide" in refusal(tmp_path / "a.png")
        with pytest.raises(DatasetError, match="as long as wide"):
            open_mask("pictures", tmp_path / "a.png", size)
        with pytest.raises(DatasetError, match="as long as wide"):
            _picture(Image.new("RGB", size), None)
    Image.new("L", (1, 500)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").shape == (500, 1, 3)


def test_animation_beside_its_still_picture_is_refused(tmp_path: Path) -> None:
    """Some programs show the picture that is no frame, others the first frame."""
    still, *frames = (Image.new("RGB", (4, 3), colour) for colour in ("green", "red", "blue"))
    still.save(tmp_path / "a.png", save_all=True, append_images=frames, default_image=True)
    assert "animated PNG whose still picture is none of its frames" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_exif_that_cannot_be_read_is_refused(tmp_path: Path, mode: str) -> None:
    """Nothing says which side is up; the words are not Pillow's alone. The same of a picture that is handed over."""
    picture = Image.fromarray(COLOURS) if mode == "RGB" else Image.fromarray(np.full((3, 4), 65535, np.uint16))
    picture.save(tmp_path / "a.png", exif=b"Exif\0\0garbage")
    assert "has EXIF data that cannot be read" in refusal(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened, pytest.raises(DatasetError, match="EXIF data that cannot be read"):
        _picture(opened, None)


@pytest.mark.parametrize(("kind", "value"), [(1, b"\6\0\0\0"), (2, b"6\0\0\0")])
def test_orientation_that_is_no_number_is_refused(tmp_path: Path, kind: int, value: bytes) -> None:
    """As a byte or a text it would be passed over."""
    exif = b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHI", 274, kind, len(value.rstrip(b"\0"))) + value + bytes(4)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    (tmp_path / "a.png").write_bytes(png(COLOURS, 2, 8, chunk))
    assert "and no number), so that nothing says which side is up" in refusal(tmp_path / "a.png")


def test_tiff_without_a_part_of_its_pixels_is_refused(tmp_path: Path) -> None:
    """Of offsets that are not there the library leaves the pixels black; in pictures and masks."""
    whole = planes(COLOURS)
    one = struct.pack("<HHII", 273, 4, 3, 10 + 9 * 12 + 4 + 6)
    assert one in whole
    start = len(whole) - COLOURS.size
    (tmp_path / "a.tif").write_bytes(whole.replace(one, struct.pack("<HHII", 273, 4, 1, start)))
    assert "lacks a part of its pixels" in refusal(tmp_path / "a.tif")
    with pytest.raises(DatasetError, match="lacks a part of its pixels"):
        open_mask("pictures", tmp_path / "a.tif", (WIDTH, HEIGHT))


def test_palette_of_eight_bits_in_a_tiff_is_refused(tmp_path: Path) -> None:
    """It has 16; some writers put 8 there, and every colour would be black."""
    image = Image.fromarray(COLOURS[..., 0]).convert("P")
    for scale, wrong in ((1, True), (257, False)):
        colours = struct.pack("<768H", *(scale * (number % 256) for number in range(768)))
        image.putpalette(bytes(range(256)) * 3)
        path = tmp_path / "a.tif"
        image.save(path)
        content = path.read_bytes()
        with Image.open(path) as opened:
            own = struct.pack("<768H", *opened.tag_v2[320])  # type: ignore[attr-defined]
        assert own in content
        path.write_bytes(content.replace(own, colours))
        if wrong:
            assert "palette has 8 bits in place of 16" in refusal(path)
        else:
            read(path)


def test_cmyk_goes_by_its_profile(tmp_path: Path) -> None:
    """A profile that is none of CMYK is refused, and not ignored."""
    wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (3, 3), (10, 20, 30, 40)).save(tmp_path / "a.jpg", icc_profile=wrong)
    assert "is CMYK with an ICC profile that cannot be applied" in refusal(tmp_path / "a.jpg")


def test_too_large_an_image_is_named(tmp_path: Path) -> None:
    """Pillow's own limit stands; other images of the data set are read."""
    Image.new("1", (15000, 12800)).save(tmp_path / "large.png")
    Image.fromarray(COLOURS).save(tmp_path / "small.png")
    rows = [{"image": name, "wing": 1, "split": "cal"} for name in ("large.png", "small.png")]
    write_csv(tmp_path / "birds.csv", rows)
    reader: Any = open_dataset(entry_of(tmp_path, "table", ("wing",)))
    with pytest.raises(DatasetError, match=r"'large\.png' is not a readable image: Image size"):
        reader.image("large")
    assert reader.image("small").size == (WIDTH, HEIGHT)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pixels_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment, for images and masks; the message says how. Pillow keeps its own for the process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.new("L", (10, 10), 9).save(tmp_path / "a.png")
    for most, fine in (("100", True), ("98", False), ("1000000000", True)):
        monkeypatch.setenv(PIXELS_VARIABLE, most)
        if fine:
            assert read(tmp_path / "a.png").shape == (10, 10, 3)
        else:
            said = refusal(tmp_path / "a.png")
            assert "exceeds limit of 98 pixels" in said and f"the environment variable {PIXELS_VARIABLE}" in said
            with pytest.raises(DatasetError, match=PIXELS_VARIABLE):
                open_mask("pictures", tmp_path / "a.png", (10, 10))
    monkeypatch.setenv(PIXELS_VARIABLE, "many")
    with pytest.raises(CatalogError, match="found 'many', expected a whole number of pixels"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.gif", "a.webp", "a.jpg"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    """Cut anywhere, or with other bytes in its head: an image or a refusal, never another error."""
    path = save(Image.fromarray(COLOURS), tmp_path / name, Image.registered_extensions()[path_suffix(name)], 1, {})
    content, rng = path.read_bytes(), np.random.default_rng(3)
    for position in rng.integers(0, len(content), 30):
        for damaged in (content[:position], content[:position] + bytes([255]) + content[position + 1 :]):
            path.write_bytes(damaged)
            try:
                assert open_image("pictures", tmp_path, name).mode == "RGB"
            except DatasetError as error:
                assert name in str(error)


def path_suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]


def test_bytes_in_a_table_are_read_alike(tmp_path: Path) -> None:
    from sae_assets.datasets.images import decode_image

    content = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 8
    Image.fromarray(COLOURS).save(content, "PNG", exif=exif)
    assert (np.asarray(decode_image("pictures", content.getvalue(), "it")) == SHOWN[8](COLOURS)).all()
