"""The CLEVR layout: ``metadata.csv`` with ``image_path``, 0/1 concept columns and ``split``; one object per image.

Masks are ``masks/<name>.png`` or, where the object stands on grey, the pixels whose channels differ. The mask of the
one object is the mask of every concept that is true of the image.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.images import image_size, open_image
from sae_assets.datasets.masks import open_mask
from sae_assets.datasets.reader import ImageReader, hash_files
from sae_assets.datasets.records import Record, read_metadata
from sae_assets.datasets.tables import missing_file
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

COLOUR_DIFFERENCE = 20  # grey levels between an object pixel's channels, at least one pair


class ClevrReader(ImageReader):
    """Examples, images and masks of one folder. Reads ``metadata.csv`` when built, images when asked."""

    def __init__(self, entry: Dataset, *, lenient: bool = False):
        super().__init__(entry, read_metadata(entry, "image_path", lenient=lenient))
        self._masks = entry.masks

    def missing(self, record: Record) -> Iterable[str]:
        return missing_file("image_path", record.path, self.root)

    def content_hash(self, example_id: str) -> str:
        return hash_files([self.root / self.record(example_id).path])

    def region_hashes(self, example_id: str) -> dict[str, str]:
        mask, true = self._mask_file(example_id), self.true_concepts(example_id)
        drawn = self._masks != "colour-difference" and mask.is_file()
        return dict.fromkeys(true, hash_files([mask]) if true and drawn else "colour-difference")

    def _mask_file(self, example_id: str) -> Path:
        return self.root / "masks" / f"{Path(self.record(example_id).path).stem}.png"

    def image(self, example_id: str) -> "Image":
        return open_image(self.name, self.root, self.record(example_id).path, self.white)

    def size(self, example_id: str) -> tuple[int, int]:
        return image_size(self.name, self.root, self.record(example_id).path)

    def masks(self, example_id: str) -> "Mapping[str, Image]":
        labels = self.record(example_id).labels
        if not any(labels):
            return {}
        mask = self.mask(example_id)
        return {concept: mask for concept, true in zip(self.concepts, labels, strict=True) if true}

    def mask(self, example_id: str) -> "Image":
        """Return the object's mask at the image's own size, mode L, 255 inside.

        Raises:
            DatasetError: the mask is missing, or has another size than the image.
        """
        import numpy as np
        from PIL import Image

        file = self._mask_file(example_id)
        image = self.image(example_id)
        if self._masks == "files" or (self._masks == "auto" and file.is_file()):
            if not file.is_file():
                raise DatasetError(
                    f"Data set {self.name!r}: mask {file} does not exist. Add it, or set `masks: colour-difference`."
                )
            return open_mask(self.name, file, image.size)
        channels = np.asarray(image).astype(np.int16)
        spread = channels.max(-1) - channels.min(-1)
        return Image.fromarray(np.where(spread > COLOUR_DIFFERENCE, 255, 0).astype(np.uint8))


LAYOUT = Layout(
    name="clevr",
    modalities=("image",),
    expected="a folder with metadata.csv, images and, where there are any, masks",
    open=ClevrReader,
    takes=("colour-difference", "separator"),
    located="always",
    lenient=True,
)
