"""Encoders whose units decide alone: JumpReLU, and ReLU as its case without a threshold.

The screen, the exact values and the blocks are those of ``sparse_activations.Encoder``; what lives here is which units
are active. The ``jump_threshold`` is the SAE's own, learned in training, and has nothing to do with the cut-offs of
``thresholds``.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.sparse_activations import Encoder


class JumpReluEncoder(Encoder):
    """``z·[z > θ]·[z > 0]`` of the pre-activation z, θ per unit (Rajamanoharan et al. 2024, arXiv:2407.14435).

    Both comparisons are strict and are made on the stored value: the float64 dot product rounded once to float32.

    Args:
        weight: float32 [d_model, n_units].
        jump_threshold: float32 [n_units]; zero or negative ones leave ReLU.

    Raises:
        ArtifactError: as :class:`Encoder`, or a threshold that is not finite or of another length.
    """

    @plain_arithmetic()
    def __init__(self, weight: Float[Tensor, "d units"], jump_threshold: Float[Tensor, " units"], **kwargs):
        n_units = weight.shape[1]
        if jump_threshold.shape != (n_units,):
            raise ArtifactError(
                f"The encoder's jump_threshold has shape {tuple(jump_threshold.shape)}, "
                f"expected ({n_units},), one per unit."
            )
        if not bool(torch.isfinite(jump_threshold).all()):
            raise ArtifactError("The encoder's jump_threshold holds values that are not finite.")
        self.jump_threshold = jump_threshold.float().to(kwargs.get("device", "cpu"))
        super().__init__(weight, **kwargs)

    def _level(self):
        # Screened values are held against 0: an active unit lies above its threshold and above 0.
        return self.bias - self._least().double()

    def _least(self):
        return self.jump_threshold.clamp(min=0)

    def floor(self, largest, stray, norm):
        return -self.bounds.error(stray, norm)


class ReluEncoder(JumpReluEncoder):
    """``max(z, 0)`` (Bricken et al. 2023, "Towards Monosemanticity"): JumpReLU with every threshold 0."""

    @plain_arithmetic()
    def __init__(self, weight: Float[Tensor, "d units"], **kwargs):
        super().__init__(weight, torch.zeros(weight.shape[1], dtype=torch.float32, device="cpu"), **kwargs)
