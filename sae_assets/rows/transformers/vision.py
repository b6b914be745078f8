"""Vision transformers of ``transformers``: the hidden state at the hook point."""

from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Model
from sae_assets.errors import CheckpointError
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets.rows.transformers.hook_point import CutModel

if TYPE_CHECKING:
    from torch import Tensor


class TransformersVision:
    """A loaded vision model, cut at the hook point (protocol ``Vision``).

    Args:
        model: catalog entry; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16); rows come out as float32 in any case.

    Raises:
        CheckpointError: weights that cannot be had or do not fit, a hook point that does not exist, or one whose
            positions are not CLS, registers and patches.
    """

    def __init__(self, model: Model, device: Any = "cpu", precision: str = "float32"):
        import torch

        assert model.transformer is not None
        self.geometry = TransformersGeometry(model.transformer)
        self._network = CutModel(model, self.geometry.config, device, precision)
        self._dtype = getattr(torch, precision)
        self._hook_point = model.hook_point
        rows = self._network.check(pixel_values=torch.zeros(1, 3, *self.geometry.size, dtype=self._dtype, device="cpu"))
        self._expect_positions(rows)
        self.d_model, self.final_norm = rows.shape[2], self._network.final_norm
        self.network = self._network.network

    def _expect_positions(self, rows: "Tensor") -> None:
        geometry = self.geometry
        if rows.shape[1] != geometry.n_prefix + geometry.n_patches:
            raise CheckpointError(
                f"{self._hook_point} gave {rows.shape[1]} positions, expected {geometry.n_prefix + geometry.n_patches} "
                f"({geometry.n_prefix} before the patches and {geometry.n_patches} patches)."
            )

    def embed(self, images: "Tensor") -> "Tensor":
        """Return hidden state of images, float32 [batch, n_prefix + n_patches, d_model] on the device.

        Args:
            images: float32 [batch, 3, height, width], as ``geometry.tensor`` gives them, stacked.
        """
        rows = self._network.rows(pixel_values=images.to(self._dtype))
        self._expect_positions(rows)
        return rows
