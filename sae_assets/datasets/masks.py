"""The pixels of a mask file mean inside or outside, or, of a label map, the class that each belongs to.

A mask of one value beside black needs no word. What many values mean is said by the catalog's ``labels``: the class
numbers or colours of each concept, or that everything that is not black is inside. Broden's numbers are read here too.
"""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.datasets.images import as_mask, opened_image
from sae_assets.datasets.pixels import (
    DEEP,
    NUMBERED,
    PHOTOMETRIC,
    STEPS,
    WHITE_IS_ZERO,
    PixelError,
    expect_picture,
    load,
    raw_mode,
    strips,
    upright,
)
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

ANY = "any"
Label = int | str  # a class number, a range "26000-26999" of them, or a colour "#804080"
SHOWN = 5  # values that a message names
# How a file may store a number, and what Pillow multiplies it with.
FACTORS = {"L": 1, "P": 1, "P;1": 1, "P;2": 1, "P;4": 1, "1": 255, **STEPS}
DEPTHS = ("I;16", "I;16B", "I;16R", "I;16N", "I;32", "I;32N", "I;32S", "I;32B", "I;32BS")


@dataclass(frozen=True)
class MaskPixels:
    """The pixels of one mask, upright.

    Attributes:
        image: 8 bits of grey or colour, as shown; None of deeper pixels.
        indices: uint8 [height, width], places in the palette, of a mask that has one.
        numbers: [height, width], integers as stored, or float64 of floats; None where pixels stand for no numbers.
        name: what messages call it.
    """

    name: str
    size: tuple[int, int]
    image: "Image | None"
    indices: Any
    numbers: Any

    def inside(self, labels: Sequence[Label] | str | None) -> "Image":
        """Return the mask as mode L, 255 inside.

        Args:
            labels: of the concept whose mask it is; ``any``: whatever is not black; None: nobody says.

        Raises:
            PixelError: many values and nobody says what they mean, or numbers of a mask that has none.
        """
        if labels is None:
            self._expect_one_value()
        if labels is None or labels == ANY:
            return as_mask(self._not_black)
        import numpy as np

        return as_mask(np.logical_or.reduce([self._of(label) for label in labels]))

    @cached_property
    def _not_black(self) -> Any:
        """Return bool [height, width]: any channel is above 0."""
        import numpy as np

        if self.image is None:
            return self.numbers != 0
        return _by_parts(self.image, lambda pixels: pixels > 0 if pixels.ndim == 2 else pixels.any(-1), np.bool_)

    def _expect_one_value(self) -> None:
        values = self._values()
        if len(values) > 1:
            ellipsis = " …" if len(values) > SHOWN else ""
            count = f"{len(values)} values" if len(values) < 256 else "256 values or more"
            raise PixelError(
                f"holds {count} beside black ({', '.join(values[:SHOWN])}{ellipsis}), and nothing says what they mean. "
                "Set `labels` in the catalog: a class number or colour per concept (`labels: {road: 7}`), or `any` "
                "where whatever is not black is inside; a mask of one value has no soft edges and is saved as PNG"
            )

    def _values(self) -> list[str]:
        """Return names of the values beside black; the places of a palette, where several of them are black."""
        import numpy as np

        if self.image is None:
            return [f"{value:g}" for value in np.unique(self.numbers) if value != 0]
        colours = self.image.getcolors(256)
        if colours is None:
            return ["many colours"] * 256
        beside = [colour for _, colour in sorted(colours, reverse=True) if np.any(np.asarray(colour))]
        if self.indices is not None:
            black = [int(index) for index in np.unique(self.indices[~self._not_black])]
            if len(black) > 1:
                return [f"{index} of its palette, which is black too" for index in black]
        return [_spelt(colour) for colour in beside]

    def _of(self, label: Label) -> Any:
        """Return bool [height, width]: the pixels of one class number, range or colour."""
        import numpy as np

        colour = colour_of(label)
        if colour is not None:
            if self.image is None:
                raise PixelError(f"has no colours, but `labels` names the colour {label}")
            sought = np.array(colour, np.uint8)
            return _by_parts(self.image.convert("RGB"), lambda pixels: (pixels == sought).all(-1), np.bool_)
        if self.numbers is None:
            raise PixelError(
                f"holds colours, but `labels` names the class number {label}; name a colour, such as '#804080', or "
                f"save class numbers as grey or palette ({', '.join(NUMBERED)})"
            )
        low, high = range_of(label)
        return (self.numbers >= low) & (self.numbers <= high)


def colour_of(label: Label) -> tuple[int, int, int] | None:
    """Return red, green and blue of a colour; None of a number or range."""
    if not isinstance(label, str) or not re.fullmatch("#[0-9a-fA-F]{6}", label):
        return None
    red, green, blue = bytes.fromhex(label[1:])
    return red, green, blue


def range_of(label: Label) -> tuple[int, int]:
    """Return the least and the largest class number that a label stands for."""
    low, _, high = str(label).partition("-")
    return int(low), int(high or low)


def _spelt(colour: Any) -> str:
    return str(colour) if isinstance(colour, int) else "#" + bytes(colour[:3]).hex()


def read_mask(dataset: str, file: Path | bytes, size: tuple[int, int] | None, what: str = "") -> MaskPixels:
    """Return the pixels of a mask.

    Args:
        file: the file, or its bytes.
        size: width and height in pixels that the mask must have, which are those of its image as shown; None: any.
        what: how messages name the mask; by default they name the file.

    Raises:
        DatasetError: the file is no image, its pixels have no one meaning, or it has another size.
    """
    name = what or str(file)
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with opened_image(dataset, source, f"mask {name}") as image:
            pixels = _pixels(image, f"mask {name}")
    except FileNotFoundError as error:
        raise DatasetError(f"Data set {dataset!r}: mask {name} is not a readable image: {error}") from None
    if size is not None and pixels.size != size:
        named = file.name if isinstance(file, Path) else what
        turned = " as shown (EXIF may turn it)" if pixels.size == size[::-1] else ""
        raise DatasetError(
            f"Data set {dataset!r}: mask {named} is {pixels.size[0]}x{pixels.size[1]}, its image "
            f"{size[0]}x{size[1]} pixels{turned}; they must agree."
        )
    return pixels


def open_mask(
    dataset: str, file: Path | bytes, size: tuple[int, int], what: str = "", labels: Sequence[Label] | str | None = None
) -> "Image":
    """Return one mask as mode L, 255 inside; arguments as of :func:`read_mask` and :meth:`MaskPixels.inside`.

    Raises:
        DatasetError: as :func:`read_mask`, or many values and nobody says what they mean.
    """
    pixels = read_mask(dataset, file, size, what)
    return inside(dataset, pixels, labels)


def inside(dataset: str, pixels: MaskPixels, labels: Sequence[Label] | str | None) -> "Image":
    """Return :meth:`MaskPixels.inside` with errors that name the data set. Raises: DatasetError."""
    try:
        return pixels.inside(labels)
    except PixelError as error:
        raise DatasetError(f"Data set {dataset!r}: {pixels.name} {error}.") from None


def _pixels(image: "ImageFile", name: str) -> MaskPixels:
    import numpy as np

    expect_picture(image)
    mode, numbered = image.mode, image.format in NUMBERED
    stored = raw_mode(image)
    inverted = getattr(image, "tag_v2", {}).get(PHOTOMETRIC, 1) == WHITE_IS_ZERO
    if mode in DEEP:
        numbers = np.asarray(upright(image))
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise PixelError("holds numbers below 0 or none at all (NaN); expected 0 outside and more inside")
        if mode == "F":
            numbers = numbers.astype(np.int64 if bool((numbers == np.floor(numbers)).all()) else np.float64)
        if numbered and not inverted and (mode == "F" or stored in DEPTHS):
            return MaskPixels(name, numbers.shape[::-1], None, None, numbers)
        raise PixelError(f"holds pixels of mode {mode} ({stored or image.format}); save it as PNG")
    load(image, stored)
    if ";16" in stored:
        raise PixelError("has 16 bits per colour; save it with 8 bits")
    shown = upright(image)
    if shown.has_transparency_data:
        alpha = np.asarray(shown.convert("RGBA"))[..., 3]
        if (alpha != alpha.flat[0]).any():
            raise PixelError("is transparent in parts, which may mean anything; save it without transparency")
        shown.info.pop("transparency", None)
    indices = np.asarray(shown) if shown.mode == "P" else None
    if shown.mode in ("L", "RGB"):
        pixels = shown  # and no copy of it
    elif shown.mode == "1":
        pixels = shown.convert("L")
    elif shown.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        pixels = shown.convert("RGB")
    else:
        raise PixelError(f"has pixels of mode {shown.mode}; expected grey, a palette or RGB")
    return MaskPixels(name, pixels.size, pixels, indices, _numbers(shown, pixels, stored) if numbered else None)


def _parts(image: "Image") -> "Iterator[tuple[slice, Any]]":
    """Return rows of an image, some at a time, and their pixels."""
    import numpy as np

    for top, end in strips(image):
        yield slice(top, end), np.asarray(image.crop((0, top, image.width, end)))


def _by_parts(image: "Image", of: Callable[[Any], Any], kind: Any) -> Any:
    """Return one value per pixel [height, width], made of some rows at a time: three bytes of each are not held at
    once."""
    import numpy as np

    values = np.empty((image.height, image.width), kind)
    for rows, pixels in _parts(image):
        values[rows] = of(pixels)
    return values


def _numbers(shown: "Image", pixels: "Image", stored: str) -> Any:
    """Return class numbers of 8 bits or fewer: palette places, grey levels as stored, or RGB of three equal
    channels."""
    import numpy as np

    if shown.mode != "P" and pixels.mode == "RGB":
        is_colour = stored in ("RGB", "RGBA", "BGR", "BGRX", "LA")
        equal = is_colour and all((values == values[..., :1]).all() for _, values in _parts(pixels))
        return np.asarray(pixels.getchannel(0)) if equal else None
    values = np.asarray(shown if shown.mode == "P" else pixels)
    factor = FACTORS.get(stored)
    return None if factor is None else values // np.uint8(factor)
