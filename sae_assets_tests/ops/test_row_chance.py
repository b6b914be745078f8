"""The null of row figures: what exchanges keep, each draw against dense rows, and how often noise is rejected."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sae_assets.errors import ArtifactError
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.held_out_null import shuffle_held_out
from sae_assets.ops.row_chance import (
    NEIGHBOURS,
    PairRows,
    draw_donors,
    exchange_maps,
    groups_of_lengths,
    row_intervals,
    rows_of_pairs,
)
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.truth_sets import truth_sets
from sae_assets_tests.reference import row_alignment as reference
from sae_assets_tests.strategies import PROPERTY, World, chunkings, worlds


def chunk_of(world: World) -> RowChunk:
    return RowChunk(world.sparse(), world.ground_truth(), world.splits)


def pair_rows(world: World, units: list[int], thresholds: list[float], parts=None, located=None) -> PairRows:
    """The test rows of pairs, one per concept."""
    parts = [list(range(len(world.lengths)))] if parts is None else parts
    where = torch.ones(len(units), dtype=torch.bool) if located is None else torch.tensor(located)
    cutoffs = torch.tensor(thresholds, dtype=torch.float64)
    return rows_of_pairs([chunk_of(world.take(part)) for part in parts], torch.tensor(units), cutoffs, where)


def stretched(maps: list[np.ndarray], lengths: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Truth of all rows [rows, concepts] where each example has its donor's map, row after row."""
    parts = [
        maps[donor][(2 * row + 1) * lengths[donor] // (2 * length)][None]
        for length, donor in zip(lengths.tolist(), donors.tolist(), strict=True)
        for row in range(length)
    ]
    return np.concatenate([np.zeros((0, maps[0].shape[1]), bool), *parts])


@PROPERTY
@given(world=worlds(max_rows=6), data=st.data())
def test_every_draw_is_that_of_dense_rows(world, data):
    """Null and p from truth that is moved row by row, with the same donors; chunks change nothing."""
    n_concepts, test = len(world.concepts), world.examples_in("test") & (world.lengths > 0)
    units = data.draw(st.lists(st.integers(-1, world.n_units - 1), min_size=n_concepts, max_size=n_concepts))
    thresholds = [data.draw(st.sampled_from([0.5, 1.0, 2.0])) if unit >= 0 else np.nan for unit in units]
    rows = pair_rows(world, units, thresholds)
    cut = pair_rows(world, units, thresholds, data.draw(chunkings(len(world.lengths))))
    got, again = (exchange_maps(each, n_draws=9, seed=3) for each in (rows, cut))
    for field in dataclasses.fields(got):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(again, field.name))
    lengths, inside = world.lengths[test], world.rows_in("test")
    values, truth = world.activations[inside], world.truth[inside]
    maps = np.split(truth, np.cumsum(lengths)[:-1]) if len(lengths) else []
    groups, generator = groups_of_lengths(torch.from_numpy(lengths).long()), torch.Generator().manual_seed(3)
    donors = [np.arange(len(lengths)), *draw_donors(groups, 9, generator).numpy()]
    f1 = np.zeros((n_concepts, 10))
    for draw, each in enumerate(donors):
        moved = stretched(maps, lengths, each) if len(lengths) else truth
        for concept, (unit, threshold) in enumerate(zip(units, thresholds, strict=True)):
            column = values[:, unit] if unit >= 0 else np.zeros(len(values))
            counts = reference.counts_at(column, moved[:, concept], None if unit < 0 else threshold)
            f1[concept, draw] = float(reference.f1(counts))
            if not draw:
                assert tuple(rows.counts[concept].sum(0).tolist()) == counts
    ties = torch.rand(n_concepts, 10, dtype=torch.float64, generator=generator).numpy()
    for concept, unit in enumerate(units):
        fires = unit >= 0 and bool((values[:, unit] >= thresholds[concept]).any())
        there, moves = bool(truth[:, concept].any()), len(set(f1[concept])) > 1
        better = (f1[concept, 1:] > f1[concept, 0]) | (
            (f1[concept, 1:] == f1[concept, 0]) & ((ties[concept, 1:] >= ties[concept, 0]) | (not fires))
        )
        np.testing.assert_allclose(got.null_f1[concept, 0], f1[concept, 1:].mean() if there else np.nan)
        expected = (1 + better.sum()) / 10 if there and (moves or not fires) else np.nan
        np.testing.assert_allclose(got.p[concept], expected)


@PROPERTY
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 99))
def test_maps_move_among_neighbours_in_length(lengths, seed):
    """Equal lengths share a group, no group is small while others exist, and groups do not overlap in length."""
    each = torch.tensor(lengths, dtype=torch.int64)
    group = groups_of_lengths(each)
    sizes = torch.bincount(group)
    assert len(sizes) <= 1 or int(sizes.min()) >= NEIGHBOURS
    spans = sorted((int(each[group == number].min()), int(each[group == number].max())) for number in group.unique())
    assert all(one[1] < two[0] for one, two in itertools.pairwise(spans))
    donors = draw_donors(group, 1, torch.Generator().manual_seed(seed))[0]
    assert sorted(donors.tolist()) == list(range(len(lengths))) and torch.equal(group[donors], group)


def test_all_exchanges_are_drawn():
    """Of three examples of one group, all six orders, equally often."""
    generator = torch.Generator().manual_seed(0)
    orders = [tuple(order) for order in draw_donors(torch.zeros(3, dtype=torch.int64), 600, generator).tolist()]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 0.001


def clumped(rng: np.random.Generator, lengths: np.ndarray, kind: str) -> np.ndarray:
    """Rows in clumps: whole examples, spans somewhere, or the first rows."""
    parts = []
    for length in lengths.tolist():
        part = np.zeros(length, bool)
        if rng.random() < 0.4:
            first = 0 if kind == "first rows" else int(rng.integers(length))
            part[first : length if kind == "whole" else first + int(rng.integers(1, 6))] = True
            part |= kind == "whole"
        parts.append(part)
    return np.concatenate(parts)


def of_rows(lengths: np.ndarray, truth: np.ndarray, fires: np.ndarray) -> PairRows:
    """One concept and one pair on rows [rows] of bool; counts per example are left out."""
    offsets, rows = torch.from_numpy(np.append(0, truth.cumsum())), torch.from_numpy(fires.nonzero()[0])
    sets = truth_sets(offsets, torch.zeros(int(truth.sum()), dtype=torch.int64), 1)
    one = torch.ones(1, dtype=torch.bool)
    counts = torch.zeros(1, len(lengths), 3, dtype=torch.int64)
    return PairRows(sets, torch.from_numpy(lengths), torch.zeros_like(rows), rows, counts, one, one)


@pytest.mark.long
@pytest.mark.slow
def test_size(lengths="texts", sets: int = 180, draws: int = 39, seed: int = 0) -> None:
    """Clumps of a unit that have nothing to do with those of the concept are rejected at .05 about as often."""
    rng, rejected = np.random.default_rng(seed), 0
    kinds = ("whole", "spans", "first rows")
    for number in range(sets):
        each = rng.lognormal(3, 0.7, 50).astype(int).clip(2, 200) if lengths == "texts" else np.full(50, 16)
        truth, fires = (clumped(rng, each, kinds[place]) for place in (number % 3, number // 3 % 3))
        rejected += float(exchange_maps(of_rows(each, truth, fires), n_draws=draws, seed=number).p) <= 0.05
    assert stats.binom(sets, 0.04).ppf(0.0005) <= rejected <= stats.binom(sets, 0.06).ppf(0.9995)


@pytest.mark.long
@pytest.mark.slow
def test_size_of_images():
    """The same where all examples have as many rows."""
    test_size("images", seed=1)


def test_what_stands_beside_the_concept_is_chance_on_rows_alone():
    """A unit fires in just the examples that show the concept, on the row below it: by examples it is certain."""
    rng = np.random.default_rng(0)
    truth, fires = np.zeros((2, 40, 8), bool)
    for example in np.flatnonzero(rng.random(40) < 0.5):
        place = rng.integers(0, 7)
        truth[example, place], fires[example, place + 1] = True, True
    world = World(
        np.stack([fires.ravel(), truth.ravel()], 1).astype(np.float32), np.full(40, 8), ("test",) * 40,
        truth.reshape(-1, 1), truth.any(1)[:, None],
    )  # fmt: skip
    chunk = LabelledChunk(world.sparse(), ("cal",) * 40, torch.from_numpy(world.labels))
    scores = score_examples([dataclasses.replace(chunk, splits=world.splits)], n_units=2)["test"]
    one, half = torch.zeros(1, dtype=torch.int64), torch.full((1,), 0.5, dtype=torch.float64)
    by_examples = shuffle_held_out(scores, one, half, torch.ones(1, dtype=torch.bool), n_shuffles=199)
    beside, on = (exchange_maps(pair_rows(world, [unit], [0.5]), n_draws=199) for unit in (0, 1))
    assert float(by_examples.p) == float(on.p) == 1 / 200
    assert float(beside.p) > 0.3


def test_where_there_is_no_p():
    """Maps that are all alike, concepts without rows or without places; a unit that fires nowhere has p = 1."""
    truth = np.array([[1, 1, 0, 1], [0, 0, 0, 0]] * 9, bool)
    values = np.array([[1.0], [0.0]] * 9, np.float32)
    values[0] = 0
    world = World(values, np.full(9, 2), ("test",) * 9, truth, truth[::2])
    got = exchange_maps(pair_rows(world, [0, 0, 0, -1], [0.5, 0.5, 0.5, np.nan], located=[True, False, True, True]),
                        n_draws=19)  # fmt: skip
    assert got.p[:3].isnan().all() and float(got.p[3]) == 1 and float(got.null_f1[3, 1]) == 0
    rows = pair_rows(world, [0, 0, 0, -1], [0.5, 0.5, 0.5, np.nan], located=[True, False, True, True])
    assert row_intervals(rows).isnan().any(1).tolist() == [False, True, True, False]
    assert exchange_maps(rows, n_draws=0).p.isnan().all()


def test_no_chunks_are_refused():
    """Without chunks nothing is known of rows."""
    with pytest.raises(ArtifactError, match="no chunks"):
        rows_of_pairs([], torch.tensor([0]), torch.ones(1).double(), torch.ones(1, dtype=torch.bool))
