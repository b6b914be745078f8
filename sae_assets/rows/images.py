"""Images through a vision transformer: CLS and patch rows of one forward pass, for any library's model.

What a library's vision model must offer is the two protocols here; ``open_clip`` and ``transformers`` do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sae_assets.catalog import Model, Transformer
from sae_assets.catalog.registry import libraries
from sae_assets.datasets import ImageReader
from sae_assets.errors import CheckpointError
from sae_assets.rows.blank import is_one_colour
from sae_assets.rows.loaded import keep_transformer, model_settings, weight_bytes
from sae_assets.rows.source import ExampleRows
from sae_assets.rows.steady import steady

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sae_assets.datasets import ImageReader, Reader


class Geometry(Protocol):
    """Size, patches and preprocessing of a vision model, from its configuration alone (no weights).

    Attributes:
        patch_size: pixels; grid: patches (down, across); n_patches: their product.
        n_prefix: positions before the patches (CLS, registers); has_cls: whether the first of them is CLS.
    """

    patch_size: int
    grid: tuple[int, int]
    n_patches: int
    n_prefix: int
    has_cls: bool

    def tensor(self, image: "Image") -> "Tensor":
        """The model's input, float32 [3, height, width]."""
        ...

    def mask(self, mask: "Image") -> "Tensor":
        """bool [grid down × patch, grid across × patch]: the mask under the image's transform, nearest neighbour."""
        ...


class Vision(Protocol):
    """A loaded vision model, cut after the hook point."""

    @property
    def geometry(self) -> Geometry: ...

    @property
    def d_model(self) -> int: ...

    def embed(self, images: "Tensor") -> "Tensor":
        """float32 [batch, n_prefix + n_patches, d_model] on the device, for ``geometry.tensor`` images stacked."""
        ...


class ImageRows:
    """Rows of images: ``cls`` is position 0, ``patch`` the patches row by row."""

    def __init__(self, reader: "ImageReader", vision: Vision, kinds: Sequence[str], hook_point: str):
        self._reader, self._vision, self.origin, self.d_model = reader, vision, hook_point, vision.d_model
        geometry = vision.geometry
        if "cls" in kinds and not geometry.has_cls:
            raise CheckpointError(f"The rows at {hook_point} have no CLS position; use token kind `patch` alone.")
        spans = {"cls": slice(0, 1), "patch": slice(geometry.n_prefix, None)}
        self._spans = {kind: spans[kind] for kind in kinds}
        self._count = {"cls": 1, "patch": geometry.n_patches}

    def rows_per_example(self, kind: str) -> int | None:
        return self._count[kind]

    def embed(self, example_ids: Sequence[str]) -> list[ExampleRows]:
        import torch

        tensors, blank = [], []
        for example in example_ids:
            image = self._reader.image(example)
            tensors.append(self._vision.geometry.tensor(image))
            blank.append(is_one_colour(image))
        embedded = self._vision.embed(torch.stack(tensors))
        return [
            ExampleRows({kind: one[span] for kind, span in self._spans.items()}, blank=empty)
            for one, empty in zip(embedded, blank, strict=True)
        ]


def open_geometry(transformer: Transformer) -> Geometry:
    """The geometry of a vision model, without its weights.

    Raises:
        CheckpointError: an unknown model, or an unreadable configuration.
    """
    make = libraries()[transformer.library].geometry
    assert make is not None  # the catalog has seen to it
    geometry: Geometry = keep_transformer("geometry", transformer, None, lambda: make(transformer))
    return geometry


def open_image_rows(reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str) -> ImageRows:
    """The source of an image model.

    Raises:
        CheckpointError: weights that cannot be had or do not fit, a hook point that does not exist, no CLS, or rows
            that differ from call to call.
    """
    assert isinstance(reader, ImageReader) and model.transformer is not None
    load, settings = libraries()[model.transformer.library].vision, model_settings(model, precision)
    assert load is not None  # the catalog has seen to it
    transformer = model.transformer

    def opened() -> Vision:
        return steady(
            lambda: load(model, device, precision), _rows_of_noise, lambda: weight_bytes(transformer), model.hook_point
        )

    vision: Vision = keep_transformer("vision", transformer, settings, opened, device)
    return ImageRows(reader, vision, kinds, model.hook_point)


def _rows_of_noise(vision: Vision) -> "Tensor":
    """Rows of one picture of noise, the same at each call."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    return vision.embed(vision.geometry.tensor(Image.fromarray(noise))[None])
