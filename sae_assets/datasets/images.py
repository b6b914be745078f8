"""Opening images and masks with errors that name the data set and the file. Shared by all image layouts.

What the pixels of a file mean is decided in ``pixels``, what those of a mask mean in ``masks``.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.datasets.bounded import open_file
from sae_assets.datasets.pixels import IS_RAW, RAW_FILES, PixelError, as_rgb, known_formats, shown_size
from sae_assets.errors import DatasetError
from sae_assets.settings import PIXELS_VARIABLE, most_pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile


def open_image(dataset: str, root: Path, path: str, white: float | None = None) -> "Image":
    """Open the image at ``root / path`` as it is shown, RGB (``pixels.MODES``).

    Args:
        white: the number that is white of pixels of more than 8 bits, if the catalog names one.

    Raises:
        DatasetError: the file is missing, no image, or one whose pixels have no one meaning.
    """
    with _image_of(dataset, root, path) as image:
        return as_rgb(image, white)


def image_size(dataset: str, root: Path, path: str) -> tuple[int, int]:
    """Return width and height of the image as it is shown, from the file's header.

    Raises:
        DatasetError: as :func:`open_image`.
    """
    with _image_of(dataset, root, path) as image:
        return shown_size(image)


@contextmanager
def _image_of(dataset: str, root: Path, path: str) -> "Iterator[ImageFile]":
    """Give :func:`opened_image` of a file that a chunk was registered with. Raises: DatasetError, also if it is
    missing."""
    try:
        with opened_image(dataset, root / path, repr(path)) as image:
            yield image
    except FileNotFoundError:
        raise DatasetError(
            f"Data set {dataset!r}: image {path!r} does not exist in {root}, though its chunk was registered with it. "
            "Restore the file, or register a new data set without it."
        ) from None


def decode_image(dataset: str, content: bytes, what: str, white: float | None = None) -> "Image":
    """Decode an image from the bytes of a table's cell, as :func:`open_image`.

    Raises:
        DatasetError: the bytes are no image; ``what`` names them.
    """
    with opened_image(dataset, io.BytesIO(content), what) as image:
        return as_rgb(image, white)


@contextmanager
def opened_image(dataset: str, source: Path | io.BytesIO, what: str) -> "Iterator[ImageFile]":
    """Give an image file, of which the header has been read.

    Raises:
        DatasetError: it is no image of a format that is read, is damaged or too large, or what is done with it inside
            raises anything that Pillow raises of such files; ``what`` names it.
        FileNotFoundError: there is no such file.
    """
    from PIL import Image

    # Pillow's limit is of the whole process; it warns there, and refuses twice as much.
    if (most := most_pixels()) is not None:
        Image.MAX_IMAGE_PIXELS = -(-most // 2)
    try:
        if isinstance(source, Path) and source.suffix.lower() in RAW_FILES:
            raise PixelError(IS_RAW)
        # Of a path Pillow maps TIFFs into memory, and where they are turned it maps them with width and height swapped.
        file: Any = open_file(source) if isinstance(source, Path) else source
        with file, Image.open(file, formats=known_formats()) as image:
            yield image
    except (FileNotFoundError, DatasetError, AssertionError):
        raise
    except Image.UnidentifiedImageError:
        raise DatasetError(
            f"Data set {dataset!r}: {what} is not a readable image: expected one of {', '.join(known_formats())}; "
            "save it as PNG or JPEG."
        ) from None
    except Image.DecompressionBombError as error:
        reason = str(error).rstrip(".")
        raise DatasetError(
            f"Data set {dataset!r}: {what} is not a readable image: {reason}. Make it smaller, cut it up, or set "
            f"the environment variable {PIXELS_VARIABLE} to more, where memory has 8 bytes for each pixel."
        ) from None
    except PixelError as error:
        raise DatasetError(f"Data set {dataset!r}: {what} {error}.") from None
    except Exception as error:  # of damaged files Pillow raises OSError, ValueError, SyntaxError, struct.error and more
        raise DatasetError(f"Data set {dataset!r}: {what} is not a readable image: {error}") from None


def as_mask(inside: Any) -> "Image":
    """Return a boolean array [height, width] as a mask image."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0)))
