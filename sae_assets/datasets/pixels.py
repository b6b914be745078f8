"""An image file's format, mode, depth, orientation and transparency say what its pixels mean. Used by ``images``.

An image comes out as a person sees it: upright, on white where it is transparent, 8 bits of red, green and blue. What
could be read in two ways is refused, and the refusal says how to tell: figures from a picture that came out black look
like any others. Where files lie and what messages call them is not known here. Large pictures are converted some rows
at a time: two copies of 4 bytes per pixel are in memory, the stored and the shown one, whatever the mode.
"""

import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Exif, Image
    from PIL.ImageFile import ImageFile

# Pillow opens more; of the rest some run other programs (EPS), some hold no pictures (FITS) or none of 8 bits (PSD).
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "GIF", "WEBP", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "TGA", "QOI")
NUMBERED = ("PNG", "TIFF", "BMP", "DIB")  # which keep the numbers of a mask; GIF writers renumber palettes
SCALED = ("PPM", "JPEG2000")  # which Pillow brings to the whole range of 16 bits, as their headers say
RAW_FILES = (".dng", ".nef", ".cr2", ".arw", ".orf", ".rw2", ".pef", ".srw")  # TIFF files around a camera's own data
IS_RAW = "is a camera's raw file (or a thumbnail); develop it and save it as PNG, TIFF or JPEG"
PLAIN = ("1", "L", "P", "RGB", "RGBX", "YCbCr", "CMYK")
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
WHITE_16, WHITE_8 = 65535, 255
PIXELS_AT_ONCE = 2**22
LONGEST = 500  # times as long as it is wide: such a picture is huge once its shorter edge is as long as a model's input
STEPS = {"L;2": 85, "L;4": 17}  # by which Pillow multiplies grey of fewer bits, but not its transparent number
TURNED = (5, 6, 7, 8)  # EXIF orientations whose height is the stored width
ORIENTATION, PHOTOMETRIC, BITS, SAMPLE_FORMAT, SUBFILE, DNG = 274, 262, 258, 339, 254, 50706  # tags of TIFF and EXIF
WHITE_IS_ZERO, SIGNED, CAMERA = 0, 2, (32803, 34892)
PLANES, APART = 284, 2  # the tag that says how colours lie, and the value of planes
PALETTE = 320  # the tag of a TIFF's colours, of 16 bits each

# The documents' table: what a file holds, and what becomes of it.
MODES = {
    "1, 2, 4 or 8 bits of grey, palette, RGB, YCbCr": "as it is",
    "EXIF orientation (any format)": "turned upright; masks, sizes and annotations are those of the upright picture",
    "alpha channel, transparent colour or palette entry": "laid on white; what is hidden beneath does not show",
    "16 bits of grey": "65535 (or the catalog's `white`) is white; of TIFF with 12 bits and of PPM and JPEG 2000 what "
    "the header says. Refused without `white` if no pixel reaches 32768: fewer bits in 16, or a dark picture",
    "16 bits per colour": "its upper 8 bits; refused under the same condition, and with another `white` than 65535",
    "32 bits of grey": "refused without `white`",
    "floats": "1 (or `white`) is white; refused if a value is below 0, above white, or not finite",
    "CMYK": "by its ICC profile, without one by (1 - C)(1 - K); a profile that does not fit is refused",
    "ICC profile of RGB or grey, gamma of PNG": "ignored, as the models' own preprocessing does",
    "animation (GIF, WebP, PNG, AVIF), further pictures of a JPEG": "the first frame",
    "animated PNG whose still picture is no frame, TIFF of several pages, signed TIFF, TIFF of "
    "more than 8 bits per colour in planes, "
    "camera files (DNG, NEF, CR2, ARW, …), pictures more than 500 times as long as wide": "refused",
    "Lab and any other mode; HEIC, PSD, EPS, SVG, PDF and any format but "
    "PNG, JPEG, TIFF, GIF, WebP, BMP, PPM, JPEG 2000, AVIF, TGA, QOI": "refused",
}


class PixelError(ValueError):
    """Pixels that have no one meaning; the message is the end of a sentence about the file."""


def known_formats() -> list[str]:
    """Return the formats that are read and that this Pillow has."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def raw_mode(image: "ImageFile") -> str:
    """Return how the file stores pixels, in Pillow's words ("RGB;16B"); empty where it does not say. Before loading
    only."""
    tile = image.tile[0] if image.tile else None
    arguments = tile[3] if tile is not None and len(tile) > 3 else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def shown_size(image: "ImageFile") -> tuple[int, int]:
    """Return width and height of the upright picture in pixels."""
    width, height = image.size
    own = ORIENTATION in getattr(image, "tag_v2", {})  # by TIFF's own tag, Pillow has turned the size already
    turned = not own and exif_of(image).get(ORIENTATION) in TURNED
    return (height, width) if turned else (width, height)


def load(image: "ImageFile", stored: str) -> None:
    """Read the pixels of 8 bits or fewer, and the transparent number as one of them.

    Args:
        stored: :func:`raw_mode` of before.
    """
    image.load()
    if isinstance(number := image.info.get("transparency"), int):
        image.info["transparency"] = number * STEPS.get(stored, 1)


def exif_of(image: "Image") -> "Exif":
    """Return the image's EXIF data, which may be empty.

    Raises:
        PixelError: they cannot be read.
    """
    try:
        exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
        if not isinstance(orientation, int):
            raise TypeError(f"its orientation is {orientation!r}, and no number")
        return exif
    except Exception as error:  # of damaged EXIF Pillow raises SyntaxError, ValueError, struct.error and more
        raise PixelError(
            f"has EXIF data that cannot be read ({error}), so that nothing says which side is up; remove them "
            "(`exiftool -EXIF= FILE`), or save the picture again"
        ) from None


def upright(image: "Image") -> "Image":
    """Return the image itself, turned as EXIF says it is to be shown.

    Raises:
        PixelError: as :func:`exif_of`.
    """
    from PIL import ImageOps

    exif_of(image)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def strips(image: "Image") -> Iterator[tuple[int, int]]:
    """Yield first and last (exclusive) row of the parts in which a large image is converted."""
    rows = max(1, PIXELS_AT_ONCE // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, min(image.height, top + rows)


def expect_picture(image: "ImageFile") -> None:
    """Check that a file is one picture whose numbers are brightness.

    Raises:
        PixelError: several pages, a still picture beside an animation, a camera's own data, signed numbers, planes
            that are read wrongly, or a strip.
    """
    expect_no_strip(image.size)
    if getattr(image, "default_image", False):
        raise PixelError(
            "is an animated PNG whose still picture is none of its frames, so that programs show one or the other; "
            "save the one that is meant as PNG"
        )
    if image.format != "TIFF":
        return
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if DNG in tags or tags.get(PHOTOMETRIC) in CAMERA or tags.get(SUBFILE, 0) & 1:
        raise PixelError(IS_RAW)
    if SIGNED in tags.get(SAMPLE_FORMAT, ()) and image.mode not in ("I", "F"):
        raise PixelError("holds signed numbers; save it with numbers from 0 on")
    if tags.get(PLANES) == APART and len(bits := tags.get(BITS, (1,))) > 1 and max(bits) > 8:
        raise PixelError(
            "stores colours of more than 8 bits in planes behind one another, which the library takes for 8 bits; save "
            "it with pixels whole (`planar configuration` 1), or as PNG"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise PixelError(f"is a TIFF of {image.n_frames} pages; save each page that is an example as a file")  # type: ignore[attr-defined]
    planes = len(image.getbands()) if tags.get(PLANES) == APART else 1
    parts = [part[1] for part in image.tile if part[0] == "raw" and part[1] is not None]
    stored = sum((right - left) * (end - top) for left, top, right, end in parts)
    if parts and stored < image.width * image.height * planes:  # the library leaves the rest black
        raise PixelError("lacks a part of its pixels; its file is cut or damaged")


def expect_no_strip(size: tuple[int, int]) -> None:
    """Refuse a size that takes gigabytes where a model's preprocessing makes the shorter edge longer.

    Raises:
        PixelError: it is too narrow.
    """
    if max(size) > LONGEST * min(size):
        raise PixelError(f"is {size[0]}x{size[1]} pixels, more than {LONGEST} times as long as wide; cut it up")


def as_rgb(image: "ImageFile", white: float | None) -> "Image":
    """Return the picture as it is shown, RGB of 8 bits.

    Args:
        image: opened and not yet loaded.
        white: the number that is white of more than 8 bits; None: as ``MODES`` says.

    Raises:
        PixelError: as ``MODES`` says.
    """
    expect_picture(image)
    stored = raw_mode(image)
    if image.mode in DEEP:
        if "transparency" in image.info:
            raise PixelError(f"has a transparent number among pixels of mode {image.mode}; save it with 8 bits")
        return upright(_levels(image, white)).convert("RGB")
    if 0 < max(getattr(image, "tag_v2", {}).get(PALETTE, (0,))) <= WHITE_8:
        raise PixelError("is a TIFF whose palette has 8 bits in place of 16, so that all is black; save it again")
    load(image, stored)
    if ";16" in stored:
        _expect_16_bits(image, white)
        if "transparency" in image.info:
            raise PixelError("has a transparent colour of 16 bits; save it with 8 bits")
    shown = upright(image)
    if shown.has_transparency_data:
        return _on_white(shown)
    if shown.mode == "CMYK" and image.info.get("icc_profile"):
        return _by_profile(shown, image.info["icc_profile"])
    if shown.mode not in PLAIN:
        raise PixelError(f"has pixels of mode {shown.mode}; expected grey, a palette, RGB or CMYK")
    return shown if shown.mode == "RGB" else shown.convert("RGB")


def _levels(image: "ImageFile", white: float | None) -> "Image":
    """Return grey of 8 bits from deeper numbers: 0 is black, ``white`` is white."""
    import numpy as np
    from PIL import Image

    tags: Any = getattr(image, "tag_v2", {})
    inverted = tags.get(PHOTOMETRIC, 1) == WHITE_IS_ZERO
    bits = tags.get(BITS, (16,))[0]
    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    shown = f"holds numbers from {low:g} to {high:g} (mode {image.mode})"
    if white is None:
        white = _usual_white(image, bits, high, shown)
    if not (math.isfinite(low) and math.isfinite(high) and low >= 0 and high <= white):
        raise PixelError(f"{shown}, expected 0 (black) to {white:g} (white; another by `white` in the catalog)")
    grey = np.empty(values.shape, np.uint8)
    for top, end in strips(image):
        grey[top:end] = np.rint(values[top:end].astype(np.float64) * (WHITE_8 / white))
    levels = Image.fromarray(WHITE_8 - grey if inverted else grey)
    turned = exif_of(image)
    levels.info.update(image.info)
    levels.getexif().update(turned)
    return levels


def _usual_white(image: "ImageFile", bits: int, high: float, shown: str) -> float:
    if image.mode == "F":
        return 1
    if image.mode == "I" and image.format not in ("PPM", "PNG"):  # which have 16 bits whatever Pillow makes of them
        raise PixelError(f"{shown}, and 32 bits have no agreed white; name it by `white` in the catalog (65535?)")
    if image.format in SCALED or bits < 16:
        return 2**bits - 1
    if 0 < high <= WHITE_16 // 2:
        raise PixelError(
            f"{shown} in 16 bits: fewer bits, or a dark picture? Say which number is white by `white` in the catalog "
            f"({WHITE_16}, or {2 ** max(8, int(high).bit_length()) - 1}?)"
        )
    return WHITE_16


def _expect_16_bits(image: "Image", white: float | None) -> None:
    """Refuse colours that Pillow would cut: it keeps the upper 8 bits, which are all of them where 65535 is white."""
    if white not in (None, WHITE_16):
        raise PixelError(f"has 16 bits per colour, which are read with {WHITE_16} as white only; save it with 8 bits")
    extrema: Any = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    colours = bands[: len(bands) - 1] if image.mode in ("RGBA", "LA") else bands
    if white is None and max(high for _, high in colours) <= WHITE_8 // 2:
        raise PixelError(
            "has 16 bits per colour, and none reaches half of them: fewer bits, or a dark picture? If it is dark, say "
            f"`white: {WHITE_16}` in the catalog, else save it with 8 bits"
        )


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    shown = Image.new("RGB", image.size)
    for top, end in strips(image):
        part = image.crop((0, top, image.width, end))
        part = part.convert("LA").convert("RGBA") if part.mode == "La" else part.convert("RGBA")
        ground = Image.new("RGBA", part.size, "white")
        shown.paste(Image.alpha_composite(ground, part).convert("RGB"), (0, top))
    return shown


def _by_profile(image: "Image", profile: bytes) -> "Image":
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise PixelError(f"is CMYK with an ICC profile that cannot be applied ({error}); save it as RGB") from None
    assert shown is not None
    return shown
