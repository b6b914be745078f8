"""Sums over rows by which one tells how well an SAE fits them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

NO_VARIANCE = 2.0**-48  # share of the sum of squares up to which a variance may be nothing but rounding


@dataclass(frozen=True)
class FitSums:
    """Sums over rows x and what the SAE makes of them, x̂; those of chunks are merged by ``ops.reconstruction``.

    What the codes say themselves (active units per row, units that never fire) is counted from them.

    Attributes:
        n_rows: rows x; row_sum: Σ x, one float64 per dimension.
        square_sum: Σ |x|²; residual_sum: Σ |x - x̂|².
    """

    n_rows: int
    row_sum: tuple[float, ...]
    square_sum: float
    residual_sum: float

    def problems(self) -> Iterator[str]:
        """Yield every broken invariant, one sentence each."""
        if self.n_rows < 0:
            yield f"the fit is of {self.n_rows} rows"
        if not all(map(math.isfinite, self.row_sum)):
            yield "row_sum of the fit holds values that are not finite"
        sums = (self.square_sum, self.residual_sum)
        if not all(math.isfinite(value) and value >= 0 for value in sums):
            yield f"sums of squares of the fit are {self.square_sum} and {self.residual_sum}, expected finite ones ≥ 0"

    @property
    def variance_sum(self) -> float | None:
        """Return ``Σ |x - mean|²`` over all rows; None where it is nothing but rounding."""
        if self.n_rows == 0:
            return None
        total = math.fsum([self.square_sum, *(-value * (value / self.n_rows) for value in self.row_sum)])
        return total if total > NO_VARIANCE * self.square_sum else None

    @property
    def fvu(self) -> float | None:
        """Return fraction of variance unexplained, ``Σ |x - x̂|² / Σ |x - mean|²``; None where rows do not vary.

        0 is a perfect reconstruction, 1 what the mean of the rows would reach; it may be larger. It is ``fvu`` of
        sparsify over all rows at once, and 1 minus ``explained_variance`` of SAELens.
        """
        total = self.variance_sum
        return None if total is None else self.residual_sum / total

    @property
    def norm(self) -> float | None:
        """Return root of the mean of |x|²; None without rows."""
        return math.sqrt(self.square_sum / self.n_rows) if self.n_rows else None
