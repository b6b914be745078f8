"""Random pictures and masks in files of every format and depth, with what has to be read of them, by numpy alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

# Stored pixels as they are shown, by EXIF orientation (EXIF 2.3, table of tag 274).
SHOWN: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
WITH_EXIF = ("PNG", "JPEG", "WEBP", "TIFF")
# Formats, Pillow's mode, options: all without loss but for JPEG, which is flat here.
STORED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", "1", {}), ("PNG", "L", {}), ("PNG", "P", {}), ("PNG", "RGB", {}), ("PNG", "LA", {}), ("PNG", "RGBA", {}),
    ("PNG", "I;16", {}), ("TIFF", "1", {"compression": "group4"}), ("TIFF", "L", {}), ("TIFF", "RGB", {}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw"}), ("TIFF", "I;16", {}), ("TIFF", "I;16", {"compression": "tiff_lzw"}),
    ("TIFF", "I", {}), ("TIFF", "F", {}), ("TIFF", "F", {"compression": "tiff_adobe_deflate"}), ("TIFF", "CMYK", {}),
    ("WEBP", "RGB", {"lossless": True}), ("WEBP", "RGBA", {"lossless": True, "exact": True}), ("BMP", "RGB", {}),
    ("BMP", "L", {}), ("PPM", "L", {}), ("PPM", "RGB", {}), ("PPM", "I", {}), ("GIF", "P", {}), ("TGA", "RGBA", {}),
    ("JPEG2000", "RGB", {"irreversible": False}), ("JPEG2000", "I;16", {"irreversible": False}),
    ("JPEG", "L", {"quality": 100}), ("JPEG", "RGB", {"quality": 100, "subsampling": 0}), ("JPEG", "CMYK", {}),
)  # fmt: skip
SUFFIXES = {"TIFF": "tif", "JPEG2000": "jp2"}


@dataclass(frozen=True)
class Picture:
    """A picture to be saved: ``shown`` is uint8 [height, width, 3], what has to be read within ``tolerance`` levels."""

    image: Image.Image
    shown: np.ndarray
    format: str
    options: dict[str, Any]
    orientation: int
    tolerance: int
    white: float | None = None

    def save(self, stem: Path) -> Path:
        """Write it; the path with the format's suffix."""
        path = stem.with_suffix("." + SUFFIXES.get(self.format, self.format.lower()))
        return save(self.image, path, self.format, self.orientation, self.options)


def save(image: Image.Image, path: Path, form: str, orientation: int, options: dict[str, Any]) -> Path:
    """Write an image with an EXIF orientation (1: with none, since it says nothing)."""
    exif = Image.Exif()
    exif[274] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, form, **options, **({"exif": exif} if orientation != 1 else {}))
    return path


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.rint((colours * (alpha / 255.0)[..., None]) + 255 * (1 - (alpha / 255.0)[..., None]))


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """Any format × mode × depth × orientation × size."""
    form, mode, options = draw(st.sampled_from(STORED))
    orientation = draw(st.sampled_from(sorted(SHOWN))) if form in WITH_EXIF else 1
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grey = rng.integers(0, 256, (height, width))
    colours = rng.integers(0, 256, (height, width, 3))
    alpha = rng.integers(0, 256, (height, width))
    tolerance, white = 1, None
    if form == "JPEG":  # flat blocks survive
        grey, colours, tolerance = np.full_like(grey, grey[0, 0]), np.broadcast_to(colours[0, 0], colours.shape), 3
    rgb: np.ndarray = np.repeat(grey[..., None], 3, 2)
    if mode == "1":
        grey = (grey > 127) * 255
        rgb, image = np.repeat(grey[..., None], 3, 2), Image.fromarray((grey > 0).astype(np.uint8) * 255).convert("1")
    elif mode == "L":
        image = Image.fromarray(grey.astype(np.uint8))
    elif mode == "P":
        palette = rng.integers(0, 256, (256, 3))
        image = Image.fromarray(grey.astype(np.uint8)).convert("L")
        image.putpalette(palette.astype(np.uint8).tobytes())
        rgb = palette[grey]
    elif mode in ("RGB", "CMYK"):
        rgb, image = colours, Image.fromarray(colours.astype(np.uint8))
        if mode == "CMYK":
            black = rng.integers(0, 256)
            ink = np.concatenate([colours, np.full((height, width, 1), black)], 2).astype(np.uint8)
            rgb, image = (255 - colours) * (255 - black) / 255, Image.fromarray(ink, "CMYK")
    elif mode == "RGBA":
        image = Image.fromarray(np.concatenate([colours, alpha[..., None]], 2).astype(np.uint8))
        rgb = on_white(colours, alpha)
    elif mode == "LA":
        image = Image.fromarray(np.stack([grey, alpha], 2).astype(np.uint8))
        rgb = on_white(rgb, alpha)
    else:
        fine = rng.integers(0, 65536, (height, width))
        fine[0, 0] = 65535 - fine[0, 0] // 2  # so that no smaller depth explains it
        rgb = np.repeat(fine[..., None] * (255 / 65535), 3, 2)
        if mode == "F":
            image = Image.fromarray((fine / 65535).astype(np.float32))
        elif mode == "I":
            image, white = Image.fromarray(fine.astype(np.int32)), 65535.0 if form == "TIFF" else None
        else:
            image = Image.fromarray(fine.astype(np.uint16))
    return Picture(image, SHOWN[orientation](rgb), form, options, orientation, tolerance, white)
