"""Units in tiles, of which the largest screened value is looked at first."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Tiles:
    """Unit ``t * steps[0] + i * steps[1]`` is the i-th of tile t; places that no unit stands in fill up the last ones.

    Args:
        n_units: of all tiles; size: of each tile.
        together: whether units of a tile lie together, or tiles beside each other.
    """

    n_units: int
    size: int
    together: bool

    @property
    def number(self) -> int:
        return -(-self.n_units // self.size)

    @property
    def n_places(self) -> int:
        return self.number * self.size

    @property
    def steps(self) -> tuple[int, int]:
        """From one tile to the next, and from one unit of a tile to the next."""
        return (self.size, 1) if self.together else (1, self.number)

    def padded(self, values: Float[Tensor, " units"], filling: float) -> Float[Tensor, " places"]:
        """Return values of units, and as many more as fill up the tiles."""
        return torch.nn.functional.pad(values, (0, self.n_places - self.n_units), value=filling)

    def in_columns(self, values: Float[Tensor, "*rows places"]) -> Float[Tensor, "*rows tile tiles"]:
        """Return values of places as tiles."""
        if self.together:
            return values.unflatten(-1, (self.number, self.size)).transpose(-1, -2)
        return values.unflatten(-1, (self.size, self.number))

    def largest(self, bounds: Float[Tensor, " units"]) -> Float[Tensor, " tiles"]:
        """Return the largest of each tile, of values that are 0 at least."""
        return self.in_columns(self.padded(bounds, 0.0)).amax(0)
