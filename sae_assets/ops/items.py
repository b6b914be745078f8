"""Detectors classify items, examples or rows with labels, splits, embeddings and scores of units."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of


@dataclass(frozen=True)
class UnitScores:
    """Scores of units, sparse: one (unit, item, value) wherever a unit has one.

    Attributes:
        starts: int64 [n_units + 1], segment of each unit; items: int64 [n_scores]; values: float32 [n_scores], > 0.
    """

    starts: Int[Tensor, " units_plus_1"]
    items: Int[Tensor, " scores"]
    values: Float[Tensor, " scores"]

    @classmethod
    def of(cls, units: Tensor, items: Tensor, values: Tensor, n_units: int) -> "UnitScores":
        """From (unit, item, value) in any order, each (unit, item) once."""
        order = (units * (int(items.max()) + 1 if len(items) else 1) + items).sort().indices
        return cls(offsets_of(torch.bincount(units, minlength=n_units)), items[order], values[order])

    @property
    def n_units(self) -> int:
        return len(self.starts) - 1

    @property
    def n_bytes(self) -> int:
        return 8 * len(self.items) + 4 * len(self.values) + 8 * len(self.starts)

    def units(self) -> Int[Tensor, " scores"]:
        return torch.repeat_interleave(torch.arange(self.n_units, device=self.starts.device), self.starts.diff())

    def dense(self, units: Int[Tensor, " k"], n_items: int) -> Float[Tensor, "k items"]:
        """Return float32, 0 where a unit is silent; NaN for unit −1."""
        result = torch.zeros(len(units), n_items, dtype=torch.float32, device=self.starts.device)
        for row, unit in enumerate(units.tolist()):
            if unit < 0:
                result[row] = torch.nan
            else:
                segment = slice(int(self.starts[unit]), int(self.starts[unit + 1]))
                result[row, self.items[segment]] = self.values[segment]
        return result

    def of_units(self, chosen: Int[Tensor, " k"]) -> "UnitScores":
        """Return the scores of these units, which are renumbered in this order."""
        lengths = self.starts.diff()[chosen]
        starts = offsets_of(lengths)
        index = torch.arange(int(starts[-1]), device=chosen.device)
        index += torch.repeat_interleave(self.starts[chosen] - starts[:-1], lengths)
        return UnitScores(starts, self.items[index], self.values[index])

    def of_items(self, chosen: Int[Tensor, " n"], n_items: int) -> "UnitScores":
        """Return the scores of these items, ascending, which are renumbered from 0."""
        index = torch.full((n_items,), -1, dtype=torch.int64, device=chosen.device)
        index[chosen] = torch.arange(len(chosen), device=chosen.device)
        item = index[self.items]
        some = item >= 0
        return UnitScores.of(self.units()[some], item[some], self.values[some], self.n_units)

    def per_unit(self, weights: Float[Tensor, "items k"], power: int = 1) -> Float[Tensor, "units k"]:
        """``Σ_i score(i, u)^power · weights(i)``, float64."""
        return summed(self.items, self.starts, self.values.double() ** power, weights)

    def per_item(self, weights: Float[Tensor, "units k"], n_items: int) -> Float[Tensor, "items k"]:
        """``Σ_u score(i, u) · weights(u)``, float64."""
        order = self.items.sort(stable=True).indices
        starts = offsets_of(torch.bincount(self.items, minlength=n_items))
        return summed(self.units()[order], starts, self.values[order].double(), weights)


def summed(index: Tensor, starts: Tensor, factors: Tensor, weights: Tensor) -> Float[Tensor, "segments k"]:
    """``Σ factor · weights[index]`` of each segment, one after the other, in the dtype of factors and weights."""
    if not len(index):
        return torch.zeros(len(starts) - 1, weights.shape[1], dtype=weights.dtype, device=weights.device)
    return torch.nn.functional.embedding_bag(
        index, weights.contiguous(), starts, mode="sum", per_sample_weights=factors, include_last_offset=True
    )


@dataclass(frozen=True)
class Items:
    """Items are examples, or rows of them, that are classified.

    Attributes:
        labels: bool [n_items, n_concepts].
        split: int64 [n_items], 0 of train, 1 of cal, 2 of test.
        order: int64 [n_items], place of each in an order drawn without a look at it; where not all can be used, the
            first are.
        coin: bool [n_items], drawn by example.
        folds: int64 [n_items], for cross-validation, of which each holds whole examples; None where items are examples.
        embeddings: float32 [n_items, d_model]; units: scores of the SAE's units.
    """

    labels: Bool[Tensor, "items concepts"]
    split: Int[Tensor, " items"]
    order: Int[Tensor, " items"]
    coin: Bool[Tensor, " items"]
    embeddings: Float[Tensor, "items d"]
    units: UnitScores
    folds: Int[Tensor, " items"] | None = None

    @property
    def fitted_on_cal(self) -> bool:
        """Return whether no item is of train, so that detectors are fitted on half of cal and chosen on the other
        half."""
        return not bool((self.split == 0).any())

    @property
    def fits(self) -> Bool[Tensor, " items"]:
        """Return what detectors are fitted on."""
        return (self.split == 1) & self.coin if self.fitted_on_cal else self.split == 0

    @property
    def chooses(self) -> Bool[Tensor, " items"]:
        """Return what thresholds of fitted detectors are chosen on."""
        return (self.split == 1) & ~self.coin if self.fitted_on_cal else self.split == 1

    @property
    def tests(self) -> Bool[Tensor, " items"]:
        return self.split == 2

    def first_fitted(self, most: int) -> Int[Tensor, " n"]:
        """Return numbers of what detectors are fitted on; of more than ``most`` the first in ``order``."""
        fits = self.fits.nonzero().flatten()
        return fits[self.order[fits].argsort()[:most]].sort().values


@dataclass(frozen=True)
class LargestScores:
    """The largest score over the rows of each example in the direction of each concept, and bytes of these rows.

    ``scores`` are float64 [n_examples, n_concepts]: of what thresholds are chosen on and of what is tested, else NaN.
    """

    scores: Float[Tensor, "examples concepts"]
    n_bytes: int


@dataclass(frozen=True)
class DetectorScores:
    """A detector gives each concept these scores and decisions on test.

    Attributes:
        scores: float32 [n_concepts, n_test], NaN where the concept has no detector; detected: bool, of the same shape.
        choices: int64 [n_concepts], what was chosen beside the threshold (a unit, a dimension, a k, a penalty's
            number); −1 where the concept has no detector.
        n_bytes: of what it reads.
    """

    scores: Float[Tensor, "concepts items"]
    detected: Bool[Tensor, "concepts items"]
    choices: Int[Tensor, " concepts"]
    n_bytes: int

    @classmethod
    def nothing(cls, items: Items, n_bytes: int = 0) -> "DetectorScores":
        """No detector for any concept."""
        n, device = (items.labels.shape[1], int(items.tests.sum())), items.labels.device
        scores = torch.full(n, torch.nan, dtype=torch.float32, device=device)
        return cls(scores, scores > 0, torch.full(n[:1], -1, dtype=torch.int64, device=device), n_bytes)
