"""Design matrices of regressions, dense or sparse: the products that ``ops.logistic`` takes of them.

Weights are [n_problems, n_features + 1], the intercept's last; values of items are [n_problems, n_items].
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.ops.items import UnitScores, summed

MOST_DENSE = 2**23  # values of a dense matrix of scores
ITEMS_AT_ONCE = 256  # that are made dense, for products of items
NO_DEVIATION = 1e-12  # a feature with less does not vary
DENSE_SHARE = 1 / 16  # of values that are not 0, from which on dense products take less time than sparse ones


@runtime_checkable
class Design(Protocol):
    """Features of items and, as the last column, ones for the intercept."""

    @property
    def n_items(self) -> int: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_values(self) -> int:
        """Return how many values are held."""
        ...

    @property
    def rounded(self) -> "Design":
        """Return the same features in float32."""
        ...

    def of_items(self, chosen: Int[Tensor, " n"]) -> "Design":
        """Return the features of these items, in this order."""
        ...

    def laid(self, values: Float[Tensor, "problems n"]) -> Float[Tensor, "problems n"]:
        """Return the same values, in memory as they lie in what the products give."""
        ...

    def per_item(self, weights: Float[Tensor, "problems features_plus_1"]) -> Float[Tensor, "problems items"]:
        """``Σ_j x_ij w_j`` of each item."""
        ...

    def per_feature(self, values: Float[Tensor, "problems items"]) -> Float[Tensor, "problems features_plus_1"]:
        """``Σ_i x_ij v_i`` of each feature."""
        ...

    def squares(self, values: Float[Tensor, "problems items"]) -> Float[Tensor, "problems features_plus_1"]:
        """``Σ_i x_ij² v_i`` of each feature, where no v is below 0."""
        ...

    def kernel(self) -> Float[Tensor, "items items"]:
        """``Σ_j x_ij x_kj`` of each two items, over features alone."""
        ...


class DenseDesign:
    """A matrix [n_items, n_features].

    Problems lie in rows: products of few of them with all features take a fifth of the time of columns.
    """

    def __init__(self, x: Float[Tensor, "items features"]):
        self._padded = torch.nn.functional.pad(x, (0, 1), value=1.0)

    @property
    def x(self) -> Float[Tensor, "items features"]:
        return self._padded[:, :-1]

    @property
    def n_items(self) -> int:
        return self.x.shape[0]

    @property
    def n_features(self) -> int:
        return self.x.shape[1]

    @property
    def n_values(self) -> int:
        return self.x.numel()

    @cached_property
    def rounded(self) -> "DenseDesign":
        return DenseDesign(self.x.float())

    @cached_property
    def _squares(self) -> Tensor:
        return self._padded.square()

    def of_items(self, chosen: Int[Tensor, " n"]) -> "DenseDesign":
        return DenseDesign(self.x[chosen])

    def laid(self, values: Float[Tensor, "problems n"]) -> Float[Tensor, "problems n"]:
        return values.contiguous()

    def per_item(self, weights: Float[Tensor, "problems features_plus_1"]) -> Float[Tensor, "problems items"]:
        return weights @ self._padded.T

    def per_feature(self, values: Float[Tensor, "problems items"]) -> Float[Tensor, "problems features_plus_1"]:
        return values @ self._padded

    def squares(self, values: Float[Tensor, "problems items"]) -> Float[Tensor, "problems features_plus_1"]:
        return values @ self._squares

    def kernel(self) -> Float[Tensor, "items items"]:
        return self.x @ self.x.T


@dataclass(frozen=True)
class SparseDesign:
    """Scores of units, each minus a number of its unit, of which only the scores that are not 0 are held.

    Problems lie in columns, and each sum is added up by itself in one order: no problem depends on those beside it.

    Attributes:
        starts: int64 [n_features + 1], of each unit; items: int64 [n_scores]; values: [n_scores], in the dtype of
            products; mean: [n_features].
    """

    starts: Int[Tensor, " features_plus_1"]
    items: Int[Tensor, " scores"]
    values: Float[Tensor, " scores"]
    mean: Float[Tensor, " features"]
    n_items: int

    @property
    def n_features(self) -> int:
        return len(self.mean)

    @property
    def n_values(self) -> int:
        return len(self.items)

    @cached_property
    def rounded(self) -> "SparseDesign":
        return SparseDesign(self.starts, self.items, self.values.float(), self.mean.float(), self.n_items)

    @cached_property
    def _units(self) -> Int[Tensor, " scores"]:
        return torch.repeat_interleave(torch.arange(self.n_features, device=self.starts.device), self.starts.diff())

    @cached_property
    def _by_item(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit and value of each score, and the segment of each item."""
        order = self.items.sort(stable=True).indices
        starts = offsets_of(torch.bincount(self.items, minlength=self.n_items))
        return self._units[order], starts, self.values[order]

    @cached_property
    def _squares(self) -> Float[Tensor, " scores"]:
        return (self.values - self.mean[self._units]).square()

    def of_items(self, chosen: Int[Tensor, " n"]) -> "SparseDesign":
        position = torch.full((self.n_items,), -1, dtype=torch.int64, device=chosen.device)
        position[chosen] = torch.arange(len(chosen), device=chosen.device)
        items = position[self.items]
        some = items >= 0
        starts = offsets_of(torch.bincount(self._units[some], minlength=self.n_features))
        return SparseDesign(starts, items[some], self.values[some], self.mean, len(chosen))

    def laid(self, values: Float[Tensor, "problems n"]) -> Float[Tensor, "problems n"]:
        return values.T.contiguous().T

    def per_item(self, weights: Float[Tensor, "problems features_plus_1"]) -> Float[Tensor, "problems items"]:
        of_units, intercept = weights[:, :-1].T, weights[:, -1]
        return (summed(*self._by_item, of_units) + (intercept - (self.mean[:, None] * of_units).sum(0))).T

    def per_feature(self, values: Float[Tensor, "problems items"]) -> Float[Tensor, "problems features_plus_1"]:
        total = values.T.sum(0, keepdim=True)
        sums = summed(self.items, self.starts, self.values, values.T)
        return torch.cat([sums - self.mean[:, None] * total, total]).T

    def squares(self, values: Float[Tensor, "problems items"]) -> Float[Tensor, "problems features_plus_1"]:
        total = values.T.sum(0, keepdim=True)
        silent = total - summed(self.items, self.starts, torch.ones_like(self.values), values.T)
        sums = summed(self.items, self.starts, self._squares, values.T)
        return torch.cat([sums + self.mean.square()[:, None] * silent.clamp(min=0), total]).T

    def kernel(self) -> Float[Tensor, "items items"]:
        units, starts, values = self._by_item
        item = torch.repeat_interleave(torch.arange(self.n_items, device=starts.device), starts.diff())
        parts = []
        for first in range(0, self.n_items, ITEMS_AT_ONCE):
            segment = slice(int(starts[first]), int(starts[min(self.n_items, first + ITEMS_AT_ONCE)]))
            rows = -self.mean.repeat(min(ITEMS_AT_ONCE, self.n_items - first), 1)
            rows[item[segment] - first, units[segment]] += values[segment]
            parts.append(self.per_item(torch.nn.functional.pad(rows, (0, 1))))
        return torch.cat(parts)


def of_embeddings(x: Float[Tensor, "items d"]) -> tuple[DenseDesign, Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return embeddings, centred and divided by their deviations, where they vary; with means and what divided them.

    They are divided by one number more, so that their mean squared norm is 1: steps then end nearer to the answer.
    """
    x = x.double()
    mean = x.mean(0)
    x = x - mean
    deviation = x.square().mean(0).sqrt()
    scale = torch.where(deviation > NO_DEVIATION, deviation, 1.0)
    scale = scale * (x / scale).square().sum(1).mean().sqrt().clamp(min=1e-150)
    return DenseDesign(x / scale), mean, scale


def of_scores(
    scores: UnitScores, n_items: int, divided: bool
) -> tuple[Design, Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Return the scores of units, centred, and ``divided`` by their deviations or not; with means and what divided
    them.

    A unit that does not vary is not divided.
    """
    ones = torch.ones(n_items, 1, dtype=torch.float64, device=scores.items.device)
    mean, units = scores.per_unit(ones)[:, 0] / n_items, scores.units()
    scale = torch.ones_like(mean)
    if divided:
        squares = (scores.values.double() - mean[units]).square()
        silent = mean.square() * (n_items - scores.starts.diff())
        deviation = ((summed(scores.items, scores.starts, squares, ones)[:, 0] + silent) / n_items).sqrt()
        scale = torch.where(deviation > NO_DEVIATION, deviation, 1.0)
    n_values = n_items * scores.n_units
    if n_values <= MOST_DENSE and len(units) >= DENSE_SHARE * n_values:
        x = torch.zeros(n_items, scores.n_units, dtype=torch.float64, device=units.device)
        x[scores.items, units] = scores.values.double()
        return DenseDesign((x - mean) / scale), mean, scale
    values = scores.values.double() / scale[units]
    return SparseDesign(scores.starts, scores.items, values, mean / scale, n_items), mean, scale
