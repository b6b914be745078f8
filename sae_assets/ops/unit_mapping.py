"""Unit mapping: which units are kept, and the first rule that each other one fails (numerics 3).

Activity, then strength, then selectivity. Rules and their limits only; statistics come from ``ops.unit_stats``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sae_assets.artifacts import REASONS, UnitMapping, UnitStats
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import linear_quantiles


@dataclass(frozen=True)
class PruningRules:
    """Limits of the three rules.

    Attributes:
        mode: recorded name of where the limits come from (``fixed``, ``adaptive``, ``active``).
        min_active: fewer calibration rows than this is rare.
        max_density: larger share of calibration rows than this is dense (None: not applied).
        max_active: more calibration rows than this is dense (None: not applied).
        strength_percentile: percentile of p99 among survivors, below which a unit is weak (0: none is).
        target_units: the most selective of this many are kept (None: all).
    """

    mode: str
    min_active: int = 1
    max_density: float | None = None
    max_active: float | None = None
    strength_percentile: float = 0.0
    target_units: int | None = None


EVERY_ACTIVE_UNIT = PruningRules("active")


def adaptive_rules(positive_rows: Sequence[int], modality: str, target_units: int | None) -> PruningRules:
    """Limits from the calibration counts n_c = |G_c ∩ cal| of the concepts (those without positives do not count).

    Raises:
        ArtifactError: no concept has a positive calibration row.
    """
    counts = [count for count in positive_rows if count > 0]
    if not counts:
        raise ArtifactError(
            "Adaptive pruning needs at least one concept with positive calibration rows, found none. "
            "Check the labels and the split, or use pruning mode 'fixed'."
        )
    image = modality == "image"
    min_active = math.floor(0.75 * min(counts)) if image else max(10, math.floor(0.01 * min(counts)))
    n = len(positive_rows)
    percentile = 50.0 if n == 1 else 60.0 if n < 10 else 70.0 if n < 30 else 80.0
    return PruningRules(
        mode="adaptive",
        min_active=min_active,
        max_active=1.25 * max(counts),
        strength_percentile=percentile,
        target_units=target_units,
    )


@plain_arithmetic()
def map_units(stats: UnitStats, rules: PruningRules) -> UnitMapping:
    """Apply the rules in order; a unit's first failing rule is its reason.

    Raises:
        ArtifactError: no unit is left; the message shows the counts at each rule.
    """
    reasons = torch.zeros(stats.n_units, dtype=torch.uint8, device="cpu")

    def fail(units: Bool[Tensor, " units"], reason: str) -> None:
        reasons[units & (reasons == 0)] = REASONS.index(reason)

    fail(stats.n_active == 0, "dead")
    fail(stats.n_active < rules.min_active, "rare")
    if rules.max_density is not None:
        fail(stats.density > rules.max_density, "dense")
    if rules.max_active is not None:
        fail(stats.n_active > rules.max_active, "dense")
    survivors = reasons == 0
    cutoff = math.nan
    if rules.strength_percentile > 0 and bool(survivors.any()):
        ordered = stats.p99[survivors].sort().values
        share = torch.tensor([rules.strength_percentile / 100], dtype=torch.float64, device="cpu")
        count = torch.tensor([len(ordered)], dtype=torch.int64, device="cpu")
        cutoff = float(linear_quantiles(ordered, count, share))
        fail(stats.p99 < cutoff, "weak")
    survivors = (reasons == 0).nonzero().flatten()
    if rules.target_units is not None and len(survivors) > rules.target_units:
        # Last key first: stable sorts from the least to the most significant (unit ids ascend already).
        order = survivors[stats.p99[survivors].sort(descending=True, stable=True).indices]
        order = order[stats.selectivity[order].nan_to_num(-1).sort(descending=True, stable=True).indices]
        reasons[order[rules.target_units :]] = REASONS.index("over_target")
    if not bool((reasons == 0).any()):
        counts = dict(zip(REASONS, torch.bincount(reasons.long(), minlength=len(REASONS)).tolist(), strict=True))
        tally = ", ".join(f"{reason} {count}" for reason, count in counts.items() if count)
        limits = {"min_active": rules.min_active, "max_active": rules.max_active, "max_density": rules.max_density,
                  "strength_percentile": rules.strength_percentile}  # fmt: skip
        raise ArtifactError(
            f"No unit is left after {rules.mode} pruning of {stats.n_units} units ({tally}; "
            + ", ".join(f"{name} {limit:g}" for name, limit in limits.items() if limit is not None)
            + "). Loosen the rule that removed most"
            + (", or give limits of your own with fixed pruning" if rules.mode == "adaptive" else "")
            + ", or use more calibration data."
        )
    return UnitMapping(
        reasons=reasons,
        mode=rules.mode,
        min_active=rules.min_active,
        max_active=float(
            rules.max_active
            if rules.max_active is not None
            else math.inf
            if rules.max_density is None
            else rules.max_density * stats.n_rows
        ),
        strength_percentile=rules.strength_percentile,
        strength_cutoff=cutoff,
        target_units=rules.target_units,
    )
