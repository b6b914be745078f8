"""Pruning audit: would a unit that pruning removed have been the best one of a concept? (numerics 13)

The exact search over all units that ever fire is compared with the units that the mapping keeps. The rules themselves
live in ``ops.unit_mapping``, the search in ``ops.exact_search``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import REASONS, UnitMapping
from sae_assets.errors import ArtifactError
from sae_assets.ops.exact_search import ExactSearch
from sae_assets.ops.process_state import plain_arithmetic


@dataclass(frozen=True)
class PruningAudit:
    """Per concept the best unit of all and the best that is kept, and totals per rule.

    Attributes:
        best_units, best_kept: int64 [n_concepts], original ids; -1 where no unit has a threshold.
        best_f1, best_kept_f1: float64 [n_concepts], their cal F1; NaN there.
        reasons: int64 [n_concepts], position in ``REASONS`` of the best unit of all, 0 if it is kept; -1 where none is.
        units_by_reason: int64 [len(REASONS)], units of the SAE.
        concepts_by_reason: int64 [len(REASONS)], concepts whose best unit has this reason.
    """

    best_units: Int[Tensor, " concepts"]
    best_f1: Float[Tensor, " concepts"]
    reasons: Int[Tensor, " concepts"]
    best_kept: Int[Tensor, " concepts"]
    best_kept_f1: Float[Tensor, " concepts"]
    units_by_reason: Int[Tensor, " rules"]
    concepts_by_reason: Int[Tensor, " rules"]

    @property
    def loss(self) -> Float[Tensor, " concepts"]:
        """Cal F1 that pruning costs; NaN without a best unit, and all of its F1 where no kept unit has a threshold."""
        return self.best_f1 - torch.where(self.best_units >= 0, self.best_kept_f1.nan_to_num(0), torch.nan)

    def removed_by(self, concept: int) -> str | None:
        """Name of the rule that removed the best unit of a concept; None if it is kept, or if there is none."""
        reason = int(self.reasons[concept])
        return REASONS[reason] if reason > 0 else None


@plain_arithmetic()
def audit_pruning(search: ExactSearch, mapping: UnitMapping) -> PruningAudit:
    """Compare the search over all units, in original ids, with what the mapping keeps.

    Every figure is of cal: this looks at a choice that pruning made on cal, and chooses nothing itself.

    Raises:
        ArtifactError: the search does not cover the units of the mapping.
    """
    if len(search.thresholds) != mapping.n_original:
        raise ArtifactError(
            f"The search covers {len(search.thresholds)} units, the mapping {mapping.n_original}. "
            "Search all units of the SAE, by their original ids."
        )
    f1 = search.f1[0]
    best = search.best_units
    kept = search.best_units_among(mapping.reasons == 0)
    reasons = torch.where(best >= 0, mapping.reasons.long()[best.clamp(min=0)], -1)
    n_rules = len(REASONS)
    return PruningAudit(
        best_units=best,
        best_f1=_of(f1, best),
        reasons=reasons,
        best_kept=kept,
        best_kept_f1=_of(f1, kept),
        units_by_reason=torch.bincount(mapping.reasons.long(), minlength=n_rules),
        concepts_by_reason=torch.bincount(reasons[reasons >= 0], minlength=n_rules),
    )


def _of(f1: Float[Tensor, "units concepts"], units: Int[Tensor, " concepts"]) -> Float[Tensor, " concepts"]:
    """The figure of each concept's unit; NaN where it has none."""
    found = f1[units.clamp(min=0), torch.arange(len(units), device="cpu")]
    return torch.where(units >= 0, found, torch.nan)
