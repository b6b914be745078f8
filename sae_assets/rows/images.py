"""Images through a vision transformer: CLS and patch rows of one forward pass, for any library's model.

What a library's vision model must offer is the two protocols here; ``open_clip`` and ``transformers`` do.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sae_assets.catalog import Model, Transformer
from sae_assets.catalog.registry import libraries
from sae_assets.datasets import ImageReader
from sae_assets.errors import CheckpointError
from sae_assets.rows.blank import is_one_colour
from sae_assets.rows.loaded import keep_transformer, model_settings, weight_bytes
from sae_assets.rows.passes import LOOKAHEAD, FixedShapes, ForwardPass, in_groups, together
from sae_assets.rows.source import ExampleRows, Normalisation
from sae_assets.rows.steady import steady
from sae_assets.rows.threads import prepared

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from sae_assets.datasets import ImageReader, Reader


class Geometry(Protocol):
    """Size, patches and preprocessing of a vision model, from its configuration alone (no weights).

    Attributes:
        patch_size: pixels; grid: patches (down, across); n_patches: their product.
        n_prefix: positions before the patches (CLS, registers); has_cls: whether the first of them is CLS.
        normalisation: mean and standard deviation per channel that pixels are normalised by, where white is 1; None
            where nobody knows.
    """

    patch_size: int
    grid: tuple[int, int]
    n_patches: int
    n_prefix: int
    has_cls: bool

    @property
    def normalisation(self) -> Normalisation | None: ...

    def tensor(self, image: "Image") -> "Tensor":
        """Return the model's input, float32 [3, height, width]: ``inputs`` of its ``pixels``."""
        ...

    def pixels(self, image: "Image") -> "np.ndarray":
        """Return the part of it that is done to each picture for itself, in threads."""
        ...

    def inputs(self, pixels: "Sequence[np.ndarray]", device: Any) -> "Tensor":
        """Return float32 [n, 3, height, width] on the device, for pictures whose part is done."""
        ...

    def mask(self, mask: "Image") -> "Tensor":
        """Return bool [grid down × patch, grid across × patch]: the mask under the image's transform, nearest
        neighbour."""
        ...


def odd_normalisation(mean: Any, std: Any, prefix: str = "") -> list[str]:
    """Return what is wrong with a mean and a standard deviation of a configuration, which libraries compute with
    unseen.

    Args:
        prefix: of their keys.
    """
    problems = []
    for name, values, least, expected in (
        ("mean", mean, -math.inf, "three finite numbers"),
        ("std", std, 0.0, "three finite numbers above 0"),
    ):
        listed = isinstance(values, (list, tuple)) and len(values) == 3
        if not listed or not all(isinstance(v, (int, float)) and math.isfinite(v) and v > least for v in values):
            problems.append(f"{prefix}{name} is {values!r}, expected {expected}")
    return problems


class WholeTensors(ABC):
    """A base of geometries whose ``tensor`` does all of its work at once, and who say no ``normalisation``."""

    @property
    def normalisation(self) -> Normalisation | None:
        return None

    @abstractmethod
    def tensor(self, image: "Image") -> "Tensor": ...

    def pixels(self, image: "Image") -> "np.ndarray":
        return self.tensor(image).numpy()

    def inputs(self, pixels: "Sequence[np.ndarray]", device: Any) -> "Tensor":
        import numpy as np
        import torch

        return torch.from_numpy(np.stack(pixels)).to(device)


class Vision(Protocol):
    """A loaded vision model, cut after the hook point."""

    @property
    def geometry(self) -> Geometry: ...

    @property
    def d_model(self) -> int: ...

    def embed(self, images: "Tensor") -> "Tensor":
        """Return float32 [batch, n_prefix + n_patches, d_model] on the device, for ``geometry.tensor`` images stacked.

        On a CPU several threads ask at once.
        """
        ...


class ImageRows:
    """Rows of images: ``cls`` is position 0, ``patch`` the patches row by row.

    Args:
        reader: images by example id; opened: the model; kinds: ``patch`` and/or ``cls``; hook_point: for messages.
        size: images of one pass.
    """

    def __init__(self, reader: "ImageReader", opened: "_Opened", kinds: Sequence[str], hook_point: str, size: int):
        geometry = self._geometry = opened.vision.geometry
        self._reader, self._shapes, self._size = reader, opened.shapes, size
        self.origin, self.d_model = hook_point, opened.vision.d_model
        self.final_norm, self.network = (
            getattr(opened.vision, "final_norm", ""),
            getattr(opened.vision, "network", None),
        )
        self.doubts: Sequence[str] = ()
        self.normalisation = geometry.normalisation
        self.longest: int | None = None
        if "cls" in kinds and not geometry.has_cls:
            raise CheckpointError(f"The rows at {hook_point} have no CLS position; use token kind `patch` alone.")
        spans = {"cls": slice(0, 1), "patch": slice(geometry.n_prefix, None)}
        self._spans = {kind: spans[kind] for kind in kinds}
        self._count = {"cls": 1, "patch": geometry.n_patches}
        self._length = geometry.n_prefix + geometry.n_patches

    @property
    def one_by_one(self) -> bool:
        return self._shapes.one_by_one

    def rows_per_example(self, kind: str) -> int | None:
        return self._count[kind]

    def embed(self, example_ids: Sequence[str]) -> Iterator[ExampleRows]:
        """Yield rows of these images; the next ones are decoded while passes are computed."""
        images = (self._reader.deferred_image(example) for example in example_ids)
        at_once = self._size * self._shapes.n_beside(self._size, self._length)
        for group in in_groups(prepared(self._input, images, LOOKAHEAD * at_once), at_once):
            passes = [
                ForwardPass(inputs, self._size, self._length) for inputs in in_groups((x for x, _ in group), self._size)
            ]
            rows_of_group = [rows for of_pass in self._shapes.rows(passes) for rows in of_pass]
            for one, (_, blank) in zip(rows_of_group, group, strict=True):
                yield ExampleRows({kind: one[span] for kind, span in self._spans.items()}, blank=blank)

    def _input(self, deferred: "Callable[[], Image]") -> "tuple[np.ndarray, bool]":
        """Return the picture as the model's input is made of it, and whether it shows nothing."""
        image = deferred()
        return self._geometry.pixels(image), is_one_colour(image)


@dataclass(frozen=True)
class _Opened:
    """A loaded vision model, and what was found of its passes."""

    vision: Vision
    shapes: "FixedShapes[np.ndarray]"


def open_geometry(transformer: Transformer) -> Geometry:
    """Return the geometry of a vision model, without its weights.

    Raises:
        CheckpointError: an unknown model, or an unreadable configuration.
    """
    make = libraries()[transformer.library].geometry
    assert make is not None  # the catalog has seen to it
    geometry: Geometry = keep_transformer("geometry", transformer, None, lambda: make(transformer))
    return geometry


def open_image_rows(
    reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str, forward_batch: int | None = 1
) -> ImageRows:
    """Return the source of an image model.

    Args:
        forward_batch: images of one pass; None: as many as the device takes.

    Raises:
        CheckpointError: weights that cannot be had or do not fit, a hook point that does not exist, no CLS, or rows
            that differ from call to call.
    """
    assert isinstance(reader, ImageReader) and model.transformer is not None
    load, settings = libraries()[model.transformer.library].vision, model_settings(model, precision)
    assert load is not None  # the catalog has seen to it
    transformer = model.transformer

    def opened() -> _Opened:
        import numpy as np

        vision: Vision = steady(
            lambda: load(model, device, precision), _rows_of_noise, lambda: weight_bytes(transformer), model.hook_point
        )

        def forward(pixels: "Sequence[np.ndarray]", _length: int | None) -> "list[Tensor]":
            return [*vision.embed(vision.geometry.inputs(pixels, device))]

        return _Opened(vision, FixedShapes(forward, np.zeros_like, precision, device=device))

    loaded: _Opened = keep_transformer("vision", transformer, settings, opened, device)
    geometry = loaded.vision.geometry
    size = together(forward_batch, geometry.n_prefix + geometry.n_patches, device)
    return ImageRows(reader, loaded, kinds, model.hook_point, size)


def noise() -> "Image":
    """Return a picture of noise, the same at each call: what models are tried with."""
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8))


def _rows_of_noise(vision: Vision) -> "Tensor":
    return vision.embed(vision.geometry.tensor(noise())[None])
