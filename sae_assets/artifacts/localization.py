"""Localization says which rows of an example a unit marks, by its own values or by what these have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, bad_offsets, expect_tensor
from sae_assets.artifacts.row_alignment import row_rate

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

METHODS = ("superactivators", "regular", "two_stage")


@dataclass(frozen=True, eq=False)
class Localization(Artifact):
    """Rows that the unit of each concept marks, by three methods, and how these fall on the concept's rows.

    ``superactivators`` are the rows at or above the threshold by which the unit detects examples. ``regular`` are the
    rows of detected examples at or above a lower one. ``two_stage`` are the rows of detected examples that are similar
    to the superactivators of train and cal. Cut-offs are chosen on cal.

    Attributes:
        concepts: names, in catalog order; n_units: of the SAE.
        located: bool [n_concepts], the truth of rows is their own; others are marked and not judged.
        unit_ids: int64 [n_concepts], original ids; -1 where no unit stands for the concept.
        cutoffs: float64 [3, n_concepts], values of the unit, and of ``two_stage`` cosine similarities; NaN where none
            could be chosen, and then no row is marked.
        tail_fractions: float64 [3, n_concepts], the share that each keeps: of the unit's values on cal rows of the
            concept, and of the rows of detected cal examples; NaN where there is nothing to keep.
        counts: int64 [3, 2, n_concepts, 4], rows of cal and of test: TP FP FN TN; 0 where there is no cut-off.
        whole: int64 [2, n_concepts, 4], the same of all rows of the detected examples: nothing is localised.
        intervals: float64 [3, n_concepts, 2], 95 % interval of the test F1; NaN where that is.
        n_superactivators: int64 [n_concepts], of train and cal: what the direction is made of.
        direction_offsets: int64 [n_concepts + 1], direction_units: int32 and direction_weights: float64, each
            concept's direction of unit length, units ascending.
    """

    kind: ClassVar[str] = "localization"
    concepts: tuple[str, ...]
    n_units: int
    located: Bool[Tensor, " concepts"]
    unit_ids: Int[Tensor, " concepts"]
    cutoffs: Float[Tensor, "3 concepts"]
    tail_fractions: Float[Tensor, "3 concepts"]
    counts: Int[Tensor, "3 2 concepts 4"]
    whole: Int[Tensor, "2 concepts 4"]
    intervals: Float[Tensor, "3 concepts 2"]
    n_superactivators: Int[Tensor, " concepts"]
    direction_offsets: Int[Tensor, " concepts_plus_1"]
    direction_units: Int[Tensor, " members"]
    direction_weights: Float[Tensor, " members"]

    def rate(self, name: str) -> Float[Tensor, "3 2 concepts"]:
        """``precision``, ``recall``, ``f1`` or ``iou`` of rows, float64; 0/0 is 0.

        NaN without a cut-off, without positive rows, and of a concept that is not located.
        """
        import torch

        exists = ~self.cutoffs.isnan()[:, None] & self.located
        return torch.where(exists, _rate(name, self.counts), torch.nan)

    def whole_rate(self, name: str) -> Float[Tensor, "2 concepts"]:
        """Return the same of all rows of the detected examples."""
        import torch

        return torch.where((self.unit_ids >= 0) & self.located, _rate(name, self.whole), torch.nan)

    def direction(self, concept: int) -> Float[Tensor, " units"]:
        """Return the direction of a concept, dense; all 0 where it has none."""
        import torch

        direction = torch.zeros(self.n_units, dtype=torch.float64, device="cpu")
        low, high = self.direction_offsets[concept : concept + 2].tolist()
        direction[self.direction_units[low:high].long()] = self.direction_weights[low:high]
        return direction

    def problems(self) -> Iterator[str]:
        n, methods = len(self.concepts), len(METHODS)
        structure = [
            *expect_tensor(self.located, "located", "bool", (n,)),
            *expect_tensor(self.unit_ids, "unit_ids", "int64", (n,)),
            *expect_tensor(self.cutoffs, "cutoffs", "float64", (methods, n)),
            *expect_tensor(self.tail_fractions, "tail_fractions", "float64", (methods, n)),
            *expect_tensor(self.counts, "counts", "int64", (methods, 2, n, 4)),
            *expect_tensor(self.whole, "whole", "int64", (2, n, 4)),
            *expect_tensor(self.intervals, "intervals", "float64", (methods, n, 2)),
            *expect_tensor(self.n_superactivators, "n_superactivators", "int64", (n,)),
            *expect_tensor(self.direction_offsets, "direction_offsets", "int64", (n + 1,)),
            *expect_tensor(self.direction_units, "direction_units", "int32", (None,)),
            *expect_tensor(self.direction_weights, "direction_weights", "float64", (len(self.direction_units),)),
        ]
        if not structure:
            structure += bad_offsets(self.direction_offsets, "direction_offsets", len(self.direction_units))
        yield from structure
        if structure:
            return
        yield from self._bad_choices()
        yield from self._bad_counts()
        yield from self._bad_directions()

    def _bad_choices(self) -> Iterator[str]:
        if bool(((self.unit_ids < 0) != self.cutoffs[0].isnan()).any()):
            yield "a detection threshold must be null exactly where no unit was chosen"
        if bool(((self.unit_ids < -1) | (self.unit_ids >= self.n_units)).any()):
            yield f"unit ids must lie in 0..{self.n_units - 1}, or be -1"
        if bool((~self.cutoffs[1:].isnan() & ((self.unit_ids < 0) | ~self.located)).any()):
            yield "a cut-off is chosen of units of located concepts alone"
        if bool((self.cutoffs[:2] <= 0).any()) or bool((self.cutoffs[2] < 0).any()):
            yield "values at cut-offs must be > 0, similarities not negative"
        if bool((self.cutoffs[1] > self.cutoffs[0]).any()):
            yield "the regular cut-off must not be above the threshold of detection"
        for name in ("tail_fractions", "intervals"):
            values = getattr(self, name)
            if bool((values < 0).any()) or bool((values > 1).any()):
                yield f"{name} must lie between 0 and 1"

    def _bad_counts(self) -> Iterator[str]:
        if bool((self.counts < 0).any()) or bool((self.whole < 0).any()):
            yield "counts must not be negative"
        judged = ~self.cutoffs.isnan() & self.located
        if bool((self.counts.sum((1, 3))[~judged] > 0).any()):
            yield "nothing is counted where no cut-off was chosen, or the concept is not located"
        total = self.whole[..., [0, 2]].sum(-1), self.whole.sum(-1)
        for method in range(len(METHODS)):
            of_method = self.counts[method][:, judged[method]]
            sums = of_method[..., [0, 2]].sum(-1), of_method.sum(-1)
            if any(bool((one != two[:, judged[method]]).any()) for one, two in zip(sums, total, strict=True)):
                yield f"{METHODS[method]} must count the rows that the whole examples have"
        marked = self.counts[..., :2].sum(-1)
        if bool((marked > self.whole[..., :2].sum(-1)).any()):
            yield "only rows of detected examples are marked"

    def _bad_directions(self) -> Iterator[str]:
        import torch

        lengths = self.direction_offsets.diff()
        if bool((self.n_superactivators < 0).any()) or bool(((lengths > 0) != (self.n_superactivators > 0)).any()):
            yield "a direction must be there exactly where superactivators of train or cal are"
        if len(self.direction_units) == 0:
            return
        if int(self.direction_units.min()) < 0 or int(self.direction_units.max()) >= self.n_units:
            yield f"direction units must lie in 0..{self.n_units - 1}"
        if not bool((self.direction_weights > 0).all()):
            yield "the weights of a direction must be > 0"
        owner = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
        if bool(((owner * self.n_units + self.direction_units).diff() <= 0).any()):
            yield "the units of a direction must ascend without repeats"


def _rate(name: str, counts: Tensor) -> Tensor:
    true, false, missed, _ = counts.unbind(-1)
    return row_rate(name, true, true + false, true + missed)
