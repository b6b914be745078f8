"""The three pruning rules, their limits and their reasons."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from sae_assets.artifacts import REASONS, UnitMapping, UnitStats
from sae_assets.errors import ArtifactError
from sae_assets.ops.unit_mapping import EVERY_ACTIVE_UNIT, PruningRules, adaptive_rules, map_units
from sae_assets_tests.reference import unit_mapping as reference
from sae_assets_tests.reference.unit_stats import selectivity
from sae_assets_tests.strategies import PROPERTY


def stats_of(n_rows: int, n_active, p99, total=None, total_sq=None) -> UnitStats:
    """Statistics in which a silent unit's figures are null; sums default to those of a unit that fires at 1."""
    n_active = torch.tensor(n_active, dtype=torch.int64)
    p99 = torch.where(n_active > 0, torch.tensor(p99, dtype=torch.float64), torch.nan)
    plain = n_active.double()
    return UnitStats(
        n_rows=n_rows,
        n_active=n_active,
        total=plain if total is None else torch.tensor(total, dtype=torch.float64),
        total_sq=plain if total_sq is None else torch.tensor(total_sq, dtype=torch.float64),
        max=p99,
        p95=p99,
        p99=p99,
    )


def as_arrays(stats: UnitStats) -> dict[str, np.ndarray]:
    n_active = stats.n_active.numpy()
    return {
        "n_active": n_active,
        "density": n_active / stats.n_rows,
        "p99": stats.p99.numpy(),
        "selectivity": selectivity(n_active, stats.total.numpy(), stats.total_sq.numpy(), stats.n_rows),
    }


@st.composite
def unit_stats(draw) -> UnitStats:
    """Up to 12 units over up to 20 rows; counts, strengths and selectivities tie often."""
    n_rows, n = draw(st.integers(1, 20)), draw(st.integers(1, 12))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    n_active = column(st.integers(0, n_rows))
    total = [float(count * draw(st.sampled_from((1, 2)))) for count in n_active]
    factors = column(st.sampled_from((1.0, 2.0, 4.0)))
    total_sq = [t * t / max(count, 1) * f for t, count, f in zip(total, n_active, factors, strict=True)]
    return stats_of(n_rows, n_active, column(st.sampled_from((0.5, 1.0, 1.5, 2.0, 1e30))), total, total_sq)


def assert_matches(mapping: UnitMapping, expected: tuple[np.ndarray, list[str]]) -> None:
    kept, reasons = expected
    assert [REASONS[code] for code in mapping.reasons.tolist()] == reasons
    assert mapping.kept_units.tolist() == kept.tolist()


@PROPERTY
@given(
    unit_stats(),
    st.integers(0, 8),
    st.none() | st.sampled_from((0.1, 0.25, 0.5, 0.75, 1.0)),
    st.none() | st.floats(0, 25),
    st.sampled_from((0.0, 25.0, 50.0, 60.0, 75.0, 100.0)),
    st.none() | st.integers(1, 6),
)
def test_every_unit_has_its_first_failing_rule(stats, min_active, max_density, max_count, percentile, target):
    """Kept units and reasons are those of the reference, for any limits."""
    rules = PruningRules("fixed", min_active, max_density, max_count, percentile, target)
    expected = reference.prune(
        as_arrays(stats), min_active=min_active, max_density=max_density, max_count=max_count,
        strength_percentile=percentile, target=target,
    )  # fmt: skip
    if len(expected[0]) == 0:
        with pytest.raises(ArtifactError, match="No unit is left"):
            map_units(stats, rules)
    else:
        assert_matches(map_units(stats, rules), expected)


@PROPERTY
@given(
    unit_stats(),
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.none() | st.integers(1, 6),
    st.sampled_from(("image", "text")),
)
def test_adaptive_pruning_follows_the_concepts(stats, positive_rows, target, modality):
    """Limits from the concepts' calibration counts give the reference's kept units and reasons."""
    assume(any(positive_rows))
    rules = adaptive_rules(positive_rows, modality, target)
    expected = reference.adaptive_mapping(as_arrays(stats), positive_rows, target, modality)
    if len(expected[0]):
        assert_matches(map_units(stats, rules), expected)
    else:
        with pytest.raises(ArtifactError, match="No unit is left"):
            map_units(stats, rules)


@PROPERTY
@given(unit_stats())
def test_active_pruning_keeps_every_unit_that_fires(stats):
    """cls rows: the only reason is dead."""
    expected = reference.active_mapping(as_arrays(stats))
    assume(len(expected[0]) > 0)
    mapping = map_units(stats, EVERY_ACTIVE_UNIT)
    assert_matches(mapping, expected)
    assert mapping.counts() == {
        "kept": len(expected[0]), "dead": stats.n_units - len(expected[0]),
        "rare": 0, "dense": 0, "weak": 0, "over_target": 0,
    }  # fmt: skip


@PROPERTY
@given(unit_stats())
def test_both_directions_of_the_mapping_agree(stats):
    """unit -> kept index -> unit is the identity on kept units; others have no index."""
    assume(bool((stats.n_active > 0).any()))
    mapping = map_units(stats, EVERY_ACTIVE_UNIT)
    kept, index = mapping.kept_units, mapping.kept_index
    assert torch.equal(index[kept], torch.arange(mapping.n_filtered))
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert torch.equal(index < 0, mapping.reasons != 0)
    assert (mapping.n_original, mapping.n_filtered) == (stats.n_units, len(kept))


FIXED = {"min_active": 3, "max_density": 0.5, "strength_percentile": 50.0, "target_units": 1}


@pytest.mark.parametrize(
    ("n_active", "p99", "total_sq", "reason"),
    [
        (0, 9.0, 0.0, "dead"),
        (2, 9.0, 9.0, "rare"),
        (51, 9.0, 60.0, "dense"),
        (4, 0.125, 9.0, "weak"),
        (8, 9.0, 9.0, "over_target"),
        (4, 9.0, 99.0, "kept"),
    ],
)
def test_each_reason(n_active, p99, total_sq, reason):
    """One unit for each reason, beside one that is kept and strong, and one that is weak."""
    total = float(n_active)
    stats = stats_of(100, [n_active, 4, 4], [p99, 8.0, 0.25], [total, 4.0, 4.0], [total_sq, 50.0, 4.0])
    assert REASONS[map_units(stats, PruningRules("fixed", **FIXED)).reasons[0]] == reason


def test_limits_are_inclusive():
    """A unit exactly at a limit is kept: rare is below, dense is above."""
    stats = stats_of(100, [9, 10, 20, 21], [1.0] * 4)
    assert map_units(stats, PruningRules("fixed", 10, max_density=0.2)).kept_units.tolist() == [1, 2]
    assert map_units(stats, PruningRules("adaptive", 10, max_active=20.0)).kept_units.tolist() == [1, 2]


def test_density_is_compared_exactly():
    """One row too many is dense, also where float32 cannot tell."""
    stats = stats_of(10**9, [20_000_000, 20_000_001], [1.0, 1.0])
    assert map_units(stats, PruningRules("fixed", max_density=0.02)).kept_units.tolist() == [0]


def test_a_tie_in_strength_is_kept():
    """Units at the cut-off itself stay, however many there are."""
    stats = stats_of(10, [5] * 5, [1.0, 2.0, 2.0, 2.0, 3.0])
    mapping = map_units(stats, PruningRules("fixed", strength_percentile=50.0))
    assert mapping.strength_cutoff == 2.0 and mapping.kept_units.tolist() == [1, 2, 3, 4]


def test_strength_is_a_percentile_of_the_survivors_only():
    """Dead, rare and dense units take no part in the cut-off; it interpolates linearly."""
    stats = stats_of(100, [0, 1, 90, 5, 5, 5, 5], [9, 1000.0, 1000.0, 1.0, 2.0, 3.0, 5.0])
    mapping = map_units(stats, PruningRules("fixed", 2, 0.5, strength_percentile=75.0))
    assert mapping.strength_cutoff == pytest.approx(3.5) and mapping.kept_units.tolist() == [6]


def test_the_target_keeps_the_most_selective_then_the_stronger_then_the_lower():
    """Each key decides only where the one before it ties."""
    selective = [8.0, 4.0, 4.0, 4.0, 2.0]
    stats = stats_of(100, [5] * 5, [1.0, 2.0, 3.0, 3.0, 9.0], [5.0] * 5, [5.0 * factor for factor in selective])
    order = [0, 2, 3, 1, 4]
    for target in range(1, 6):
        assert map_units(stats, PruningRules("fixed", target_units=target)).kept_units.tolist() == sorted(
            order[:target]
        )


def test_a_target_that_fits_removes_nothing():
    """As many survivors as the target are all kept."""
    stats = stats_of(10, [1, 2, 3], [1.0, 1.0, 1.0])
    assert map_units(stats, PruningRules("fixed", target_units=3)).counts()["over_target"] == 0


@pytest.mark.parametrize(
    ("positive_rows", "modality", "min_active", "max_active", "percentile"),
    [
        ([1000], "image", 750, 1250.0, 50.0),
        ([101, 399], "image", 75, 498.75, 60.0),
        ([100] * 9, "image", 75, 125.0, 60.0),
        ([100] * 10, "image", 75, 125.0, 70.0),
        ([100] * 29, "image", 75, 125.0, 70.0),
        ([100] * 30, "image", 75, 125.0, 80.0),
        ([100], "text", 10, 125.0, 50.0),
        ([5150, 9000], "text", 51, 11250.0, 60.0),
        ([0, 40], "image", 30, 50.0, 60.0),
    ],
)
def test_adaptive_limits(positive_rows, modality, min_active, max_active, percentile):
    """The limits, worked out by hand; a concept without positive rows sets no bound."""
    rules = adaptive_rules(positive_rows, modality, 7)
    assert (rules.min_active, rules.max_active, rules.strength_percentile) == (min_active, max_active, percentile)
    assert (rules.mode, rules.max_density, rules.target_units) == ("adaptive", None, 7)


@pytest.mark.parametrize("positive_rows", [[], [0], [0, 0, 0]])
def test_adaptive_pruning_needs_a_positive_row(positive_rows):
    """Without any, the message says what to do instead."""
    with pytest.raises(ArtifactError, match=r"at least one concept with positive calibration rows.*'fixed'"):
        adaptive_rules(positive_rows, "image", None)


def test_nothing_left_shows_the_counts_at_each_rule():
    """The error is ours, and tells which rule removed how many."""
    stats = stats_of(100, [0, 0, 1, 90], [1.0] * 4)
    said = r"No unit is left after fixed pruning of 4 units \(dead 2, rare 1, dense 1; min_active 5, max_density 0.5"
    with pytest.raises(ArtifactError, match=said):
        map_units(stats, PruningRules("fixed", 5, 0.5, strength_percentile=75.0))


def test_the_limits_that_were_applied_are_recorded():
    """Counts rather than shares, infinite where there is no upper limit, null where strength was not asked for."""
    stats = stats_of(200, [10, 20], [1.0, 2.0])
    fixed = map_units(stats, PruningRules("fixed", 5, 0.25, None, 50.0, 9))
    assert (fixed.mode, fixed.min_active, fixed.max_active) == ("fixed", 5, 50.0)
    assert (fixed.strength_percentile, fixed.strength_cutoff, fixed.target_units) == (50.0, 1.5, 9)
    active = map_units(stats, EVERY_ACTIVE_UNIT)
    assert (active.mode, active.max_active, active.target_units) == ("active", math.inf, None)
    assert math.isnan(active.strength_cutoff)
