"""The CLEVR layout: ``metadata.csv`` with ``image_path``, 0/1 concept columns and ``split``; one object per image.

Masks are ``masks/<name>.png`` or, where the object stands on grey, the pixels whose channels differ. The mask of the
one object is the mask of every concept that is true of the image.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sae_assets.catalog import Dataset
from sae_assets.datasets.records import read_metadata
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

COLOUR_DIFFERENCE = 20  # grey levels between an object pixel's channels, at least one pair


class ClevrReader:
    """Examples, images and masks of one folder. Reads ``metadata.csv`` when built, images when asked."""

    def __init__(self, name: str, entry: Dataset):
        self.name = name
        self.root = Path(entry.root)
        self.concepts = entry.concepts
        self.records = read_metadata(name, self.root, "image_path", entry.concepts)
        self.by_id = {record.example_id: record for record in self.records}
        self._masks = entry.masks

    def files(self, path: str) -> list[Path]:
        """The files behind one example: its image and, where masks are files, its mask."""
        mask = self._mask_file(path)
        return [self.root / path, mask] if self._masks != "colour-difference" and mask.is_file() else [self.root / path]

    def _mask_file(self, path: str) -> Path:
        return self.root / "masks" / f"{Path(path).stem}.png"

    def image(self, path: str) -> "Image":
        """The image at a record's path, RGB.

        Raises:
            DatasetError: the file is missing or no image.
        """
        from PIL import Image

        try:
            with Image.open(self.root / path) as opened:
                return opened.convert("RGB")
        except FileNotFoundError:
            raise DatasetError(
                f"Data set {self.name!r}: image {path!r} does not exist in {self.root}, though its chunk was "
                "registered with it. Restore the file, or register a new data set without it."
            ) from None
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
            raise DatasetError(f"Data set {self.name!r}: {path!r} is not a readable image: {error}") from None

    def mask(self, path: str) -> "Image":
        """The object's mask at the image's own size, mode L, 255 inside.

        Raises:
            DatasetError: the mask is missing, or has another size than the image.
        """
        import numpy as np
        from PIL import Image

        file = self._mask_file(path)
        image = self.image(path)
        if self._masks == "files" or (self._masks == "auto" and file.is_file()):
            if not file.is_file():
                raise DatasetError(
                    f"Data set {self.name!r}: mask {file} does not exist. Add it, or set `masks: colour-difference`."
                )
            try:
                with Image.open(file) as opened:
                    mask = opened.convert("L").point(lambda level: 255 if level else 0)
            except (OSError, ValueError, SyntaxError) as error:
                raise DatasetError(f"Data set {self.name!r}: mask {file} is not a readable image: {error}") from None
            if mask.size != image.size:
                raise DatasetError(
                    f"Data set {self.name!r}: mask {file.name} is {mask.size[0]}x{mask.size[1]}, its image "
                    f"{image.size[0]}x{image.size[1]} pixels; they must agree."
                )
            return mask
        channels = np.asarray(image).astype(np.int16)
        spread = channels.max(-1) - channels.min(-1)
        return Image.fromarray(np.where(spread > COLOUR_DIFFERENCE, 255, 0).astype(np.uint8))
