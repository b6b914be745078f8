"""Pictures and texts that are in no data set, as a reader gives them: what somebody wants encoded now.

They are read by the rules of data sets (``pixels``, ``texts``): a copy of an example gives what the example does.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.datasets.images import decode_image, open_image
from sae_assets.datasets.pixels import ORIENTATION, PixelError, exif_of, expect_no_strip
from sae_assets.datasets.reader import ImageReader, Span, TextReader
from sae_assets.datasets.records import Record
from sae_assets.datasets.texts import read_text
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "input"  # of the data set, as messages call it
SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".webp", ".bmp", ".ppm", ".pgm", ".jp2", ".avif",
              ".tga", ".qoi"),
    "text": (".txt",),
}  # fmt: skip


def inputs_entry(model: Model, white: float | None = None) -> Dataset:
    """Return the data set that inputs of a model are of, as a catalog would describe it."""
    layout = "table" if model.modality == "image" else "spans"
    entry = Dataset(root=Path(), layout=layout, modality=model.modality, concepts=(NAME,), models=(model.name,),
                    white=white)  # fmt: skip
    return entry.named(NAME)


def files_in(folder: Path, modality: str) -> Iterator[Path]:
    """Yield pictures (or texts) in a folder and those below it, by their endings; hidden ones are left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES[modality] and path.is_file() and not hidden:
            yield path


def named_inputs(inputs: Sequence[Any], modality: str) -> dict[str, Any]:
    """Return inputs by name: their path, or ``input 0``, ``input 1``; a name that is there twice gets a number."""
    named: dict[str, Any] = {}
    for index, one in enumerate(inputs):
        is_path = isinstance(one, Path) or (isinstance(one, str) and modality == "image")
        name = str(one) if is_path else f"input {index}"
        while name in named:
            name += f" ({index})"
        named[name] = one
    return named


def read_input(one: Any, modality: str, white: float | None = None) -> "Image | str":
    """Return a picture (RGB, as it is shown) from a path, a picture of Pillow or an array; or a text from a path or a
    text.

    Args:
        one: of texts a ``str`` is the text itself, of pictures a path. Arrays are uint8 [height, width, 3] or
            [height, width].
        white: the number that is white of pixels of more than 8 bits.

    Raises:
        DatasetError: it cannot be read, or is none of these.
    """
    if modality == "text":
        if isinstance(one, Path):
            return read_text(NAME, one.parent, one.name)
        if isinstance(one, str):
            return one
        raise DatasetError(f"A text is a str or a Path, found {type(one).__name__}.")
    if isinstance(one, (str, Path)):
        path = Path(one).expanduser()
        if not path.is_file():
            raise DatasetError(f"{path} is no file.")
        return open_image(NAME, path.parent, path.name, white)
    return _picture(one, white)


def _picture(one: Any, white: float | None) -> "Image":
    import numpy as np
    from PIL import Image

    if isinstance(one, np.ndarray):
        if one.dtype != np.uint8 or one.shape[2:] not in ((), (3,)) or one.ndim not in (2, 3):
            raise DatasetError(
                f"An array of pixels is uint8 [height, width, 3] or [height, width], found {one.dtype} "
                f"{list(one.shape)}."
            )
        one = Image.fromarray(one)
    if not isinstance(one, Image.Image):
        raise DatasetError(f"A picture is a path, a picture of Pillow or an array, found {type(one).__name__}.")
    try:
        expect_no_strip(one.size)
        exif = exif_of(one)
    except PixelError as error:
        raise DatasetError(f"The picture {error}.") from None
    if one.mode == "RGB" and exif.get(ORIENTATION, 1) == 1 and "transparency" not in one.info:
        return one
    buffer = io.BytesIO()  # as a file of it would be read
    try:
        one.save(buffer, "PNG", exif=exif)
    except (OSError, ValueError) as error:
        raise DatasetError(f"A picture of mode {one.mode} is given as a path: {error}") from None
    return decode_image(NAME, buffer.getvalue(), "the picture", white)


class InputImages(ImageReader):
    """Pictures by name, RGB."""

    def __init__(self, entry: Dataset, pictures: "Mapping[str, Image]"):
        super().__init__(entry, _records(pictures))
        self._pictures = pictures

    def content_hash(self, example_id: str) -> str:
        picture = self._pictures[example_id]
        return hashlib.sha256(repr((picture.mode, picture.size)).encode() + picture.tobytes()).hexdigest()

    def region_hashes(self, example_id: str) -> dict[str, str]:
        return {}

    def image(self, example_id: str) -> "Image":
        return self._pictures[example_id]

    def masks(self, example_id: str) -> "Mapping[str, Image]":
        return {}


class InputTexts(TextReader):
    """Texts by name."""

    def __init__(self, entry: Dataset, texts: Mapping[str, str]):
        super().__init__(entry, _records(texts))
        self._texts = texts

    def content_hash(self, example_id: str) -> str:
        return hashlib.sha256(self._texts[example_id].encode("utf-8", "surrogatepass")).hexdigest()

    def region_hashes(self, example_id: str) -> dict[str, str]:
        return {}

    def text(self, example_id: str) -> str:
        return self._texts[example_id]

    def spans(self, example_id: str) -> Mapping[str, Sequence[Span]]:
        return {}


def _records(named: Mapping[str, Any]) -> list[Record]:
    return [Record(name, name, "test", (False,)) for name in named]
