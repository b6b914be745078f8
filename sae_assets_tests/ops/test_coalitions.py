"""Greedy coalitions against an exhaustive greedy search, and cases where several units find what none finds alone."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts.coalitions import RULES, CoalitionChoice
from sae_assets.errors import ArtifactError
from sae_assets.ops.coalitions import Coalitions, choose_coalitions, grow_coalitions
from sae_assets.ops.concept_pairs import find_pairs
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores
from sae_assets_tests.helpers.ops_of_worlds import dense_scores, score
from sae_assets_tests.ops.test_concept_pairs import stored
from sae_assets_tests.reference import coalitions as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, random_world, worlds

pytestmark = pytest.mark.slow


def grow(world: World, rule: str, max_units: int = 3, min_support: int = 1, device="cpu", allowed=None) -> Coalitions:
    scores = score(world, device=device)
    first = find_pairs(scores, min_support=min_support, allowed=allowed)
    return grow_coalitions(first, scores, rule=rule, max_units=max_units, allowed=allowed)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(
    world=worlds(max_examples=9, max_rows=2),
    rule=st.sampled_from(RULES),
    max_units=st.integers(1, 4),
    min_support=st.integers(1, 2),
)
def test_members_are_those_of_the_exhaustive_search(device, world, rule, max_units, min_support):
    """Units, thresholds and counts after every member, on both splits; sizes, and null where nobody joined."""
    got = grow(world, rule, max_units, min_support, device)
    scores = {split: dense_scores(world, split) for split in EVALUATED}
    labels = {split: world.labels[world.examples_in(split)] for split in EVALUATED}
    for concept in range(len(world.concepts)):
        members = reference.grow(scores["cal"], labels["cal"][:, concept], rule, max_units, min_support)
        empty = max_units - len(members)
        assert int(got.sizes[concept]) == len(members)
        assert got.units[concept].tolist() == [*(unit for unit, _ in members), *[-1] * empty]
        np.testing.assert_array_equal(got.thresholds[concept], [*(t for _, t in members), *[np.nan] * empty])
        for row, split in enumerate(EVALUATED):
            truth = labels[split][:, concept]
            for size in range(1, max_units + 1):
                found = [scores[split][:, unit] >= threshold for unit, threshold in members[:size]]
                join = np.any if rule == "or" else np.all
                detected = join(found, 0) if found else np.zeros(len(truth), bool)
                assert got.counts[row, concept, size - 1].tolist() == [
                    int(cell.sum())
                    for cell in (detected & truth, detected & ~truth, ~detected & truth, ~detected & ~truth)
                ]
                expected = float(reference.f1(detected, truth)) if found and len({*truth}) == 2 else np.nan
                np.testing.assert_equal(float(got.f1[row, concept, size - 1]), expected)


def by_hand(scores: list[list[float]], labels: list[int], rule: str) -> Coalitions:
    """Scores [examples][units], test the same as cal."""
    split = stored(np.array(scores, np.float32), np.array(labels, bool)[:, None])
    both = {"cal": split, "test": split}
    return grow_coalitions(find_pairs(both, min_support=1), both, rule=rule, max_units=2)


def test_two_units_find_the_two_halves_of_a_concept():
    """Each finds one of two positives and nothing else: F1 2/3 alone, 1 together; agreeing they find nothing."""
    scores, labels = [[2, 0], [0, 3], [1, 1], [0, 0]], [1, 1, 0, 0]
    got = by_hand(scores, labels, "or")
    assert got.units.tolist() == [[1, 0]] and got.thresholds.tolist() == [[3, 2]]
    assert got.f1[1, 0].tolist() == [2 / 3, 1]
    assert by_hand(scores, labels, "and").sizes.tolist() == [1]


def test_two_units_agree_on_a_concept():
    """Each fires on both positives and on one negative that the other leaves out: 4/5 alone, 1 together."""
    scores, labels = [[2, 2], [2, 2], [2, 0], [0, 2]], [1, 1, 0, 0]
    got = by_hand(scores, labels, "and")
    assert got.units.tolist() == [[0, 1]] and got.f1[1, 0].tolist() == [4 / 5, 1]
    assert by_hand(scores, labels, "or").sizes.tolist() == [1]


@pytest.mark.parametrize("rule", RULES)
def test_cal_f1_rises_with_every_member_and_starts_with_the_best_unit(rule):
    """On a larger data set, among all units and among some."""
    world = random_world(8, n_examples=150, n_units=20, n_concepts=4)
    allowed = torch.arange(20) % 3 > 0
    for options in ({}, {"allowed": allowed}):
        got = grow(world, rule, 4, 3, **options)
        assert torch.equal(got.units[:, 0], find_pairs(score(world), **options).units)
        joined = got.units[:, 1:] >= 0
        assert bool((got.f1[0].diff(dim=1)[joined] > 0).all()) and bool((got.f1[0].diff(dim=1)[~joined] == 0).all())
        assert not options or bool(allowed[got.units[got.units >= 0]].all())
    assert bool(joined.any())


def test_what_cannot_grow_is_refused():
    """Unknown rules, no members, pairs of something else."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match="Unknown rule 'xor'"):
        grow(world, "xor")
    with pytest.raises(ArtifactError, match="max_units is 0"):
        grow(world, "or", 0)
    other = find_pairs(score(random_world(0, n_units=5)))
    with pytest.raises(ArtifactError, match=r"are of \(5, 2\) units and concepts, the scores of \(12, 2\)"):
        grow_coalitions(other, score(world), rule="or")


def parts(world: World) -> list[ExampleScores]:
    """Scores of train, cal and test."""
    renamed = [dataclasses.replace(world, splits=tuple({a: "cal", b: "test"}.get(s, "") for s in world.splits))
               for a, b in (("train", "cal"), ("", "test"))]  # fmt: skip
    first, last = (score(each) for each in renamed)
    return [first["cal"], first["test"], last["test"]]


def choose(world: World, pair: tuple[int, float] = (0, 1.0), **options) -> CoalitionChoice:
    n = len(world.concepts)
    pairs = (torch.full((n,), pair[0]), torch.full((n,), pair[1], dtype=torch.float64))
    return choose_coalitions(*parts(world), concepts=world.concepts, pairs=pairs, halved=False, **options)


@PROPERTY
@given(world=worlds(max_examples=9, max_rows=2))
def test_rule_and_size_are_chosen_on_the_second_part(world):
    """Members are those grown on train; of all rules and sizes none has a better cal F1; test is only counted.

    Nothing grows where train lacks a class of the concept, and one member stays where cal does.
    """
    got = choose(world, max_units=3, min_support=1)
    scores, labels = {}, {}
    for split in ("train", *EVALUATED):
        renamed = dataclasses.replace(world, splits=tuple("cal" if s == split else "" for s in world.splits))
        scores[split], labels[split] = dense_scores(renamed, "cal"), world.labels[world.examples_in(split)]
    for concept in range(len(world.concepts)):
        options = []
        for rank, rule in enumerate(RULES):
            grown_on, chosen_on = labels["train"][:, concept], labels["cal"][:, concept]
            members = reference.grow(scores["train"], grown_on, rule, 3, 1) if len({*grown_on}) == 2 else []
            for size in range(1, len(members) + 1):
                detected = {split: joined(scores[split], members[:size], rule) for split in scores}
                f1 = float(reference.f1(detected["cal"], chosen_on)) if len({*chosen_on}) == 2 else 0.0
                options.append((f1, -size, -rank, members[:size], detected))
        if not options:
            assert int(got.sizes[concept]) == 0 and bool(got.intervals[concept].isnan().all())
            continue
        _, size, rank, members, detected = max(options, key=lambda option: option[:3])
        assert got.members(concept) == [unit for unit, _ in members]
        assert got.rule(concept) == (RULES[-rank] if size < -1 else None)
        for place, split in enumerate(("train", *EVALUATED)):
            found, truth = detected[split], labels[split][:, concept]
            cells = (found & truth, found & ~truth, ~found & truth, ~found & ~truth)
            assert got.counts[place, concept].tolist() == [int(cell.sum()) for cell in cells]


@pytest.mark.parametrize("seed", range(3))
def test_what_was_chosen_before_is_kept_and_counted_anew(seed):
    """On other examples the members, thresholds and rule of the first, whose own would be others."""
    first, later = random_world(seed, n_examples=60), random_world(seed + 50, n_examples=90)
    later = dataclasses.replace(later, activations=np.roll(later.activations, 1, axis=1))  # other units fire there
    before, anew = choose(first, min_support=1), choose(later, min_support=1)
    got = choose(later, min_support=1, earlier=before)
    for name in ("unit_ids", "thresholds", "member_offsets", "anded"):
        assert torch.equal(getattr(got, name), getattr(before, name)), name
    assert got.unit_ids.tolist() != anew.unit_ids.tolist()
    for concept in range(len(later.concepts)):
        for place, split in enumerate(("train", *EVALUATED)):
            renamed = dataclasses.replace(later, splits=tuple("cal" if s == split else "" for s in later.splits))
            found = joined(dense_scores(renamed, "cal"), before.pairs(concept), before.rule(concept) or "or")
            truth = later.labels[later.examples_in(split), concept]
            cells = (found & truth, found & ~truth, ~found & truth, ~found & ~truth)
            assert got.counts[place, concept].tolist() == [int(cell.sum()) for cell in cells]
    assert choose(first, min_support=1, earlier=before) == before


def joined(scores: np.ndarray, members: list[tuple[int, float]], rule: str) -> np.ndarray:
    found = [scores[:, unit] >= threshold for unit, threshold in members]
    return (np.any if rule == "or" else np.all)(found, 0)


def test_two_units_that_share_a_concept_beat_either():
    """Each fires on half of the positives: ``or`` of both is chosen, and its gain on test is sure."""
    rng = np.random.default_rng(2)
    n = 240
    labels = rng.random((n, 1)) < 0.5
    which = rng.random(n) < 0.5
    dense = (rng.random((n, 6)) < 0.05).astype(np.float32)
    dense[:, 0] = np.where(labels[:, 0] & which, 3, dense[:, 0])
    dense[:, 1] = np.where(labels[:, 0] & ~which, 3, dense[:, 1])
    splits = tuple(np.resize(["train", "cal", "test"], n).tolist())
    got = choose(World(dense, np.ones(n, int), splits, labels, labels), (0, 3.0))
    assert set(got.members(0)) == {0, 1} and got.rule(0) == "or" and float(got.f1[2, 0]) > 0.95
    assert float(got.differences[0, 1]) > 0.1 and float(got.intervals[0, 0]) > 0.85


def test_noise_gains_nothing_on_test():
    """Of 60 concepts that are noise, the part that grows gains by every member, and test does not."""
    rng = np.random.default_rng(5)
    n, n_units, n_concepts = 240, 20, 60
    dense = np.where(rng.random((n, n_units)) < 0.3, rng.lognormal(size=(n, n_units)), 0).astype(np.float32)
    labels = rng.random((n, n_concepts)) < 0.2
    splits = tuple(np.resize(["train", "cal", "test"], n).tolist())
    world = World(dense, np.ones(n, int), splits, labels, labels)
    got = choose(world, max_units=4)
    assert float(got.f1[0].mean()) > float(got.f1[2].mean()) + 0.1
    share = labels[np.resize([False, False, True], n)].mean(0)
    surely = (got.differences[:, 1] > 0).numpy() & (got.f1[2].numpy() > 2 * share / (1 + share))
    assert surely.sum() <= 7  # 60 × .025 are expected; .05 gives more than 7 in one of 100 trials
    assert float((got.sizes == 1).double().mean()) > 0.2  # chosen where it grows, four members are taken of nearly all
