"""The (unit, threshold) that stands for each concept, chosen on calibration data alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ChosenPairs(Artifact):
    """Per concept the unit and its thresholds, and how they were chosen.

    Attributes:
        selection: ``exact`` or ``tails``; choose_by: ``rows`` or ``examples``, as asked for.
        min_support: cal positives that an exact threshold finds at least.
        unit_ids: int64 [n_concepts], original id, -1 where no pair can be chosen.
        thresholds: float64 [n_concepts], of example scores; NaN without a pair.
        tail_fractions: float64 [n_concepts], share of what the threshold was taken from that reaches it: of the unit's
            scores on cal positives (``exact``), or of its values on their rows (``tails``); NaN without a pair.
        support: int64 [n_concepts], cal positives that the pair detects.
        by_rows: bool [n_concepts], whether rows chose the unit.
        row_thresholds: float64 [n_concepts], of the best cal row F1 of the unit; NaN where it has none.
        example_unit_ids: int64 [n_concepts], the unit that examples would choose, -1 without one.
        n_folds, fold_f1: float64 [n_concepts], F1 over held-out folds of cal, each counted on the pair chosen without
            it; NaN where it does not exist; None if n_folds is 0.
        seed: of the folds.
    """

    kind: ClassVar[str] = "chosen_pairs"
    concepts: tuple[str, ...]
    selection: str
    choose_by: str
    min_support: int
    unit_ids: Int[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    tail_fractions: Float[Tensor, " concepts"]
    support: Int[Tensor, " concepts"]
    by_rows: Bool[Tensor, " concepts"]
    row_thresholds: Float[Tensor, " concepts"]
    example_unit_ids: Int[Tensor, " concepts"]
    seed: int
    n_folds: int = 0
    fold_f1: Float[Tensor, " concepts"] | None = None

    def problems(self) -> Iterator[str]:
        n = len(self.concepts)
        structure = [
            *expect_tensor(self.unit_ids, "unit_ids", "int64", (n,)),
            *expect_tensor(self.thresholds, "thresholds", "float64", (n,)),
            *expect_tensor(self.tail_fractions, "tail_fractions", "float64", (n,)),
            *expect_tensor(self.support, "support", "int64", (n,)),
            *expect_tensor(self.by_rows, "by_rows", "bool", (n,)),
            *expect_tensor(self.row_thresholds, "row_thresholds", "float64", (n,)),
            *expect_tensor(self.example_unit_ids, "example_unit_ids", "int64", (n,)),
        ]
        if self.fold_f1 is not None:
            structure += expect_tensor(self.fold_f1, "fold_f1", "float64", (n,))
        yield from structure
        if structure:
            return
        if self.selection not in ("exact", "tails") or self.choose_by not in ("rows", "examples"):
            yield f"selection is {self.selection!r} and choose_by {self.choose_by!r}: no such rule"
        if bool(((self.unit_ids < 0) != self.thresholds.isnan()).any()):
            yield "a threshold must be null exactly where no pair was chosen"
        if bool((self.support < 0).any()) or bool((self.support[self.unit_ids < 0] != 0).any()):
            yield "support must be 0 or more, and 0 where no pair was chosen"
        if bool(self.by_rows.any()) and (self.choose_by != "rows" or self.selection != "exact"):
            yield "rows choose units only where choose_by is rows and selection exact"
        if (self.n_folds == 0) != (self.fold_f1 is None) or self.n_folds == 1 or self.n_folds < 0:
            yield f"n_folds is {self.n_folds}: 0 without fold_f1, at least 2 with it"
