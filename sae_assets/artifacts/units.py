"""Model-level artifacts about units: statistics and the mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


REASONS = ("kept", "dead", "rare", "dense", "weak", "over_target")


@dataclass(frozen=True, eq=False)
class UnitStats(Artifact):
    """Statistics of every unit over the calibration rows. Null (never 0) is NaN where a unit never fires.

    Attributes:
        n_rows: calibration rows; n_active: int64, rows on which the unit is > 0.
        total, total_sq: float64, sum of A and of A² (``sum`` and ``sum_sq`` on disk).
        max, p95, p99: float64, over the positive values; quantiles by linear interpolation, exact.
    """

    kind: ClassVar[str] = "unit_stats"
    n_rows: int
    n_active: Int[Tensor, " units"]
    total: Float[Tensor, " units"]
    total_sq: Float[Tensor, " units"]
    max: Float[Tensor, " units"]
    p95: Float[Tensor, " units"]
    p99: Float[Tensor, " units"]

    @property
    def n_units(self) -> int:
        return len(self.n_active)

    @property
    def mean(self) -> Float[Tensor, " units"]:
        """Return mean of the positive values; NaN for a silent unit."""
        import torch

        return torch.where(self.n_active > 0, self.total / self.n_active, torch.nan)

    @property
    def density(self) -> Float[Tensor, " units"]:
        return self.n_active.double() / max(self.n_rows, 1)

    @property
    def selectivity(self) -> Float[Tensor, " units"]:
        """Return lifetime sparseness over all n rows, zeros included: ``(1 - a) / (1 - 1/n)``, ``a = (ΣA/n)² /
        (ΣA²/n)``.

        Treves & Rolls 1991; Vinje & Gallant 2000. 1 fires on one row only, 0 is the same everywhere; NaN if silent
        or if there is a single row.
        """
        import torch

        n = max(self.n_rows, 1)
        a = (self.total / n).square() / (self.total_sq / n)
        flat = 1 - 1 / n
        return torch.where((self.n_active > 0) & (flat > 0), (1 - a) / (flat or 1.0), torch.nan)

    def problems(self) -> Iterator[str]:
        n = self.n_units
        structure = list(expect_tensor(self.n_active, "n_active", "int64", (n,)))
        for name in ("total", "total_sq", "max", "p95", "p99"):
            structure += expect_tensor(getattr(self, name), name, "float64", (n,))
        yield from structure
        if structure:
            return
        if n and (int(self.n_active.min()) < 0 or int(self.n_active.max()) > self.n_rows):
            yield f"n_active must lie in 0..{self.n_rows}"
        silent = self.n_active == 0
        for name in ("max", "p95", "p99"):
            if bool((getattr(self, name).isnan() != silent).any()):
                yield f"{name} must be null exactly where n_active is 0"
        if bool(((self.p95 > self.p99) | (self.p99 > self.max)).any()):
            yield "p95 ≤ p99 ≤ max must hold"


@dataclass(frozen=True, eq=False)
class UnitMapping(Artifact):
    """A unit mapping says which units are kept, and why the others are not. Both directions derive from ``reasons``.

    Attributes:
        reasons: uint8 [n_original], position in ``REASONS``; 0 is kept.
        mode: ``fixed``, ``adaptive`` or ``active`` (cls rows: every unit that fires).
        min_active, max_active: bounds on n_active that were applied (max may be infinite).
        strength_percentile, strength_cutoff: the percentile and the p99 it came to (NaN if not applied).
        target_units: how many may be kept at most (None: no limit).
    """

    kind: ClassVar[str] = "unit_mapping"
    reasons: Int[Tensor, " units"]
    mode: str
    min_active: int
    max_active: float
    strength_percentile: float
    strength_cutoff: float
    target_units: int | None

    @property
    def n_original(self) -> int:
        return len(self.reasons)

    @property
    def n_filtered(self) -> int:
        return len(self.kept_units)

    @property
    def kept_units(self) -> Int[Tensor, " kept"]:
        """Return int64, original unit ids, ascending; its position is the kept index."""
        return (self.reasons == 0).nonzero().flatten()

    @property
    def kept_index(self) -> Int[Tensor, " units"]:
        """Return int64 [n_original], the kept index of each unit, -1 where it is not kept."""
        import torch

        index = torch.full((self.n_original,), -1, dtype=torch.int64, device="cpu")
        index[self.kept_units] = torch.arange(self.n_filtered, device="cpu")
        return index

    def counts(self) -> dict[str, int]:
        """Return how many units have each reason."""
        import torch

        return dict(zip(REASONS, torch.bincount(self.reasons.long(), minlength=len(REASONS)).tolist(), strict=True))

    def problems(self) -> Iterator[str]:
        yield from expect_tensor(self.reasons, "reasons", "uint8", (None,))
        if len(self.reasons) and int(self.reasons.max()) >= len(REASONS):
            yield f"reasons must lie in 0..{len(REASONS) - 1}"
        if not bool((self.reasons == 0).any()):
            yield "a mapping must keep at least one unit"
        if self.target_units is not None and self.n_filtered > self.target_units:
            yield f"{self.n_filtered} units are kept, more than the target of {self.target_units}"
