"""Pruning audit: would a unit that pruning removed have been the best one of a concept? (numerics 13)

The exact search over all units that ever fire is compared with the units that the mapping keeps. The rules themselves
live in ``ops.unit_mapping``, the search in ``ops.exact_search``.
"""

from collections.abc import Sequence

import torch

from sae_assets.artifacts import REASONS, UnitMapping
from sae_assets.artifacts.pruning_audit import PruningAudit
from sae_assets.errors import ArtifactError
from sae_assets.ops.concept_pairs import MIN_SUPPORT, find_pairs, two_classes_in
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.sorted_scores import ExampleScores


@plain_arithmetic()
def audit_pruning(
    scores: dict[str, ExampleScores], mapping: UnitMapping, concepts: Sequence[str], *, min_support: int = MIN_SUPPORT
) -> PruningAudit:
    """Compare the search over all units with that over what the mapping keeps.

    Both units are chosen on cal; their test counts are reported alone. A concept of which cal lacks a class has none.

    Args:
        scores: of all units, by original id.

    Raises:
        ArtifactError: scores of other units than the mapping's.
    """
    n_units = len(scores["cal"].starts) - 1
    if n_units != mapping.n_original:
        raise ArtifactError(
            f"The scores are of {n_units} units, the mapping of {mapping.n_original}. "
            "Search all units of the SAE, by their original ids."
        )
    concerned = two_classes_in(scores["cal"])
    every = find_pairs(scores, min_support=min_support).only(concerned)
    kept_pairs = find_pairs(scores, min_support=min_support, allowed=mapping.reasons == 0).only(concerned)
    best = every.units
    return PruningAudit(
        concepts=tuple(concepts),
        min_support=min_support,
        units_by_reason=torch.bincount(mapping.reasons.long(), minlength=len(REASONS)),
        unit_ids=torch.stack([best, kept_pairs.units]),
        thresholds=torch.stack([every.thresholds, kept_pairs.thresholds]),
        counts=torch.stack([every.counts, kept_pairs.counts]),
        reasons=torch.where(best >= 0, mapping.reasons.long()[best.clamp(min=0)], -1),
    )
