"""Sizes of an open_clip vision transformer, and its transform of pictures and of masks, from its configuration alone.

What does not fit each other is refused here, before any weights are loaded.
"""

import difflib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sae_assets import ops, plain_json
from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError, DatasetError
from sae_assets.rows.open_clip.config import odd_numbers, odd_preprocessing
from sae_assets.rows.open_clip.library import library
from sae_assets.rows.open_clip.weights import locate_weights
from sae_assets.rows.source import Normalisation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

QUICK = "-quickgelu"  # ends the names of open_clip's architectures that compute QuickGELU
TO_TENSOR = ("MaybeToTensor", "ToTensor")  # from 0–255 to 0–1, channels first


class ImageGeometry:
    """Size, patches and preprocessing of a vision transformer, from its configuration alone (no weights).

    Attributes:
        patch_size: pixels; grid: patches (down, across); n_patches: their product.
        activation: the activation function, ``gelu`` or ``quick_gelu``.

    Raises:
        CheckpointError: unknown architecture or weights tag (known ones are listed), weights that were trained with
            another activation function, or a config that is unreadable or says no mean and standard deviation.
    """

    def __init__(self, transformer: Transformer):
        open_clip = library()

        if transformer.path is not None:
            locate_weights(transformer)
            try:
                config = plain_json.read(transformer.path / "open_clip_config.json")
                vision, preprocess = dict(config["model_cfg"]["vision_cfg"]), dict(config.get("preprocess_cfg", {}))
                unsaid = [key for key in ("mean", "std") if key not in preprocess]
            except (ValueError, KeyError, TypeError) as error:
                raise CheckpointError(f"{transformer.path}/open_clip_config.json is not readable: {error!r}") from None
            if unsaid:  # open_clip would take OpenAI's, which are right for some models
                raise CheckpointError(
                    f"{transformer.path}/open_clip_config.json says nothing of {' and '.join(unsaid)} in "
                    "preprocess_cfg; add what the model was trained with."
                )
        else:
            vision, preprocess = _published_config(transformer)
        size = vision.get("image_size", 224)
        preprocess["size"] = size
        quick = (
            config["model_cfg"].get("quick_gelu")
            if transformer.path is not None
            else computes_quick(transformer.name or "")
        )
        self.activation = "quick_gelu" if quick else "gelu"
        config_class = open_clip.transform.PreprocessCfg
        settings = {key: value for key, value in preprocess.items() if key in config_class.__dataclass_fields__}
        if "patch_size" not in vision or isinstance(vision.get("layers"), (list, tuple)):
            raise CheckpointError(
                f"{transformer.name or transformer.path} is no vision transformer (it has no patches)."
            )
        if transformer.path is None:
            expect_activation(transformer.name or "", transformer.pretrained or "")
        elif problems := [*odd_numbers(config["model_cfg"], locate_weights(transformer)), *odd_preprocessing(settings)]:
            raise CheckpointError(f"{transformer.path}/open_clip_config.json:", problems)
        height, width = (size, size) if isinstance(size, int) else size
        self.patch_size = int(vision["patch_size"])
        self.grid = (height // self.patch_size, width // self.patch_size)
        self.n_patches = self.grid[0] * self.grid[1]
        self.n_prefix, self.has_cls = 1, True
        self._size = (height, width)
        self._transform = open_clip.transform.image_transform_v2(config_class(**settings), is_train=False)
        self.preprocessing = {**settings, "open_clip": open_clip.__version__.split(".")[0]}

    @property
    def normalisation(self) -> Normalisation:
        """Return mean and standard deviation per channel that pixels are normalised by; white is 1."""
        return tuple(self.preprocessing["mean"]), tuple(self.preprocessing["std"])

    def tensor(self, image: "Image") -> "Tensor":
        """Return the model's input, float32 [3, height, width]."""
        return self.inputs([self.pixels(image)], "cpu")[0]

    def pixels(self, image: "Image") -> "np.ndarray":
        """Return what the transform does to a picture, uint8 [height, width, 3]: Pillow's work, no torch."""
        import numpy as np

        for step in self._transform.transforms[:-2]:
            image = step(image)
        return np.asarray(image)

    def inputs(self, pixels: "Sequence[np.ndarray]", device: Any) -> "Tensor":
        """Return what it then does to numbers, on the device, float32 [n, 3, height, width]."""
        import numpy as np
        import torch

        if torch.device(device).type != "cpu":
            return self._normalised(torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2).contiguous())
        # Two fifths of the time: a value is looked up, where three operations would go through all of them.
        numbers = np.empty((len(pixels), 3, *pixels[0].shape[:2]), dtype=np.float32)
        for image, into in zip(pixels, numbers, strict=True):
            for channel, values in enumerate(self._values_of_bytes):
                np.take(values, image[..., channel], out=into[channel], mode="clip")  # clips nothing, and copies less
        return torch.from_numpy(numbers)

    def _normalised(self, numbers: "Tensor") -> "Tensor":
        """Turn bytes into what the model takes, channels first: float32 of the same shape, on the same device."""
        from torchvision.transforms import functional

        to_tensor, normalize = self._transform.transforms[-2:]
        assert type(to_tensor).__name__ in TO_TENSOR, to_tensor
        with ops.process_state.plain_arithmetic():
            return functional.normalize(numbers.float().div_(255), normalize.mean, normalize.std, inplace=True)

    @cached_property
    def _values_of_bytes(self) -> "np.ndarray":
        """Return what each value of a byte becomes in each channel, float32 [3, 256]."""
        import torch

        every = torch.arange(256, dtype=torch.uint8, device="cpu").expand(1, 3, 1, 256)
        return self._normalised(every)[0, :, 0].numpy()

    def mask(self, mask: "Image") -> "Tensor":
        """Return bool [height, width]: the mask under the geometric steps of the image's transform, nearest
        neighbour."""
        import numpy as np
        import torch
        from open_clip.transform import CenterCropOrPad, ResizeKeepRatio
        from torchvision.transforms import CenterCrop, InterpolationMode, Resize

        nearest = InterpolationMode.NEAREST
        for step in self._transform.transforms:
            if isinstance(step, Resize):
                mask = Resize(step.size, interpolation=nearest)(mask)
            elif isinstance(step, ResizeKeepRatio):
                mask = ResizeKeepRatio(step.size, step.longest, nearest)(mask)
            elif isinstance(step, CenterCropOrPad):
                mask = CenterCropOrPad(step.size, fill=0)(mask)
            elif isinstance(step, CenterCrop):
                mask = step(mask)
        result = torch.from_numpy(np.asarray(mask) > 0)
        if tuple(result.shape) != self._size:
            raise DatasetError(f"A mask came to {tuple(result.shape)} pixels, expected {self._size}.")
        down, across = (patches * self.patch_size for patches in self.grid)
        return result[:down, :across]  # a remainder that no patch covers


def _published_config(transformer: Transformer) -> tuple[dict[str, Any], dict[str, Any]]:
    open_clip = library()

    name, tag = transformer.name or "", transformer.pretrained or ""
    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=3)
        raise CheckpointError(f"open_clip has no architecture {name!r}. Nearest: {', '.join(near) or 'none'}.")
    pretrained = open_clip.get_pretrained_cfg(name, tag)
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise CheckpointError(f"open_clip has no weights {tag!r} for {name}. Known tags: {tags}.")
    return config["vision_cfg"], {key: pretrained[key] for key in ("mean", "std", "interpolation", "resize_mode")
                                  if pretrained.get(key) is not None}  # fmt: skip


def computes_quick(name: str) -> bool:
    """Return whether open_clip computes QuickGELU under an architecture's name."""
    open_clip = library()

    return bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))


def expect_activation(name: str, tag: str) -> None:
    """Refuse weights that were trained with another activation function than the architecture computes.

    An architecture that computes QuickGELU and has no twin without it (roberta-ViT-B-32) is taken as it is, for there
    the tag alone lacks the note.

    Raises:
        CheckpointError: they differ; the entry to name instead is said.
    """
    open_clip = library()

    computed = computes_quick(name)
    trained = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
    twin = name.removesuffix(QUICK) if computed else name + QUICK
    if computed == trained or (computed and (twin == name or twin not in open_clip.list_models())):
        return
    functions = {True: "QuickGELU", False: "GELU"}
    advice = (
        f"Set `transformer.name: {twin}`."
        if twin in open_clip.list_models()
        else "Save model and weights as a folder with `quick_gelu` in open_clip_config.json, and name it by `path`."
    )
    raise CheckpointError(
        f"The weights {tag!r} were trained with {functions[trained]}, but open_clip computes {functions[computed]} "
        f"under the name {name}: rows would be others than the model's. {advice}"
    )
