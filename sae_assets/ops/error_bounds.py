"""Bounds say how far a screen's values of a tile's units can lie beside the exact ones."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sae_assets.ops.screens import SMALLEST_NORMAL, UNIT_ROUNDOFF, Screen, upper_float32
from sae_assets.ops.tiles import Tiles

FEW = 8  # roundings in float32: of the level, the sum, the stored value and the limit


@dataclass(frozen=True)
class ErrorBounds:
    """``|screened + level - exact| <= stray * width + norm * slope + offset + share * |screened + level|``.

    For each unit it is the largest of its tile: the product's error (``Screen``); a few roundings, of the level, the
    sum, the stored float32 and the limit; the underflow of any of them. All are a little larger, since what lies below
    a limit by an error is screened below it by (1 + share) / (1 - share) of that.

    Args:
        width, slope, offset: float32 [tiles], or the largest of all.
    """

    width: Float[Tensor, "*tiles"]
    slope: Float[Tensor, "*tiles"]
    offset: Float[Tensor, "*tiles"]

    @classmethod
    def of_tiles(
        cls,
        screen: Screen,
        norms: Float[Tensor, " units"],
        bias: Float[Tensor, " units"],
        level: Float[Tensor, " units"],
        tiles: Tiles,
    ) -> "ErrorBounds":
        """Return those of a screen, for what is added to its products.

        Args:
            norms: of the units' directions, float64; bias, level: float64, what is added to each product, and that
                before it is held against a limit.
        """
        underflow = screen.operand.shape[0] * SMALLEST_NORMAL
        slope = screen.slope + FEW * UNIT_ROUNDOFF * norms + underflow
        offset = (FEW * UNIT_ROUNDOFF + screen.share) * (bias.abs() + level.abs()) + underflow * (1 + norms)
        return cls(*(upper_float32(tiles.largest(each * (1 + 2 * screen.share))) for each in (norms, slope, offset)))

    def largest(self) -> "ErrorBounds":
        """Return what holds of the units of all tiles."""
        return ErrorBounds(self.width.max(), self.slope.max(), self.offset.max())

    def error(self, stray: Float[Tensor, "rows 1"], norm: Float[Tensor, "rows 1"]) -> Float[Tensor, "rows _"]:
        """Return the error without the share, of rows that rounding moved by ``stray`` and that are ``norm`` long,
        before and after."""
        return stray * self.width + norm * self.slope + self.offset
