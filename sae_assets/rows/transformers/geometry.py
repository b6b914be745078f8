"""Geometry of vision models of ``transformers``: sizes, patches, preprocessing, and masks under the same transform.

Sizes and preprocessing come from the model's own configuration and image processor; positions are counted on one block
with random weights, so that no table of architectures is needed. It is computed on the CPU and never on torch's meta
device: what a model remembers of such a pass (BEiT's relative positions) would be unset memory in every later one.
Images are resized by Pillow (integers, the same on every machine) where the library has such a processor, else by
torchvision on the CPU (DINOv3).
"""

import math
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError, DatasetError
from sae_assets.rows.images import WholeTensors, odd_normalisation
from sae_assets.rows.properties import edges_of
from sae_assets.rows.source import Normalisation
from sae_assets.rows.transformers.blocks import shortened
from sae_assets.rows.transformers.files import expect_room, quiet, read_config, read_pretrained

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

CLS_NAMES = ("cls_token", "class_embedding", "class_token", "cls_embedding")
MOST_SIDE = 4096  # pixels of an input; those of published models are 1,024 or so
MOST_RESAMPLE = 5  # Pillow's filters are numbered from 0
EDGE = 2  # pixels along a border where a resampled image and its mask may differ


class TransformersGeometry(WholeTensors):
    """Size, patches and preprocessing of a vision model, from its configuration alone (protocol ``Geometry``).

    Attributes:
        patch_size: pixels; grid: patches (down, across); n_patches: their product.
        n_prefix: positions before the patches (CLS, registers); has_cls: whether the first of them is CLS.
        config: the vision tower's configuration; backend: what resizes images, ``pil`` or ``torchvision``.

    Raises:
        CheckpointError: files that cannot be read, a model without one grid of square patches (hierarchical models,
            variable grids), an image processor whose output has no fixed size, or positions that do not add up.
    """

    def __init__(self, transformer: Transformer):
        self._label = transformer.label
        self.config = read_config(transformer, "vision_config")
        self._processor = read_pretrained("AutoImageProcessor", transformer, "image processor", backend="pil")
        self.backend = str(getattr(self._processor, "backend", "pil"))
        self._expect_one_grid()
        self._expect_settings()
        self.patch_size = self._patch()
        self._size = self._output_size()
        self.grid = (self._size[0] // self.patch_size, self._size[1] // self.patch_size)
        self.n_patches = self.grid[0] * self.grid[1]
        self.n_prefix, self.has_cls = self._prefix(transformer)
        self._masks_follow = False

    @property
    def processor(self) -> Any:
        """Return the library's image processor."""
        return self._processor

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Return what the image processor does, as plain values, for people to look at."""
        names = (
            "size",
            "crop_size",
            "resample",
            "do_rescale",
            "rescale_factor",
            "do_normalize",
            "image_mean",
            "image_std",
        )
        values = {name: getattr(self._processor, name, None) for name in names}
        settings = {name: value for name, value in values.items() if value is not None}
        plain = {
            name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in settings.items()
        }
        return {"processor": type(self._processor).__name__, **plain}

    @property
    def normalisation(self) -> Normalisation:
        """Return mean and standard deviation per channel that pixels are normalised by; white is 1."""
        processor = self._processor
        white = 255 * processor.rescale_factor if getattr(processor, "do_rescale", False) else 255.0
        mean, std = (0.0,) * 3, (1.0,) * 3
        if getattr(processor, "do_normalize", False):
            mean, std = processor.image_mean, processor.image_std
        return tuple(value / white for value in mean), tuple(value / white for value in std)

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the model's input in pixels."""
        return self._size

    def _expect_one_grid(self) -> None:
        kind, processor = self.config.model_type, type(self._processor).__name__
        for name in ("depths", "hidden_sizes", "embed_dims"):
            stages = getattr(self.config, name, None)
            if isinstance(stages, (list, tuple)) and len(stages) > 1:
                raise CheckpointError(
                    f"{self._label} ({kind}) is hierarchical ({name}: {[*stages]}): its grid shrinks by stages. "
                    "Models with one grid of patches are read."
                )
        if getattr(self._processor, "max_num_patches", None) is not None:
            raise CheckpointError(
                f"{self._label} ({kind}, {processor}) has a grid that varies with the image (NaFlex, up to "
                f"{self._processor.max_num_patches} patches). Use the variant of fixed size."
            )

    def _expect_settings(self) -> None:
        """Refuse what the library takes until the first image, or computes with as if it were a setting."""
        processor, problems = self._processor, list[str]()
        if getattr(processor, "do_normalize", False):
            problems += odd_normalisation(processor.image_mean, processor.image_std, "image_")
        factor = getattr(processor, "rescale_factor", None)
        if getattr(processor, "do_rescale", False) and not (
            isinstance(factor, (int, float)) and math.isfinite(factor) and factor > 0
        ):
            problems.append(f"rescale_factor is {factor!r}, expected a number above 0")
        resample = getattr(processor, "resample", None)
        if resample is not None and (not isinstance(resample, int) or not 0 <= resample <= MOST_RESAMPLE):
            problems.append(f"resample is {resample!r}, expected 0 to {MOST_RESAMPLE}")
        for name in ("size", "crop_size"):
            sides = _pixels(processor, name) or {}
            if odd := {key: side for key, side in sides.items() if not 0 < side <= MOST_SIDE}:
                problems.append(f"{name} is {odd}, expected 1 to {MOST_SIDE:,} pixels")
        if problems:
            raise CheckpointError(f"The image processor of {self._label} ({type(processor).__name__}):", problems)

    def _patch(self) -> int:
        size = getattr(self.config, "patch_size", None)
        sides = set(size) if isinstance(size, (list, tuple)) else {size}
        if len(sides) != 1 or not isinstance(side := sides.pop(), int) or side < 1:
            raise CheckpointError(
                f"{self._label} ({self.config.model_type}) has patch_size {size}; vision transformers with square "
                "patches are read."
            )
        return side

    def _output_size(self) -> tuple[int, int]:
        """Return height and width of every preprocessed image."""
        processor = self._processor
        crop = _pixels(processor, "crop_size") if getattr(processor, "do_center_crop", False) else None
        resized = _pixels(processor, "size") if getattr(processor, "do_resize", False) else None
        final = crop if crop is not None else resized
        if resized is None or final is None or not {"height", "width"} <= set(final):
            raise CheckpointError(
                f"{type(processor).__name__} of {self._label} gives images of no fixed size (size {resized}, "
                f"crop {crop}); expected a resize to one size, or of the shorter edge and then a centre crop."
            )
        return final["height"], final["width"]

    def _prefix(self, transformer: Transformer) -> tuple[int, bool]:
        """Return how many positions stand before the patches and whether CLS is among them, verified with random
        weights."""
        import torch
        import transformers

        try:
            with quiet(), ops.process_state.plain_torch("meta"):  # made, and not run
                expect_room(transformers.AutoModel.from_config(shortened(self.config, 1)), transformer)
            with quiet(), ops.process_state.plain_torch("cpu"), torch.inference_mode():
                network = transformers.AutoModel.from_config(shortened(self.config, 1), dtype=torch.float32).eval()
                shape = network(
                    pixel_values=torch.zeros(1, 3, *self._size, dtype=torch.float32, device="cpu")
                ).last_hidden_state.shape
        except CheckpointError:
            raise
        except Exception as error:  # whatever a model raises for images that it does not take
            raise CheckpointError(
                f"{self._label} ({self.config.model_type}) does not take the {self._size[0]}x{self._size[1]} images of "
                f"its own image processor ({type(error).__name__}: {str(error)[:300]})."
            ) from error
        cls, others = _prefix_tokens(network)
        if len(shape) == 3 and shape[1] == others + self.n_patches:
            cls = 0  # a CLS token that only the head adds stands at no position
        if len(shape) != 3 or shape[1] != cls + others + self.n_patches:
            raise CheckpointError(
                f"{self._label} ({self.config.model_type}) gives {list(shape[1:])} for an image, expected "
                f"{cls + others} CLS and register tokens and {self.n_patches} patches "
                f"({self.grid[0]}x{self.grid[1]} of {self.patch_size} pixels)."
            )
        return cls + others, cls > 0

    def tensor(self, image: "Image") -> "Tensor":
        """Return the model's input, float32 [3, height, width].

        Raises:
            CheckpointError: the image processor fails, or gave another shape.
        """
        try:
            with quiet(), ops.process_state.plain_torch():
                pixels = self._processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        except Exception as error:  # whatever a processor raises for its own settings
            raise CheckpointError(
                f"The image processor of {self._label} fails on {image.width}x{image.height} pixels "
                f"({type(error).__name__}: {str(error)[:300]})."
            ) from error
        if tuple(pixels.shape) != (1, 3, *self._size):
            raise CheckpointError(f"The image processor gave {tuple(pixels.shape)}, expected {(1, 3, *self._size)}.")
        return pixels[0].float()

    def mask(self, mask: "Image") -> "Tensor":
        """Return bool [grid down × patch, grid across × patch]: the mask under the image's transform, nearest
        neighbour.

        Raises:
            CheckpointError: the image processor does more than a resize and a centre crop.
            DatasetError: a mask that is smaller than the crop.
        """
        if not self._masks_follow:
            self._expect_masks_to_follow()
            self._masks_follow = True
        down, across = (patches * self.patch_size for patches in self.grid)
        return self._moved(mask)[:down, :across]  # a remainder that no patch covers

    def _moved(self, mask: "Image") -> "Tensor":
        import numpy as np
        import torch
        from PIL.Image import Resampling

        size = _pixels(self._processor, "size")
        assert size is not None
        width, height = mask.size
        if "shortest_edge" in size:  # the library's rounding: the longer edge is cut to whole pixels
            short, long = sorted((height, width))
            edges = (size["shortest_edge"], int(size["shortest_edge"] * long / short))
            height, width = edges if height <= width else edges[::-1]
        else:
            height, width = size["height"], size["width"]
        result = torch.from_numpy(np.asarray(mask.resize((width, height), Resampling.NEAREST)) > 0)
        top, left = height - self._size[0], width - self._size[1]
        if top < 0 or left < 0:
            raise DatasetError(f"A mask came to {height}x{width} pixels, less than the crop of {self._size}.")
        return result[top // 2 : top // 2 + self._size[0], left // 2 : left // 2 + self._size[1]]

    def _expect_masks_to_follow(self) -> None:
        """Send a white rectangle through both transforms, to notice anything else that the image processor does."""
        import torch
        from PIL import Image, ImageDraw

        for width, height in (
            (2 * self._size[1] + 37, self._size[0] + 10),
            (self._size[1] + 11, 2 * self._size[0] + 30),
        ):
            image, mask = Image.new("RGB", (width, height)), Image.new("L", (width, height))
            corners = (width * 3 // 10, height * 35 // 100, width * 6 // 10, height * 8 // 10)
            ImageDraw.Draw(image).rectangle(corners, "white")
            ImageDraw.Draw(mask).rectangle(corners, 255)
            low, high = (self.tensor(Image.new("RGB", (width, height), colour)) for colour in ("black", "white"))
            seen, moved = (self.tensor(image) > (low + high) / 2)[0], self._moved(mask)
            pool = torch.nn.MaxPool2d(2 * EDGE + 1, stride=1, padding=EDGE)
            near_border = (pool(moved[None].float())[0] > 0) & (pool((~moved)[None].float())[0] > 0)
            if bool(((moved != seen) & ~near_border).any()):
                raise CheckpointError(
                    f"Masks cannot follow {type(self._processor).__name__} of {self._label}: it does more than a "
                    "resize and a centre crop."
                )


def _pixels(processor: Any, name: str) -> dict[str, int] | None:
    """Return a size of an image processor as a plain dict of the keys that are set."""
    size = getattr(processor, name, None)
    if size is None:
        return None
    if isinstance(size, int):
        return {"height": size, "width": size}
    return {key: int(value) for key, value in (edges_of(size) or {}).items()}


def _prefix_tokens(network: "nn.Module") -> tuple[int, int]:
    """Return numbers of CLS tokens and of other learned tokens (registers, distillation) before the patches."""
    cls = others = 0
    for name, parameter in network.named_parameters():
        last = name.rpartition(".")[2]
        if last in CLS_NAMES:
            cls += 1
        elif last == "distillation_token":
            others += 1
        elif last == "register_tokens":
            others += parameter.shape[1]
    return cls, others
