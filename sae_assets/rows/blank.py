"""An image of one colour, or a text of nothing but white space, shows nothing.

A model gives rows for them all the same, so no figure would reveal a covered camera or an empty column.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sae_assets.datasets import Reader

LOOKED_AT = 15  # pixels of a diagonal


def is_one_colour(image: "Image") -> bool:
    """Return whether all pixels of an RGB image are the same; a few of most images tell that they are not."""
    right, lowest = image.width - 1, image.height - 1
    first = image.getpixel((0, 0))
    if any(image.getpixel((right * n // LOOKED_AT, lowest * n // LOOKED_AT)) != first for n in range(1, LOOKED_AT + 1)):
        return False
    bands: Iterable[tuple[int, int]] = image.getextrema()  # type: ignore[assignment]
    return all(low == high for low, high in bands)


def is_empty(text: str) -> bool:
    """Return whether a text holds nothing but white space."""
    return not text.strip()


def blank_examples(reader: "Reader", example_ids: Iterable[str]) -> Iterator[str]:
    """Yield ids of the examples that show nothing; each is opened, and one that cannot be read is left out."""
    for example in example_ids:
        try:
            if isinstance(reader, ImageReader):
                blank = is_one_colour(reader.image(example))
            else:
                assert isinstance(reader, TextReader)
                blank = is_empty(reader.text(example))
        except (DatasetError, OSError):
            continue
        if blank:
            yield example
