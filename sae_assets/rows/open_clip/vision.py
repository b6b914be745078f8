"""open_clip vision transformers: residual stream after one block, and masks under the same geometric transform.

One code path for every model, from ViT-L-14 of the hub to a local folder. Which positions are rows of which token
kind is decided in ``images``.
"""

import difflib
import functools
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops, plain_json
from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError, DatasetError
from sae_assets.rows.open_clip.config import odd_numbers, odd_preprocessing
from sae_assets.rows.open_clip.library import library
from sae_assets.saes.files import cached_hub_file, file_hash
from sae_assets.saes.weights import expect_small_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

QUICK = "-quickgelu"  # ends the names of open_clip's architectures that compute QuickGELU
TO_TENSOR = ("MaybeToTensor", "ToTensor")  # from 0–255 to 0–1, channels first
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def locate_weights(transformer: Transformer) -> Path | None:
    """The weights file if it is on this machine, else None; never touches the network.

    Raises:
        CheckpointError: a local path that does not exist or holds no weights.
    """
    if transformer.path is not None:
        files = [transformer.path / name for name in WEIGHT_FILES if (transformer.path / name).is_file()]
        if not files or not (transformer.path / "open_clip_config.json").is_file():
            raise CheckpointError(
                f"{transformer.path} is not an open_clip folder: expected open_clip_config.json and one of "
                f"{', '.join(WEIGHT_FILES)}. Correct `transformer.path` in the catalog."
            )
        return _sound(files[0])
    if transformer.weights is not None:
        if not transformer.weights.is_file():
            raise CheckpointError(f"Weights file {transformer.weights} does not exist (`transformer.weights`).")
        return _sound(transformer.weights)
    tag = library().get_pretrained_cfg(transformer.name, transformer.pretrained) or {}
    repo = tag.get("hf_hub", "").strip("/")
    hits = [cached_hub_file(repo, name) for name in WEIGHT_FILES] if repo.count("/") == 1 else []
    return next((hit for hit in hits if hit), None)


def _sound(weights: Path) -> Path:
    try:
        if weights.suffix == ".safetensors":
            expect_small_header(weights)
    except ValueError as error:
        raise CheckpointError(f"{weights} is not readable as safetensors: {error}.") from None
    return weights


def identity(transformer: Transformer) -> dict[str, Any]:
    """What names this transformer in fingerprints: its architecture and tag, or the hash of its local files."""
    named = {"library": transformer.library, "name": transformer.name, "pretrained": transformer.pretrained}
    if transformer.path is None and transformer.weights is None:
        return named
    weights = locate_weights(transformer)
    assert weights is not None
    named["weights"] = file_hash(weights)
    if transformer.path is not None:
        named["config"] = file_hash(transformer.path / "open_clip_config.json")
    return named


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
            _expect_activation(transformer.name or "", transformer.pretrained or "")
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
    def normalisation(self) -> "tuple[tuple[float, ...], tuple[float, ...]]":
        """Mean and standard deviation per channel that pixels are normalised by; white is 1."""
        return tuple(self.preprocessing["mean"]), tuple(self.preprocessing["std"])

    def tensor(self, image: "Image") -> "Tensor":
        """The model's input, float32 [3, height, width]."""
        return self.inputs([self.pixels(image)], "cpu")[0]

    def pixels(self, image: "Image") -> "np.ndarray":
        """What the transform does to a picture, uint8 [height, width, 3]: Pillow's work, no torch."""
        import numpy as np

        for step in self._transform.transforms[:-2]:
            image = step(image)
        return np.asarray(image)

    def inputs(self, pixels: "Sequence[np.ndarray]", device: Any) -> "Tensor":
        """What it then does to numbers, on the device, float32 [n, 3, height, width]."""
        import numpy as np
        import torch
        from torchvision.transforms import functional

        to_tensor, normalize = self._transform.transforms[-2:]
        assert type(to_tensor).__name__ in TO_TENSOR, to_tensor
        with ops.process_state.plain_arithmetic():
            numbers = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2).contiguous()
            return functional.normalize(numbers.float().div_(255), normalize.mean, normalize.std, inplace=True)

    def mask(self, mask: "Image") -> "Tensor":
        """bool [height, width]: the mask under the geometric steps of the image's transform, nearest neighbour."""
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
    """Whether open_clip computes QuickGELU under an architecture's name."""
    open_clip = library()

    return bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))


def _expect_activation(name: str, tag: str) -> None:
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


def _expect_positions(weights: Path, expected: int) -> None:
    """Refuse weights for images of another size, whose position embeddings open_clip would stretch without a word.

    Args:
        expected: positions of the architecture: CLS and patches.

    Raises:
        CheckpointError: the file has another number of positions.
    """
    shape = _shape_in(weights, "visual.positional_embedding")
    if shape is not None and shape[0] != expected:
        raise CheckpointError(
            f"{weights} has {shape[0]} positions, the architecture {expected}: the weights are for images of another "
            "size. Name the architecture that they were trained as."
        )


def _shape_in(weights: Path, name: str) -> tuple[int, ...] | None:
    """Shape of a tensor in a file of weights; None where there is none, or the file is no such, which loading says."""
    import safetensors
    import torch

    try:
        if weights.suffix == ".safetensors":
            with safetensors.safe_open(weights, "pt", device="cpu") as file:
                return tuple(file.get_slice(name).get_shape()) if name in file.keys() else None  # noqa: SIM118
        content = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        content = content.get("state_dict", content)
        return tuple((content.get(name) if name in content else content[f"module.{name}"]).shape)
    except Exception:  # whatever is wrong with the file is said when it is loaded
        return None


@functools.cache
def _offline() -> Any:
    """Ask the hub for nothing: the configuration of a local folder may name any of its models as the text tower."""
    return ops.process_state.Shared([_no_hub])


def _no_hub() -> Any:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    return functools.partial(setattr, constants, "HF_HUB_OFFLINE", before)


class VisionTransformer:
    """A loaded vision transformer, cut after the hook's block.

    Args:
        transformer: catalog entry; layer: 0-based block whose output is read; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16); rows come out as float32 in any case.

    Raises:
        CheckpointError: weights that cannot be had or do not fit, or a block that does not exist.
    """

    def __init__(self, transformer: Transformer, layer: int, device: Any = "cpu", precision: str = "float32"):
        import torch

        self.geometry = ImageGeometry(transformer)
        if (weights := locate_weights(transformer)) is not None:
            _expect_positions(weights, self.geometry.n_prefix + self.geometry.n_patches)
        source = transformer.path or transformer.name
        try:
            with ops.process_state.plain_torch("cpu"), _offline() if transformer.path else nullcontext():
                model = self._create(transformer)
        except Exception as error:  # open_clip and the hub client raise many kinds; all mean: no usable weights
            raise CheckpointError(
                f"The transformer {source} could not be loaded ({type(error).__name__}: {ops.plain.in_words(error)}). "
                "Without network, set `transformer.path` or `transformer.weights` to local files."
            ) from error
        visual = model.visual
        blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
        if blocks is None:
            raise CheckpointError(f"{source} has no residual blocks; only open_clip's own vision transformers do.")
        if layer >= len(blocks):
            raise CheckpointError(f"{source} has blocks 0..{len(blocks) - 1}; `layer: {layer}` does not exist.")
        visual.transformer.resblocks = blocks[: layer + 1]  # what comes after the hook is never computed
        self._batch_first = getattr(visual.transformer, "batch_first", True)
        self._visual = self.network = visual.eval().requires_grad_(False).to(device, getattr(torch, precision))
        self._dtype = getattr(torch, precision)
        self._device = device
        self.d_model = int(visual.transformer.width)
        self._of_thread = threading.local()
        visual.transformer.resblocks[layer].register_forward_hook(
            lambda _module, _inputs, output: setattr(self._of_thread, "output", output)
        )
        self._inference = torch.inference_mode

    @staticmethod
    def _create(transformer: Transformer) -> Any:
        """open_clip's own model with its weights, in float32 on the CPU."""
        open_clip = library()

        if transformer.path is not None:
            return open_clip.create_model(f"local-dir:{transformer.path}", require_pretrained=True)
        weights = str(transformer.weights) if transformer.weights else transformer.pretrained
        return open_clip.create_model(transformer.name, pretrained=weights, require_pretrained=True)

    def embed(self, images: "Tensor") -> "Tensor":
        """Residual stream of images, float32 [batch, 1 + n_patches, d_model] on the device: CLS, then patches by row.

        Args:
            images: float32 [batch, 3, height, width], as ``geometry.tensor`` gives them, stacked.
        """
        with ops.process_state.plain_torch(), self._inference():
            self._visual(images.to(self._device, self._dtype))
        rows: Tensor = self._of_thread.__dict__.pop("output")
        rows = rows if self._batch_first else rows.transpose(0, 1)
        expected = (len(images), self.geometry.n_prefix + self.geometry.n_patches)
        if rows.shape[:2] != expected:
            raise CheckpointError(
                f"The block gave {tuple(rows.shape)}, expected {[*expected]} and d_model: CLS and one row per patch."
            )
        return rows.float()
