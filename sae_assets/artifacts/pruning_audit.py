"""The audit says what pruning costs each concept: the best unit of all that fire, beside the best that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, expect_tensor
from sae_assets.artifacts.counts import f1_of
from sae_assets.artifacts.units import REASONS

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class PruningAudit(Artifact):
    """Per concept two exact searches on cal: over all units that ever fire, and over those that the mapping keeps.

    Axis 0 of two is all units, kept units; the next one of two, where there is one, is cal, test.

    Attributes:
        concepts: names, in catalog order.
        min_support: cal positives that a threshold had to find.
        units_by_reason: int64 [len(REASONS)], units of the SAE.
        unit_ids: int64 [2, n_concepts], original ids; -1 where no unit has a threshold, and of a concept of which cal
            lacks a class.
        thresholds: float64 [2, n_concepts], of the example score; NaN there.
        counts: int64 [2, 2, n_concepts, 4], TP FP FN TN; nothing is detected there.
        reasons: int64 [n_concepts], position in ``REASONS`` of the best unit of all, 0 if it is kept; -1 there.
    """

    kind: ClassVar[str] = "pruning_audit"
    concepts: tuple[str, ...]
    min_support: int
    units_by_reason: Int[Tensor, " rules"]
    unit_ids: Int[Tensor, "2 concepts"]
    thresholds: Float[Tensor, "2 concepts"]
    counts: Int[Tensor, "2 2 concepts 4"]
    reasons: Int[Tensor, " concepts"]

    @property
    def f1(self) -> Float[Tensor, "2 2 concepts"]:
        """Return float64; NaN where no unit was chosen, and of a concept of which the split lacks a class."""
        import torch

        return torch.where((self.unit_ids >= 0)[:, None], f1_of(self.counts), torch.nan)

    @property
    def loss(self) -> Float[Tensor, " concepts"]:
        """Return cal F1 that pruning costs; NaN without a best unit, and all of its F1 where no kept unit has a
        threshold."""
        import torch

        best, kept_f1 = self.f1[:, 0]
        return best - torch.where(self.unit_ids[0] >= 0, kept_f1.nan_to_num(0), torch.nan)

    @property
    def concepts_by_reason(self) -> Int[Tensor, " rules"]:
        """Return int64 [len(REASONS)], concepts whose best unit has this reason."""
        import torch

        return torch.bincount(self.reasons[self.reasons >= 0], minlength=len(REASONS))

    def removed_by(self, concept: int) -> str | None:
        """Name of the rule that removed the best unit of a concept; None if it is kept, or if there is none."""
        reason = int(self.reasons[concept])
        return REASONS[reason] if reason > 0 else None

    def problems(self) -> Iterator[str]:
        n = len(self.concepts)
        structure = [
            *expect_tensor(self.units_by_reason, "units_by_reason", "int64", (len(REASONS),)),
            *expect_tensor(self.unit_ids, "unit_ids", "int64", (2, n)),
            *expect_tensor(self.thresholds, "thresholds", "float64", (2, n)),
            *expect_tensor(self.counts, "counts", "int64", (2, 2, n, 4)),
            *expect_tensor(self.reasons, "reasons", "int64", (n,)),
        ]
        yield from structure
        if structure:
            return
        if self.min_support < 1:
            yield f"min_support is {self.min_support}, expected at least 1"
        if bool((self.units_by_reason < 0).any()) or bool((self.counts < 0).any()):
            yield "counts must not be negative"
        if bool(((self.unit_ids < 0) != self.thresholds.isnan()).any()):
            yield "a threshold must be null exactly where no unit was chosen"
        if bool((self.thresholds <= 0).any()):
            yield "thresholds must be > 0"
        if bool((self.reasons >= len(REASONS)).any()) or bool(((self.reasons < 0) != (self.unit_ids[0] < 0)).any()):
            yield "a reason must be known of every best unit, and of no other"
        elif bool(((self.reasons == 0) & (self.unit_ids[0] != self.unit_ids[1])).any()):
            yield "a best unit that is kept is the best kept one"
        if bool((self.counts[..., :2].sum(-1)[(self.unit_ids < 0)[:, None].expand(-1, 2, -1)] > 0).any()):
            yield "nothing is detected where no unit was chosen"
        if bool((self.f1[1, 0] > self.f1[0, 0]).any()):
            yield "no kept unit has a higher cal F1 than the best of all"
