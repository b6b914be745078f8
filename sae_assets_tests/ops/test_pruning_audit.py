"""The audit of pruning against exhaustive searches over all and over the kept units."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts import REASONS, UnitMapping
from sae_assets.errors import ArtifactError
from sae_assets.ops.pruning_audit import audit_pruning
from sae_assets_tests.helpers.ops_of_worlds import dense_scores, score, world_of
from sae_assets_tests.reference import concept_pairs as reference
from sae_assets_tests.strategies import PROPERTY, worlds


def mapping_of(reasons: list[str]) -> UnitMapping:
    codes = torch.tensor([REASONS.index(reason) for reason in reasons], dtype=torch.uint8)
    return UnitMapping(codes, "fixed", 0, np.inf, 0.0, np.nan, None)


@pytest.mark.slow
@PROPERTY
@given(worlds(), st.data())
def test_the_audit_is_two_exhaustive_searches(world, data):
    """Best units of all and of the kept ones, their F1, the reason, and both totals; none without both classes."""
    drawn = st.lists(st.sampled_from(REASONS), min_size=world.n_units, max_size=world.n_units)
    reasons = data.draw(drawn.filter(lambda names: "kept" in names))
    got = audit_pruning(score(world), mapping_of(reasons), world.concepts, min_support=1)
    scores, labels = dense_scores(world, "cal"), world.labels[world.examples_in("cal")]
    kept = np.array([reason == "kept" for reason in reasons])
    removed = []
    for concept, truth in enumerate(labels.T):
        both = len({*truth}) == 2
        best = reference.best_unit(scores, truth, 1) if both else -1
        best_kept = reference.best_unit(np.where(kept, scores, 0), truth, 1) if both else -1
        assert got.unit_ids[:, concept].tolist() == [best, best_kept]
        for unit, figure in zip((best, best_kept), got.f1[:, 0], strict=True):
            if unit < 0:
                assert bool(figure[concept].isnan())
                continue
            threshold = reference.best_threshold(scores[:, unit], truth, 1)
            assert figure[concept] == float(reference.f1(reference.counts_at(scores[:, unit], truth, threshold)))
        assert got.removed_by(concept) == (None if best < 0 or kept[best] else reasons[best])
        removed += [reasons[best]] if best >= 0 else []
        assert bool(got.loss[concept].isnan()) if best < 0 else got.loss[concept] >= 0
    for names, counts in ((reasons, got.units_by_reason), (removed, got.concepts_by_reason)):
        assert counts.tolist() == [names.count(reason) for reason in REASONS]


def test_a_kept_best_unit_costs_nothing():
    """A kept best unit costs nothing; scores of other units than those of the mapping are refused."""
    world = world_of({"cal": [3.0, 2.0, 1.0], "test": [1.0]}, {"cal": [True, True, False], "test": [True]})
    with pytest.raises(ArtifactError, match="scores are of 1 units, the mapping of 2"):
        audit_pruning(score(world), mapping_of(["dense", "kept"]), world.concepts)
    got = audit_pruning(score(world), mapping_of(["kept"]), world.concepts, min_support=1)
    assert got.loss.tolist() == [0] and got.removed_by(0) is None and got.f1[0, 0].tolist() == [1]


def test_what_every_example_has_is_found_by_no_unit():
    """Sky is in every frame of a street: a unit that fires in all of them is no detector that pruning could lose."""
    world = world_of({"cal": [3.0, 2.0, 1.0], "test": [1.0, 2.0]}, {"cal": [True] * 3, "test": [True, False]})
    got = audit_pruning(score(world), mapping_of(["kept"]), world.concepts, min_support=1)
    assert got.unit_ids.tolist() == [[-1], [-1]] and bool(got.f1.isnan().all()) and bool(got.loss.isnan().all())
    assert got.counts[0].tolist() == [[[0, 0, 3, 0]], [[0, 0, 1, 1]]] and got.concepts_by_reason.sum() == 0
