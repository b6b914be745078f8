"""open_clip vision transformers: the residual stream after one block.

One code path for every model, from ViT-L-14 of the hub to a local folder. Which positions are rows of which token
kind is decided in ``images``.
"""

import functools
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError
from sae_assets.rows.open_clip.geometry import ImageGeometry
from sae_assets.rows.open_clip.library import library
from sae_assets.rows.open_clip.weights import expect_positions, locate_weights

if TYPE_CHECKING:
    from torch import Tensor


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
            expect_positions(weights, self.geometry.n_prefix + self.geometry.n_patches)
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
        """Return open_clip's own model with its weights, in float32 on the CPU."""
        open_clip = library()

        if transformer.path is not None:
            return open_clip.create_model(f"local-dir:{transformer.path}", require_pretrained=True)
        weights = str(transformer.weights) if transformer.weights else transformer.pretrained
        return open_clip.create_model(transformer.name, pretrained=weights, require_pretrained=True)

    def embed(self, images: "Tensor") -> "Tensor":
        """Return residual stream of images, float32 [batch, 1 + n_patches, d_model] on the device: CLS, then patches by
        row.

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
