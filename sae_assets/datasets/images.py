"""Opening images and masks with errors that name the data set and the file. Shared by all image layouts."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image


def open_image(dataset: str, root: Path, path: str) -> "Image":
    """Open the image at ``root / path`` as RGB.

    Raises:
        DatasetError: the file is missing or no image.
    """
    from PIL import Image

    try:
        with Image.open(root / path) as opened:
            return opened.convert("RGB")
    except FileNotFoundError:
        raise DatasetError(
            f"Data set {dataset!r}: image {path!r} does not exist in {root}, though its chunk was registered with it. "
            "Restore the file, or register a new data set without it."
        ) from None
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises these for damaged files
        raise DatasetError(f"Data set {dataset!r}: {path!r} is not a readable image: {error}") from None


def image_size(dataset: str, root: Path, path: str) -> tuple[int, int]:
    """Width and height from the file's header.

    Raises:
        DatasetError: as :func:`open_image`.
    """
    from PIL import Image

    try:
        with Image.open(root / path) as opened:
            return opened.size
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"Data set {dataset!r}: {path!r} is not a readable image: {error}") from None


def decode_image(dataset: str, content: bytes, what: str) -> "Image":
    """Decode an image from the bytes of a table's cell, as RGB.

    Raises:
        DatasetError: the bytes are no image; ``what`` names them.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"Data set {dataset!r}: {what} is not a readable image: {error}") from None


def open_mask(dataset: str, file: Path | bytes, size: tuple[int, int], what: str = "") -> "Image":
    """A mask as mode L, 255 wherever it is not black.

    Args:
        file: the file, or its bytes.
        size: width and height in pixels that the mask must have, which are those of its image.
        what: how messages name the mask; by default they name the file.

    Raises:
        DatasetError: the file is no image, or it has another size.
    """
    from PIL import Image

    source = io.BytesIO(file) if isinstance(file, bytes) else file
    named = what or str(source)
    try:
        with Image.open(source) as opened:
            mask = opened.convert("L").point(lambda level: 255 if level else 0)
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"Data set {dataset!r}: mask {named} is not a readable image: {error}") from None
    if mask.size != size:
        named = file.name if isinstance(file, Path) else what
        raise DatasetError(
            f"Data set {dataset!r}: mask {named} is {mask.size[0]}x{mask.size[1]}, its image "
            f"{size[0]}x{size[1]} pixels; they must agree."
        )
    return mask


def as_mask(inside: Any) -> "Image":
    """A boolean array [height, width] as a mask image."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))
