"""Pruning audit: would a unit that pruning removed have been the best one of a concept? (numerics 13)

The exact search over all units that ever fire is compared with the units that the mapping keeps. The rules themselves
live in ``ops.unit_mapping``, the search in ``ops.exact_search``.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import REASONS, UnitMapping
from sae_assets.artifacts.pruning_audit import PruningAudit
from sae_assets.errors import ArtifactError
from sae_assets.ops.exact_search import ExactSearch
from sae_assets.ops.process_state import plain_arithmetic


@plain_arithmetic()
def audit_pruning(search: ExactSearch, mapping: UnitMapping, concepts: Sequence[str]) -> PruningAudit:
    """Compare the search over all units, in original ids, with what the mapping keeps.

    Both units are chosen on cal; their test counts are reported alone.

    Raises:
        ArtifactError: the search does not cover the units of the mapping.
    """
    if len(search.thresholds) != mapping.n_original:
        raise ArtifactError(
            f"The search covers {len(search.thresholds)} units, the mapping {mapping.n_original}. "
            "Search all units of the SAE, by their original ids."
        )
    units = torch.stack([search.best_units, search.best_units_among(mapping.reasons == 0)])
    best = units[0]
    return PruningAudit(
        concepts=tuple(concepts),
        min_support=search.min_support,
        units_by_reason=torch.bincount(mapping.reasons.long(), minlength=len(REASONS)),
        unit_ids=units,
        thresholds=torch.stack([_of(search.thresholds, each) for each in units]),
        counts=torch.stack([_counts(search, each) for each in units]),
        reasons=torch.where(best >= 0, mapping.reasons.long()[best.clamp(min=0)], -1),
    )


def _of(values: Float[Tensor, "units concepts"], units: Int[Tensor, " concepts"]) -> Float[Tensor, " concepts"]:
    """The value of each concept's unit; NaN where it has none."""
    chosen = values[units.clamp(min=0), torch.arange(len(units), device="cpu")]
    return torch.where(units >= 0, chosen, torch.nan)


def _counts(search: ExactSearch, units: Int[Tensor, " concepts"]) -> Int[Tensor, "2 concepts 4"]:
    """Confusion counts of each concept's unit on both splits; without one nothing is detected."""
    chosen = search.counts[:, units.clamp(min=0), torch.arange(len(units), device="cpu")]
    true, false, missed, rest = chosen.unbind(-1)
    nothing = torch.stack([true * 0, false * 0, true + missed, false + rest], -1)
    return torch.where((units >= 0)[:, None], chosen, nothing)
