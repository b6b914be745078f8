"""The examples that ``docs/numerics.md`` works by hand, stage by stage (encoding's is in ``test_jumprelu``)."""

import math

import numpy as np
import pytest
import torch

from sae_assets.artifacts import REASONS, SparseActivations, UnitMapping, UnitStats
from sae_assets.ops.detectors import best_thresholds
from sae_assets.ops.exact_search import ExactSearch
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.ground_truth import covered_patches, overlapping_tokens, pixels_of_patches
from sae_assets.ops.sorted_scores import example_scores
from sae_assets.ops.unit_mapping import adaptive_rules, map_units
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets_tests.helpers.ops_of_worlds import at, calibrate, choose, hand, world_of
from sae_assets_tests.strategies import World


def column(values: list[float]) -> World:
    """One unit on the rows of one calibration example, all positive for one concept."""
    dense = np.array(values, np.float32)[:, None]
    return World(dense, np.array([len(values)]), ("cal",), np.ones((len(values), 1), bool), np.ones((1, 1), bool))


def test_ground_truth():
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 0] = mask[0, 1] = mask[3, 3] = True
    pixels = pixels_of_patches(mask, 2)
    assert pixels.tolist() == [2, 0, 0, 1]
    assert covered_patches(pixels, 4).tolist() == [True, False, False, True]
    assert covered_patches(pixels, 4, 2).tolist() == [True, False, False, False]
    assert overlapping_tokens(torch.tensor([[0, 2], [2, 7]]), torch.tensor([[3, 7]])).tolist() == [False, True]


def test_unit_statistics():
    world = column([0, 0, 1, 3])
    stats = compute_unit_stats([(world.sparse(), world.mask("cal"))], 1)
    figures = (stats.n_active, stats.total, stats.total_sq, stats.mean, stats.max, stats.p95, stats.density)
    assert [figure.item() for figure in figures] == [2, 4, 10, 2, 3, pytest.approx(2.9, rel=1e-15), 0.5]
    assert stats.selectivity.item() == pytest.approx(0.8, rel=1e-15)


def test_unit_mapping():
    n_active = torch.tensor([0, 1, 4, 5, 9])
    p99 = torch.tensor([math.nan, 1, 2, 3, 9], dtype=torch.float64)
    total = n_active.double()
    rules = adaptive_rules([4, 6], "image", None)
    assert (rules.min_active, rules.max_active, rules.strength_percentile) == (3, 7.5, 60)
    mapping = map_units(UnitStats(10, n_active, total, total, p99, p99, p99), rules)
    assert [REASONS[reason] for reason in mapping.reasons.tolist()] == ["dead", "rare", "weak", "kept", "dense"]
    assert mapping.strength_cutoff == pytest.approx(2.6, rel=1e-15)


def test_filtered_activations():
    reasons = torch.ones(10, dtype=torch.uint8)
    reasons[[3, 9]] = 0
    row = SparseActivations(
        0, torch.tensor([0, 1]), torch.tensor([0, 3]), torch.tensor([7, 3, 9], dtype=torch.int32),
        torch.tensor([2, 1.5, 0.5]), 10, torch.tensor([3], dtype=torch.int32), None, 4.0, 0.0,
    )  # fmt: skip
    got = filter_activations(row, UnitMapping(reasons, "fixed", 0, math.inf, 0.0, math.nan, None))
    assert got.unit_ids.tolist() == [0, 1] and got.values.tolist() == [1.5, 0.5]


def test_thresholds():
    got = calibrate(column([8, 1, 4, 2]), (0.1, 0.5, 0.95)).values[0, 0].tolist()
    assert got == pytest.approx([6.8, 3, 1.15], rel=1e-15)


def test_detection_and_best_pair():
    scores, labels = [[5.0], [4.0], [2.0], [0.0]], [True, True, False, False]
    high, low = hand(scores, labels, 4.0), hand(scores, labels, 2.0)
    assert [high.true_positives[0].item(), high.false_positives[0].item(), high.f1[0].item()] == [2, 0, 1]
    assert [low.true_positives[0].item(), low.false_positives[0].item(), low.f1[0].item()] == [2, 1, 4 / 5]
    flat = {"cal": [5.0, 4.0, 2.0, 0.0], "test": [1.0]}
    best = choose(world_of(flat, {"cal": labels, "test": [True]}), thresholds=at(4.0))
    assert bool(best.always_positive_f1[1].isnan()) and bool(best.rate("f1")[1].isnan())  # one class
    assert best.always_positive_f1[0].item() == pytest.approx(2 / 3, rel=1e-15)


def test_chance():
    both = {"cal": [2.0, 1.0], "test": [2.0, 1.0]}
    got = choose(world_of(both, {split: [True, False] for split in both}), thresholds=at(2.0), n_permutations=2000)
    assert got.null_f1[1, 0].tolist() == [pytest.approx(0.5, abs=0.05), 1.0]


def test_exact_search():
    """Three thresholds; the lowest is the best one of the three, and the only one with three hits."""
    labels = torch.tensor([[True], [True], [False], [True]])
    unit, example = torch.zeros(4, dtype=torch.int64), torch.arange(4)
    f1 = []
    for few in ([5], [5, 4, 4], [5, 4, 4, 2]):
        n = len(few)
        scores = example_scores(unit[:n], example[:n], torch.tensor(few).float(), labels, n_units=1)
        best = ExactSearch(scores).best(labels)
        f1.append(float(best.f1(torch.tensor([3]))))
    assert f1 == [1 / 2, 2 / 3, 6 / 7]


def test_threshold_of_a_control():
    """Three positives are found at the lowest score alone."""
    scores, labels = torch.tensor([[2.0, 1.0, 0.0, -1.0]]), torch.tensor([[True, False, True, True]])
    threshold = best_thresholds(scores, labels)
    detected = scores >= threshold[:, None]
    assert threshold.tolist() == [-1] and int((detected & labels).sum()) == 3 and int(detected.sum()) == 4
    assert 2 * 3 / (4 + 3) == 6 / 7
