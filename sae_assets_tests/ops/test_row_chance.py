"""The null of row figures: what moving keeps, each draw against an exhaustive choice, and its size on noise."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.errors import ArtifactError
from sae_assets.ops.detection_stats import EVALUATED
from sae_assets.ops.row_alignment import align_rows
from sae_assets.ops.row_chance import MOVES, RowNull, moved_rows, row_null
from sae_assets.ops.row_chunks import count_rows
from sae_assets_tests.ops.test_row_alignment import chunk_of, of_rows, split_rows
from sae_assets_tests.reference import row_alignment as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, random_world, worlds


def null(world: World, move: str, units=None, **options) -> RowNull:
    chunks = [chunk_of(world)]
    splits = count_rows(chunks, concepts=world.concepts, n_units=world.n_units, device=options.get("device", "cpu"))
    units = torch.arange(world.n_units) if units is None else torch.tensor(units, dtype=torch.int64)
    return row_null(chunks, splits, units, move=move, **{"n_draws": 3, "seed": 1} | options)


def chosen_f1(cal: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], concept: int) -> list[float]:
    """Cal and test F1 of the exhaustive choice on values [rows, units] and truth [rows, concepts]; NaN is null."""
    unit = reference.best_unit(cal[0], cal[1][:, concept])
    if unit < 0:
        return [np.nan, np.nan]
    threshold = reference.best_threshold(cal[0][:, unit], cal[1][:, concept])
    figures = []
    for values, truth in (cal, test):
        counts = reference.counts_at(values[:, unit], truth[:, concept], threshold)
        figures.append(float(reference.f1(counts)) if truth[:, concept].any() else np.nan)
    return figures


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(max_rows=6), move=st.sampled_from(MOVES), entries=st.sampled_from([1, 2**18]))
def test_every_draw_is_the_exhaustive_choice_on_moved_truth(device, world, move, entries):
    """The figures on the truth as it is, and on that of each draw, made again from the same generator."""
    got = null(world, move, entries_at_once=entries, device=device)
    generator = torch.Generator().manual_seed(1)
    data = {split: split_rows(world, split) for split in EVALUATED}
    lengths = {split: torch.from_numpy(world.lengths[world.examples_in(split)]) for split in EVALUATED}
    for draw in range(3):
        moved = {}
        for split, (values, truth) in data.items():
            moved[split] = values, truth[moved_rows(lengths[split], move, generator).numpy()]
        for concept in range(len(world.concepts)):
            np.testing.assert_allclose(got.observed[:, concept], chosen_f1(data["cal"], data["test"], concept))
            exists = [moved[split][1][:, concept].any() for split in EVALUATED]
            expected = [
                value if there and exists[0] else np.nan
                for value, there in zip(
                    np.nan_to_num(chosen_f1(moved["cal"], moved["test"], concept)), exists, strict=True
                )
            ]
            np.testing.assert_allclose(got.reached[:, concept, draw], expected, rtol=1e-12)


@PROPERTY
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.sampled_from(MOVES), st.integers(0, 99))
def test_moves_are_permutations_that_keep_how_truth_clumps(lengths, move, seed):
    """Shifts keep the order of all rows, around the end; exchanges keep every example's rows together and in order."""
    rows = moved_rows(torch.tensor(lengths), move, torch.Generator().manual_seed(seed)).tolist()
    assert sorted(rows) == list(range(sum(lengths)))
    if move == "shift":
        assert not rows or rows == [(rows[0] + step) % len(rows) for step in range(len(rows))]
        return
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    for start, length in zip(starts, lengths, strict=True):
        run = rows[start : start + length]
        alike = [first for first, other in zip(starts, lengths, strict=True) if other == length]
        assert not run or (run[0] in alike and run == list(range(run[0], run[0] + length)))


def test_all_moves_are_drawn():
    """Of three examples with two rows each, all six orders; of four rows, all four shifts."""
    generator = torch.Generator().manual_seed(0)
    for lengths, move, n in (([2, 2, 2], "exchange", 6), ([3, 1], "shift", 4)):
        assert len({tuple(moved_rows(torch.tensor(lengths), move, generator).tolist()) for _ in range(99)}) == n


def test_the_observed_figures_are_those_of_the_alignment():
    """Over all units the choice is that of ``align_rows``; over one of them it is that unit's."""
    world = random_world(2, n_concepts=3)
    aligned = align_rows([chunk_of(world)], concepts=world.concepts, n_units=world.n_units)
    got = null(world, "exchange").observed
    column = torch.arange(3)
    assert torch.equal(got, aligned.rate("f1")[:, aligned.best_units, column])
    assert torch.equal(null(world, "shift", [4]).observed, aligned.rate("f1")[:, 4])


def test_a_budget_ends_the_draws_and_changes_none():
    """Without time one draw is made; it is the first of the longer run, and the same seed gives the same draws."""
    world = random_world(0)
    short, long = null(world, "exchange", seconds=0.0, n_draws=9), null(world, "exchange", n_draws=9)
    assert (short.n_draws, long.n_draws) == (1, 9) and long.seconds > 0
    assert torch.equal(short.reached[..., 0], long.reached[..., 0])
    assert torch.equal(null(world, "exchange", n_draws=9).reached, long.reached)


@pytest.mark.slow
def test_on_noise_the_observed_figure_is_one_of_the_null():
    """Truth in clumps that no unit knows of: p of cal is at most 0.1 about once in ten worlds, never in most."""
    rng, small = np.random.default_rng(0), 0
    for seed in range(30):
        world = random_world(seed, n_examples=30, rows=1, n_units=5, n_concepts=1)
        example = np.repeat(rng.random((len(world.lengths), 1)) < 0.4, world.lengths, 0)
        noise = dataclasses.replace(world, truth=example, activations=rng.permutation(world.activations))
        got = null(noise, "exchange", n_draws=19)
        small += (1 + (got.reached[0, 0] >= got.observed[0, 0]).sum()) / 20 <= 0.1
    assert small <= 9  # binomial, 30 at 0.1: 99.9 % point


def test_a_unit_that_follows_its_concept_is_far_above_its_null():
    """Values lie on every second example: exchanging truth maps loses them."""
    values = [9.0, 8.0, 0.0, 0.0] * 6
    world = of_rows(values, [1, 1, 0, 0] * 6)
    world = dataclasses.replace(
        world, lengths=np.full(24, 2), splits=("cal",) * 12 + ("test",) * 12, labels=np.ones((24, 1), bool)
    )
    got = null(world, "exchange", n_draws=19)
    assert got.observed.flatten().tolist() == [1, 1] and int((got.reached[0, 0] >= 1).sum()) == 0


def test_what_cannot_be_drawn_is_refused():
    """Unknown moves, no draws, no units."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match="Unknown move 'rotate'"):
        null(world, "rotate")
    for options in ({"n_draws": 0}, {"units": []}):
        with pytest.raises(ArtifactError, match="expected one at least"):
            null(world, "shift", **options)
