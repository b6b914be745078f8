"""Several units that stand for one concept together, and what they find that its single unit does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, bad_offsets, expect_tensor
from sae_assets.artifacts.counts import f1_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

RULES = ("or", "and")


@dataclass(frozen=True, eq=False)
class CoalitionChoice(Artifact):
    """Per concept the coalition that was grown on one part of the examples and chosen on another.

    Parts are train and cal; where no example is of train, two halves of cal. The last part is always test.

    Attributes:
        concepts: names, in catalog order; n_units: of the SAE.
        halved: whether the first two parts are halves of cal.
        anded: bool [n_concepts], all members must detect; otherwise any.
        member_offsets: int64 [n_concepts + 1]; unit_ids: int64, original ids in the order in which members joined, and
            thresholds: float64, from which each detects. A concept for which no unit was found has no members.
        counts: int64 [3, n_concepts, 4], TP FP FN TN of the parts.
        intervals: float64 [n_concepts, 2], 95 % interval of the test F1; NaN where that is.
        differences: float64 [n_concepts, 3], test F1 above that of the concept's pair, with the ends of its 95 %
            interval over the same examples; NaN without either.
    """

    kind: ClassVar[str] = "coalitions"
    concepts: tuple[str, ...]
    n_units: int
    halved: bool
    anded: Bool[Tensor, " concepts"]
    member_offsets: Int[Tensor, " concepts_plus_1"]
    unit_ids: Int[Tensor, " members"]
    thresholds: Float[Tensor, " members"]
    counts: Int[Tensor, "3 concepts 4"]
    intervals: Float[Tensor, "concepts 2"]
    differences: Float[Tensor, "concepts 3"]

    @property
    def sizes(self) -> Int[Tensor, " concepts"]:
        """Return int64, members of each concept."""
        return self.member_offsets.diff()

    @property
    def f1(self) -> Float[Tensor, "3 concepts"]:
        """Return float64; NaN without members, and of a concept of which the part lacks a class."""
        import torch

        return torch.where(self.sizes > 0, f1_of(self.counts), torch.nan)

    def rule(self, concept: int) -> str | None:
        """``or`` or ``and``; None of a coalition of one, which needs none, and without members."""
        return RULES[int(self.anded[concept])] if int(self.sizes[concept]) > 1 else None

    def members(self, concept: int) -> list[int]:
        """Return original ids, in the order in which they joined."""
        low, high = self.member_offsets[concept : concept + 2].tolist()
        return self.unit_ids[low:high].tolist()

    def pairs(self, concept: int) -> list[tuple[int, float]]:
        """Return the same with the threshold of each."""
        low, high = self.member_offsets[concept : concept + 2].tolist()
        return list(zip(self.unit_ids[low:high].tolist(), self.thresholds[low:high].tolist(), strict=True))

    def problems(self) -> Iterator[str]:
        n = len(self.concepts)
        structure = [
            *expect_tensor(self.anded, "anded", "bool", (n,)),
            *expect_tensor(self.member_offsets, "member_offsets", "int64", (n + 1,)),
            *expect_tensor(self.unit_ids, "unit_ids", "int64", (None,)),
            *expect_tensor(self.thresholds, "thresholds", "float64", (len(self.unit_ids),)),
            *expect_tensor(self.counts, "counts", "int64", (3, n, 4)),
            *expect_tensor(self.intervals, "intervals", "float64", (n, 2)),
            *expect_tensor(self.differences, "differences", "float64", (n, 3)),
        ]
        if not structure:
            structure += bad_offsets(self.member_offsets, "member_offsets", len(self.unit_ids))
        yield from structure
        if structure:
            return
        if bool((self.counts < 0).any()):
            yield "counts must not be negative"
        if bool(((self.unit_ids < 0) | (self.unit_ids >= self.n_units)).any()):
            yield f"unit ids must lie in 0..{self.n_units - 1}"
        if not bool((self.thresholds > 0).all()):
            yield "thresholds must be > 0"
        if any(len(set(self.members(concept))) < int(size) for concept, size in enumerate(self.sizes)):
            yield "a coalition names the same unit twice"
        if bool((self.anded & (self.sizes < 2)).any()):
            yield "a rule is for members, of which there are several"
        if bool((self.counts[..., :2].sum(-1)[:, self.sizes == 0] > 0).any()):
            yield "nothing is detected without members"
        if bool((self.intervals < 0).any()) or bool((self.intervals > 1).any()):
            yield "intervals must lie between 0 and 1"
        if bool((self.differences.abs() > 1).any()):
            yield "differences must lie between -1 and 1"
