"""Unit statistics against the dense reference, for any chunking and any budget."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts import FilteredActivations
from sae_assets.errors import ArtifactError
from sae_assets.ops.segments import ordered_sums, pack
from sae_assets.ops.unit_stats import compute_unit_stats, rows_of
from sae_assets_tests.helpers.ops_of_worlds import cut, many_rows
from sae_assets_tests.reference import unit_stats as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, chunkings, random_world, worlds


def chunks_of(world: World, parts=None) -> list:
    taken = [world] if parts is None else [world.take(part) for part in parts]
    return [(part.sparse(), part.mask("cal")) for part in taken]


class Counted(list):
    """A list that counts how often it is gone through."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


def assert_matches(stats, expected) -> None:
    assert stats.n_rows == expected["n_rows"]
    np.testing.assert_array_equal(stats.n_active.numpy(), expected["n_active"])
    np.testing.assert_array_equal(stats.max.numpy(), expected["max"])
    pairs = {"sum": stats.total, "sum_sq": stats.total_sq} | {
        name: getattr(stats, name) for name in ("p95", "p99", "mean")
    }
    for name, got in pairs.items():
        np.testing.assert_allclose(got.numpy(), expected[name], rtol=1e-12, atol=0, err_msg=name)
    np.testing.assert_allclose(stats.selectivity.numpy(), expected["selectivity"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(max_rows=6))
def test_statistics_are_those_of_the_dense_calibration_rows(device, world):
    """Counts and maxima are equal, quantiles and sums agree to 1e-12; other splits do not enter."""
    got = compute_unit_stats(chunks_of(world), world.n_units, device=device)
    assert_matches(got, reference.unit_stats(world.activations[world.rows_in("cal")]))


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_many_continuous_values(seed):
    """The same where quantiles interpolate between many different values."""
    world = random_world(seed, n_examples=120, n_units=20)
    got = compute_unit_stats(chunks_of(world), world.n_units)
    assert_matches(got, reference.unit_stats(world.activations[world.rows_in("cal")]))


@PROPERTY
@given(worlds())
def test_density_is_an_exact_share_of_the_calibration_rows(world):
    """n_active / n_cal_rows in float64, as every other statistic."""
    got = compute_unit_stats(chunks_of(world), world.n_units).density
    expected = reference.unit_stats(world.activations[world.rows_in("cal")])["density"]
    assert got.dtype == torch.float64
    np.testing.assert_array_equal(got.numpy(), expected)


@PROPERTY
@given(worlds(), st.data())
def test_chunking_and_order_change_nothing(world, data):
    """Cutting the examples into chunks in any order gives the same bits, sums included."""
    parts = data.draw(chunkings(len(world.lengths)))
    whole = compute_unit_stats(chunks_of(world), world.n_units)
    assert compute_unit_stats(chunks_of(world, parts), world.n_units) == whole


@PROPERTY
@given(worlds(), st.integers(0, 400))
def test_the_memory_budget_changes_nothing(world, budget):
    """However few values are held at once, the result is the same bits."""
    whole = compute_unit_stats(chunks_of(world), world.n_units)
    assert compute_unit_stats(chunks_of(world), world.n_units, memory_budget=budget) == whole


@pytest.mark.parametrize("budget", [1, 2**28])
def test_chunks_are_gone_through_once_whatever_the_budget(budget):
    """What does not fit goes through a file and not over the chunks again."""
    world = random_world(1)
    chunks = Counted(chunks_of(world))
    assert compute_unit_stats(chunks, world.n_units, memory_budget=budget).n_active.sum() > 1
    assert chunks.passes == 1


@pytest.mark.slow
@pytest.mark.parametrize("n_chunks", [1, 27, 500])
def test_many_chunks_are_one_global_sort(n_chunks):
    """Bit-equal to one chunk and to numpy's one sort of all values; sums to 1e-12 of the exactly rounded ones."""
    world = many_rows(500)
    got = compute_unit_stats(chunks_of(world, cut(500, n_chunks)), world.n_units, memory_budget=24 * 1000)
    assert got == compute_unit_stats(chunks_of(world), world.n_units)
    assert_matches(got, reference.unit_stats(world.activations[world.rows_in("cal")]))


@pytest.mark.long
@pytest.mark.slow
def test_quantiles_over_17_million_values_of_one_unit():
    """More than torch.quantile long took (2^24): exact, from 17 chunks read one at a time."""
    n, times = 10**6, 17
    values = np.random.default_rng(0).lognormal(size=n).astype(np.float32)
    rows = torch.arange(n + 1)
    chunk = FilteredActivations(0, torch.tensor([0, n]), rows, torch.zeros(n).int(), torch.from_numpy(values), 1, 1)
    stats = compute_unit_stats([(chunk, torch.tensor([True]))] * times, 1)
    every = np.sort(values.astype(np.float64)).repeat(times)
    assert stats.n_active.tolist() == [n * times] and stats.max.item() == every[-1]
    assert [stats.p95.item(), stats.p99.item()] == np.quantile(every, [0.95, 0.99], overwrite_input=True).tolist()
    assert stats.total.item() == pytest.approx(times * math.fsum(values.tolist()), rel=1e-13)


def test_sums_of_values_of_all_sizes_are_exact_to_1e_12():
    """Where naive float32 sums are off by more than the values themselves, float64 ones in blocks are not."""
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_cauchy(300_000) * np.exp(8 * rng.normal(size=300_000))).astype(np.float32)
    values = np.sort(values[values > 0])
    counts = torch.tensor([0, 1, 70_000, 0, len(values) - 70_002, 1, 0])
    groups = np.repeat(np.arange(7), counts)
    order = np.lexsort((values, groups))
    keys = pack(torch.from_numpy(groups), torch.from_numpy(values[order]))
    for row, power in enumerate((1, 2)):
        got = ordered_sums(keys, counts)[row].tolist()
        expected = [math.fsum((values[groups == group].astype(float) ** power).tolist()) for group in range(7)]
        np.testing.assert_allclose(got, expected, rtol=2e-13, atol=0)


def test_sums_do_not_depend_on_the_order_of_rows():
    """Values whose sum depends on the order of addition give the same sum for every order of examples."""
    rng = np.random.default_rng(0)
    values = rng.lognormal(sigma=9, size=200).astype(np.float32)[:, None]
    every = np.ones(200, int)
    world = World(values, every, ("cal",) * 200, np.zeros((200, 1), bool), np.zeros((200, 1), bool))
    assert len({float(np.cumsum(rng.permutation(values.astype(float)))[-1]) for _ in range(20)}) > 1
    totals = {float(compute_unit_stats(chunks_of(world, [rng.permutation(200)]), 1).total[0]) for _ in range(5)}
    assert len(totals) == 1


def test_a_silent_unit_has_nulls_and_never_zeros():
    """Undefined is NaN; counts and sums are true zeros."""
    world = World(
        np.array([[0, 1], [0, 2]], np.float32), np.array([2]), ("cal",), np.zeros((2, 1), bool), np.zeros((1, 1), bool)
    )
    stats = compute_unit_stats(chunks_of(world), 2)
    for name in ("max", "p95", "p99", "mean", "selectivity"):
        assert bool(getattr(stats, name)[0].isnan()) and not bool(getattr(stats, name)[1].isnan())
    assert stats.n_active.tolist() == [0, 2] and float(stats.total[0]) == float(stats.density[0]) == 0


def test_selectivity_spans_one_row_to_all_rows_alike():
    """1 for a unit that fires on a single row, 0 for one that is the same everywhere, null for a single row."""
    dense = np.array([[5, 2, 1], [0, 2, 0], [0, 2, 1], [0, 2, 0]], np.float32)
    world = World(dense, np.array([4]), ("cal",), np.zeros((4, 1), bool), np.zeros((1, 1), bool))
    one, flat, half = compute_unit_stats(chunks_of(world), 3).selectivity.tolist()
    assert one == pytest.approx(1, abs=1e-15) and flat == pytest.approx(0, abs=1e-15)
    assert half == pytest.approx((1 - 0.5) / 0.75)
    single = World(dense[:1], np.array([1]), ("cal",), np.zeros((1, 1), bool), np.zeros((1, 1), bool))
    assert bool(compute_unit_stats(chunks_of(single), 3).selectivity.isnan().all())


@PROPERTY
@given(worlds(), st.data())
def test_rows_of_other_splits_do_not_matter(world, data):
    """Replacing every row outside cal leaves every bit."""
    before = compute_unit_stats(chunks_of(world), world.n_units)
    changed = np.where(world.rows_in("cal")[:, None], world.activations, data.draw(st.sampled_from((0, 7, 1e30))))
    other = World(changed.astype(np.float32), world.lengths, world.splits, world.truth, world.labels)
    assert compute_unit_stats(chunks_of(other), world.n_units) == before


def test_without_calibration_rows_there_is_an_error():
    """Neither no chunk at all nor chunks of other splits have statistics."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match="no calibration rows"):
        compute_unit_stats([(world.sparse(), torch.zeros(len(world.lengths), dtype=torch.bool))], world.n_units)
    with pytest.raises(ArtifactError, match="no calibration rows"):
        compute_unit_stats([], world.n_units)


def test_a_chunk_of_another_width_is_refused():
    """Both widths are named."""
    world = random_world(0)
    with pytest.raises(ArtifactError, match="12 units, expected 13"):
        compute_unit_stats(chunks_of(world), 13)


def test_a_mask_of_another_chunk_is_refused():
    """Both numbers of examples are named."""
    with pytest.raises(ArtifactError, match="60 examples, but 59 splits"):
        rows_of(random_world(0).sparse(), torch.ones(59, dtype=torch.bool))
