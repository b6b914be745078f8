"""The test split takes no part in anything that is chosen: statistics, mapping, thresholds and pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.artifacts import BestPairs, Thresholds, UnitMapping, UnitStats
from sae_assets.ops.best_pairs import figure_pairs
from sae_assets.ops.chosen_pairs import choose_by_tails
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.ground_truth import count_positive_rows
from sae_assets.ops.thresholds import CalibrationChunk, calibrate_thresholds
from sae_assets.ops.unit_mapping import PruningRules, adaptive_rules, map_units
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets_tests.helpers.ops_of_worlds import lengths_of, nowhere, rows_of
from sae_assets_tests.strategies import PROPERTY, World, random_world

pytestmark = pytest.mark.slow

Chosen = tuple[UnitStats, PruningRules, UnitMapping, Thresholds, BestPairs]


def everything(world: World, calibration: torch.Tensor | None = None) -> Chosen:
    """All stages in order on one chunk; ``calibration`` replaces the mask of cal examples (to plant a leak)."""
    cal = world.mask("cal") if calibration is None else calibration
    sparse, truth = world.sparse(), world.ground_truth()
    stats = compute_unit_stats([(sparse, cal)], world.n_units)
    rules = replace(adaptive_rules(count_positive_rows([(truth, cal)]), "image", 8), min_active=2, max_active=None)
    mapping = map_units(stats, rules)
    filtered = filter_activations(sparse, mapping)
    thresholds = calibrate_thresholds(
        [CalibrationChunk(filtered, truth, cal)], concepts=world.concepts, kept_units=mapping.kept_units
    )
    # A leak is planted by naming as cal what the mask takes for it.
    splits = tuple("cal" if chosen else split for split, chosen in zip(world.splits, cal.tolist(), strict=True))
    labels = torch.from_numpy(world.labels)
    scores = score_examples([LabelledChunk(filtered, splits, labels)], n_units=mapping.n_filtered)
    every = score_examples([LabelledChunk(sparse, splits, labels)], n_units=world.n_units)
    rows = nowhere(world.concepts, world.n_units)
    chosen = choose_by_tails(count_detections(scores, thresholds), thresholds, every["cal"], rows)
    there = replace(world, splits=splits)
    best = figure_pairs(chosen, every, lengths_of(there), rows_of(there, chosen), n_permutations=5)
    return stats, rules, mapping, thresholds, best


def same_choices(one: Chosen, two: Chosen) -> bool:
    """Whether everything that was chosen is bit-equal; figures on test may differ."""
    hashes = [[artifact.content_hash() for artifact in (chosen[0], chosen[2], chosen[3])] for chosen in (one, two)]
    nan = {"equal_nan": True}
    pairs = all(
        np.array_equal(getattr(one[4], name).numpy(), getattr(two[4], name).numpy(), **nan)
        for name in ("unit_ids", "tail_fractions", "thresholds")
    )
    calibration = all(
        np.array_equal(getattr(one[4], name)[0].numpy(), getattr(two[4], name)[0].numpy(), **nan)
        for name in ("counts", "null_f1", "p")
    )
    return hashes[0] == hashes[1] and one[1] == two[1] and pairs and calibration


def with_other_test_labels(world: World, seed: int) -> World:
    """Truth of test examples and rows shuffled among themselves."""
    rng = np.random.default_rng(seed)
    labels, truth = world.labels.copy(), world.truth.copy()
    labels[world.examples_in("test")] = rng.permutation(labels[world.examples_in("test")])
    truth[world.rows_in("test")] = rng.permutation(truth[world.rows_in("test")])
    return replace(world, labels=labels, truth=truth)


def with_other_test_rows(world: World, seed: int) -> World:
    """Activations of test rows replaced by others, some of them larger than any before."""
    rng = np.random.default_rng(seed)
    dense = world.activations.copy()
    shape = dense[world.rows_in("test")].shape
    dense[world.rows_in("test")] = np.where(rng.random(shape) < 0.5, rng.lognormal(sigma=3, size=shape), 0)
    return replace(world, activations=dense)


CHANGES = pytest.mark.parametrize("change", [with_other_test_labels, with_other_test_rows])


@CHANGES
@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.long)])
def test_what_is_chosen_does_not_depend_on_test(change, times):
    """Other test labels or other test rows: the same statistics, rules, mapping, thresholds and pairs, bit for bit."""

    @settings(PROPERTY, max_examples=times * PROPERTY.max_examples // 4)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        world = random_world(seed % 50, n_examples=30, n_units=10)
        assert same_choices(everything(world), everything(change(world, seed)))

    check()


@CHANGES
def test_a_planted_leak_would_be_noticed(change):
    """The same comparison fails once test examples are passed as calibration examples."""
    world = random_world(7, n_examples=30, n_units=10)
    leak = world.mask("cal") | world.mask("test")
    assert not same_choices(everything(world, leak), everything(change(world, 7), leak))


def test_a_change_of_calibration_is_noticed():
    """The comparison sees each chosen thing: changing cal instead of test changes it."""
    world = random_world(7, n_examples=30, n_units=10)
    swapped = {"cal": "test", "test": "cal", "train": "train"}
    other = replace(world, splits=tuple(swapped[split] for split in world.splits))
    assert not same_choices(everything(world), everything(other))


def test_the_changes_do_change_the_figures_on_test():
    """The property is not empty: the reported counts on test do move."""
    world = random_world(7, n_examples=30, n_units=10)
    before = everything(world)[4].counts[1]
    for change in (with_other_test_labels, with_other_test_rows):
        assert not torch.equal(before, everything(change(world, 7))[4].counts[1])
