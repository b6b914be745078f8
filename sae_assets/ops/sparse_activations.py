"""Encode: embeddings through an SAE's encoder to sparse activations, exactly and without a dense result.

A row's pre-activations are defined as float64 dot products, rounded once to float32. A float32 matrix product screens
them block by block; a certified error bound says which units can possibly be among the chosen, and only those are
computed again in float64 by a fixed binary tree of additions. So ids and values do not depend on the batch, on the
block of rows, on threads or on the device. Reading checkpoints lives in ``saes``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.segments import pack_descending

UNIT_ROUNDOFF = 2.0**-24  # of float32
FLOAT32_LIMIT = 2.0**127


def exact_float32_product(x: Float[Tensor, "rows d"], weight: Float[Tensor, "d units"]) -> Float[Tensor, "rows units"]:
    """``x @ weight`` in IEEE float32, also where the process allows tf32 or bf16: the error bound counts on it."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return x @ weight
    finally:
        torch.set_float32_matmul_precision(allowed)


@dataclass(frozen=True)
class SparseCode:
    """Encoded rows as compressed sparse rows on the CPU; fields as in ``SparseActivations``.

    Attributes:
        row_mass, row_dropped: float64 [n_rows], sum of a row's active values, and of those not stored.
    """

    row_offsets: Int[Tensor, " rows_plus_1"]
    unit_ids: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]
    l0: Int[Tensor, " rows"]
    row_mass: Float[Tensor, " rows"]
    row_dropped: Float[Tensor, " rows"]


class Encoder(ABC):
    """``x -> activation((x - shift) @ weight + bias)``, stored sparsely.

    Args:
        weight: float32 [d_model, n_units].
        shift: float32 [d_model], subtracted from the input; bias: float32 [n_units], added to the product.
        device: where the products run.
        memory_budget: bytes that the block of screened pre-activations may take.

    Raises:
        ArtifactError: weights that are not finite, or shapes that do not fit each other.
    """

    def __init__(
        self,
        weight: Float[Tensor, "d units"],
        *,
        shift: Float[Tensor, " d"] | None = None,
        bias: Float[Tensor, " units"] | None = None,
        device: torch.device | str = "cpu",
        memory_budget: int = 256 * 2**20,
    ):
        self.d_model, self.n_units = weight.shape
        shift = torch.zeros(self.d_model) if shift is None else shift
        bias = torch.zeros(self.n_units) if bias is None else bias
        for name, tensor, width in (("shift", shift, self.d_model), ("bias", bias, self.n_units)):
            if tensor.shape != (width,):
                raise ArtifactError(
                    f"The encoder's {name} has shape {tuple(tensor.shape)}, but its weight {tuple(weight.shape)} "
                    f"asks for ({width},)."
                )
        for name, tensor in (("weight", weight), ("shift", shift), ("bias", bias)):
            if not bool(torch.isfinite(tensor).all()):
                raise ArtifactError(f"The encoder's {name} holds values that are not finite.")
        self.weight = weight.float().to(device).contiguous()
        self.columns = self.weight.T.contiguous()  # [n_units, d_model]: a unit's weights lie together
        self.shift = shift.double().to(device)
        self.bias = bias.double().to(device)
        self.memory_budget = memory_budget
        self.largest_norm = float(self.columns.double().norm(dim=1).max())
        self.largest_bias = float(self.bias.abs().max())

    @abstractmethod
    def floor(self, screened: Float[Tensor, "rows units"], error: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows _"]:
        """Screened values below this cannot be stored, whatever the rounding error (at most ``error``) was."""

    @abstractmethod
    def active(
        self, rows: Int[Tensor, " n"], rank: Int[Tensor, " n"], units: Int[Tensor, " n"], values: Float[Tensor, " n"]
    ) -> Bool[Tensor, " n"]:
        """Which exact candidates are active; ``rank`` is the place of each within its row, by value."""

    @torch.inference_mode()
    def encode(self, x: Float[Tensor, "rows d"], k_stored: int | None = None) -> SparseCode:
        """Encode rows.

        Args:
            x: float [n_rows, d_model], on any device.
            k_stored: keep at most this many entries per row, the largest; None keeps all.

        Raises:
            ArtifactError: another width than the encoder's, or a row that is not finite (its number is named).
        """
        if x.ndim != 2 or x.shape[1] != self.d_model:
            raise ArtifactError(
                f"Embeddings have shape {tuple(x.shape)}, but the SAE's encoder takes rows of width {self.d_model}."
            )
        rows_at_once = max(1, self.memory_budget // (8 * self.n_units))
        parts = [self._encode_block(block, number * rows_at_once, k_stored) for number, block in
                 enumerate(x.split(rows_at_once))]  # fmt: skip
        if not parts:
            empty = torch.zeros(0, dtype=torch.int32)
            nothing = torch.zeros(0, dtype=torch.float64)
            return SparseCode(torch.zeros(1, dtype=torch.int64), empty, torch.zeros(0), empty, nothing, nothing)
        stored, units, values, l0, total, dropped = zip(*parts, strict=True)
        return SparseCode(
            row_offsets=offsets_of(torch.cat(stored)),
            unit_ids=torch.cat(units),
            values=torch.cat(values),
            l0=torch.cat(l0),
            row_mass=torch.cat(total),
            row_dropped=torch.cat(dropped),
        )

    def _encode_block(self, block: Tensor, first_row: int, k_stored: int | None) -> tuple[Tensor, ...]:
        x = block.to(self.shift.device).double()
        finite = torch.isfinite(x).all(1)
        if not bool(finite.all()):
            raise ArtifactError(f"Embedding row {first_row + int((~finite).nonzero()[0])} is not finite.")
        centred = x - self.shift
        norm = centred.norm(dim=1, keepdim=True)
        # Partial sums are at most |x| |w| + |bias|: beyond float32 the screen could overflow and miss units.
        largest = norm * max(self.largest_norm, 1.0) + self.largest_bias
        if not bool((largest < FLOAT32_LIMIT).all()):
            row = first_row + int((largest >= FLOAT32_LIMIT).nonzero()[0, 0])
            raise ArtifactError(f"Embedding row {row} is too large: its products with the encoder leave float32.")
        screened = exact_float32_product(centred.float(), self.weight)
        screened += self.bias.float()
        # |screened - exact| <= gamma_d |x| |w| for any order of summation (Higham 2002, eq. 3.5), and a few roundings:
        # the input, the bias and its sum, the stored float32.
        gamma = self.d_model * UNIT_ROUNDOFF / (1 - self.d_model * UNIT_ROUNDOFF) + 4 * UNIT_ROUNDOFF
        reach = norm * self.largest_norm
        error = (1.001 * gamma * reach + 4 * UNIT_ROUNDOFF * self.largest_bias).float() * (1 + 2**-20) + 1e-37
        rows, units = (screened >= self.floor(screened, error)).nonzero(as_tuple=True)
        del screened
        values = self._exact(centred, rows, units)
        # Candidates come by row, then unit: a stable sort by value leaves ties in the order of their units.
        positive = values > 0
        rows, units, values = rows[positive], units[positive], values[positive]
        order = pack_descending(rows, values).sort(stable=True).indices
        rows, units, values = rows[order], units[order], values[order]
        active = self.active(rows, self._rank(rows, len(x)), units, values)
        rows, units, values = rows[active], units[active], values[active]
        rank = self._rank(rows, len(x))
        kept = rank < (self.n_units if k_stored is None else k_stored)
        mass = values.double()
        row_mass = torch.zeros(len(x), dtype=torch.float64)
        return (
            torch.bincount(rows[kept], minlength=len(x)).cpu(),
            units[kept].int().cpu(),
            values[kept].cpu(),
            torch.bincount(rows, minlength=len(x)).int().cpu(),
            row_mass.index_add(0, rows.cpu(), mass.cpu()),
            row_mass.index_add(0, rows[~kept].cpu(), mass[~kept].cpu()),
        )

    @staticmethod
    def _rank(rows: Tensor, n_rows: int) -> Tensor:
        starts = offsets_of(torch.bincount(rows, minlength=n_rows))
        return torch.arange(len(rows), device=rows.device) - starts[rows]

    def _exact(self, centred: Tensor, rows: Tensor, units: Tensor) -> Tensor:
        """float32 of the float64 dot products of the named pairs: products, then halves added until one is left."""
        pairs_at_once = max(1, self.memory_budget // (32 * self.d_model))
        parts = [torch.zeros(0, device=centred.device)]
        for r, u in zip(rows.split(pairs_at_once), units.split(pairs_at_once), strict=True):
            products = self.columns[u].double()
            products *= centred[r]
            width = self.d_model
            while width > 1:
                half = (width + 1) // 2
                products[:, : width - half] += products[:, half:width]
                width = half
            parts.append((products[:, 0] + self.bias[u]).float())
        return torch.cat(parts)


class TopKEncoder(Encoder):
    """The k largest pre-activations, then ReLU (Gao et al. 2024, arXiv:2406.04093)."""

    def __init__(self, weight: Float[Tensor, "d units"], k: int, **kwargs):
        super().__init__(weight, **kwargs)
        if not 1 <= k <= self.n_units:
            raise ArtifactError(f"k is {k}, expected 1..{self.n_units} (the SAE's number of units).")
        self.k = k

    def floor(self, screened, error):
        # The k-th exact value is at least the k-th screened one minus the error; negatives are never stored.
        kth = screened.topk(self.k, dim=1).values[:, -1:]
        return torch.maximum(kth - 2 * error, -error)

    def active(self, rows, rank, units, values):
        return rank < self.k
