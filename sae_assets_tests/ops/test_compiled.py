"""Loops that are compiled where Numba is installed give the same bits as torch, and only large work asks for them.

One process runs these tests: in a clone each would compile the loops anew that no other has finished.
"""

import dataclasses
import functools
import itertools
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops import (
    compiled,
    detection_kernels,
    detection_stats,
    encoding_kernels,
    exact_search,
    example_scores,
    jit,
    rank_sums,
    reconstruction,
    screens,
    search_kernels,
    sieve_kernels,
    sparse_activations,
    thresholds,
    unit_stats,
    value_kernels,
)
from sae_assets.ops.compiled import Loops
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.exact_search import Choices
from sae_assets.ops.example_scores import SCORE_BYTES, LabelledChunk, gather_scores
from sae_assets.ops.segments import AT_ONCE, FAN, linear_quantiles, ordered_sums, pack
from sae_assets.ops.significance import search_null
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder
from sae_assets.ops.thresholds import ENTRY_BYTES
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets_tests.helpers.compiled_loops import expect_compiled
from sae_assets_tests.helpers.ops_of_worlds import calibrate
from sae_assets_tests.ops.codes import assert_bit_equal
from sae_assets_tests.ops.test_dot_products import between_two_floats, ordinary, rounded_by_the_tree
from sae_assets_tests.ops.test_exact_search import sparse
from sae_assets_tests.ops.test_reconstruction import fitted, hostile, problem
from sae_assets_tests.ops.test_sparse_activations import encoder, problems
from sae_assets_tests.strategies import PROPERTY, World, chunkings, random_world, tail_fractions, worlds

pytestmark = [pytest.mark.xdist_group("compiled"), pytest.mark.slow]
MODULES = encoding_kernels, value_kernels, detection_kernels, search_kernels, sieve_kernels
USERS = (unit_stats, thresholds, example_scores, detection_stats, exact_search, rank_sums)


def long_where_compiled(name: str, *pairs: tuple[object, bool]) -> pytest.MarkDecorator:
    """Cases of ``loops`` with each of these values of a parameter; some are compiled with the long tests alone.

    Numba takes seconds for each further type, and all types are compiled from the same lines.
    """
    cases = [pytest.param("interpreted", value) for value, _ in pairs]
    cases += [pytest.param("compiled", value, marks=pytest.mark.long if late else ()) for value, late in pairs]
    return pytest.mark.parametrize(("loops", name), cases, indirect=["loops"])


@pytest.fixture(params=["interpreted", "compiled"], scope="module")
def loops(request: pytest.FixtureRequest) -> Loops:
    """The loops as Python runs them, and as Numba compiles them where it is installed."""
    if request.param == "compiled":
        expect_compiled()
        return Loops(*MODULES)
    python = ({name: getattr(each, "py_func", each) for name, each in vars(module).items()} for module in MODULES)
    return Loops(*(SimpleNamespace(**functions) for functions in python))


@pytest.fixture(scope="module")
def by(loops: Loops) -> Iterator[Callable[[bool], None]]:
    """Lets the ops that have a loop take it, however small the work is, or torch."""
    with pytest.MonkeyPatch.context() as patch:

        def switch(on: bool) -> None:
            for module in USERS:
                patch.setattr(module, "loops_for", lambda *_: loops if on else None)

        yield switch


@PROPERTY
@given(world=worlds(max_rows=6), fractions=tail_fractions, data=st.data())
def test_thresholds_are_the_same_bits(by, world, fractions, data):
    """For any cut into chunks and any memory, through files too."""
    how = {
        "parts": data.draw(chunkings(len(world.lengths))),
        "memory_budget": data.draw(st.sampled_from([0, 3 * ENTRY_BYTES, 20 * ENTRY_BYTES, 2**20])),
    }
    by(False)
    expected = calibrate(world, fractions, **how)
    by(True)
    assert calibrate(world, fractions, **how) == expected


@pytest.mark.parametrize("budget", [500 * ENTRY_BYTES, 2**20])
def test_thresholds_of_many_units_are_the_same_bits(by, budget):
    """Which are written some units at a time: the last ones are fewer, and so are those of a block."""
    world = random_world(3, n_units=90, n_concepts=9)
    fractions = tuple(number / 31 for number in range(1, 31))
    by(False)
    expected = calibrate(world, fractions, memory_budget=budget)
    by(True)
    assert calibrate(world, fractions, memory_budget=budget) == expected


@PROPERTY
@given(world=worlds(max_rows=6), data=st.data())
def test_statistics_of_units_are_the_same_bits(by, world, data):
    """For any cut into chunks and any memory, through files too."""
    parts = [world.take(part) for part in data.draw(chunkings(len(world.lengths)))]
    chunks, budget = [(part.sparse(), part.mask("cal")) for part in parts], data.draw(st.sampled_from([0, 64, 2**20]))
    by(False)
    expected = compute_unit_stats(chunks, world.n_units, memory_budget=budget)
    by(True)
    assert compute_unit_stats(chunks, world.n_units, memory_budget=budget) == expected


@pytest.mark.parametrize("n", [1, FAN, FAN + 1, FAN**2, FAN**2 + 1, FAN**2 + 3 * FAN + 5, 2 * FAN**2 + 7])
def test_sums_of_sums_are_the_same_bits(loops, n):
    """Of as many values as fill blocks of blocks, and of some more, beside a group of none."""
    values = torch.empty(n + 2).log_normal_(0, 4, generator=torch.Generator().manual_seed(n))
    counts, q = torch.tensor([1, 0, n, 1]), torch.tensor([0.95, 1.0], dtype=torch.float64)
    keys = pack(torch.arange(4).repeat_interleave(counts), values).sort().values
    sums, quantiles = torch.zeros(2, 4, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    columns = keys, offsets_of(counts), q, sums, quantiles
    loops.values.sums_and_quantiles(*(column.numpy() for column in columns))
    assert torch.equal(sums, ordered_sums(keys, counts))
    assert torch.equal(quantiles.view(torch.int64), linear_quantiles(keys, counts, q).view(torch.int64))


@PROPERTY
@given(world=worlds(), fractions=tail_fractions, most=st.integers(1, 20), data=st.data())
def test_scores_and_counts_are_the_same_bits(by, world, fractions, most, data):
    """Where scores are equal, in the same order; those that fit and those that go through a file."""
    by(False)
    cutoffs = calibrate(world, fractions)
    budget = data.draw(st.sampled_from([most * SCORE_BYTES, 2**20]))
    expected, counts = _scored(world, budget), count_detections(_gathered(world, budget), cutoffs)
    by(True)
    got = _scored(world, budget)
    for split in EVALUATED:
        for name in ("keys", "starts", "example", "labels"):
            assert torch.equal(getattr(got[split], name), getattr(expected[split], name)), name
    assert count_detections(_gathered(world, budget), cutoffs) == counts
    assert count_detections(got, cutoffs) == counts


@pytest.mark.parametrize("budget", [500 * SCORE_BYTES, 2**20])
def test_counts_of_many_units_are_the_same_bits(by, budget):
    """Which are written some units at a time: the last ones are fewer, and so are those of a block."""
    world = random_world(4, n_units=90, n_concepts=9)
    fractions = tuple(number / 61 for number in range(1, 61))
    by(False)
    cutoffs = calibrate(world, fractions)
    expected = count_detections(_gathered(world, budget), cutoffs)
    by(True)
    assert count_detections(_gathered(world, budget), cutoffs) == expected


def _gathered(world: World, budget: int):
    chunk = LabelledChunk(world.filtered(), world.splits, torch.from_numpy(world.labels))
    return gather_scores([chunk, chunk], n_units=world.n_units, memory_budget=budget)


def _scored(world: World, budget: int):
    return _gathered(world, budget).whole()


@pytest.mark.parametrize("room", [3, 41])
@pytest.mark.parametrize("d", [1, 2, 3, 24, 77, 1024])
def test_chosen_values_are_the_same_bits(loops, d, room):
    """Those that have to be added up by the tree among them, in order, as many as there is room for."""
    for whole in between_two_floats(d), ordinary(d):
        for n in (41, 1, 0):
            columns, norms, bias, rows, norm, unit, row = some = (*whole[:5], *(pairs[:n] for pairs in whole[5:]))
            least = torch.linspace(0, 1, len(columns))
            starts = torch.searchsorted(row, torch.arange(len(rows) + 1))
            units, values = torch.full((n,), -1, dtype=torch.int32), torch.zeros(n)
            l0, mass = torch.zeros(len(rows), dtype=torch.int32), torch.zeros(len(rows), dtype=torch.float64)
            given = starts[:-1], starts[1:], unit, least, columns, norms, bias, rows, norm
            filled = units, values, l0, mass
            loops.encoding.choose(*(each.numpy() for each in given), room, *(each.numpy() for each in filled))
            exact = rounded_by_the_tree(*some)
            for number, (start, stop) in enumerate(itertools.pairwise(starts.tolist())):
                pairs = zip((-exact[start:stop]).tolist(), unit[start:stop].tolist(), strict=True)
                expected = [(-value, u) for value, u in sorted(pairs) if -value > least[u]][:room]
                got = [each[start : start + int(l0[number])].tolist() for each in (values, units)]
                assert list(zip(*got, strict=True)) == expected
                assert mass[number] == functools.reduce(operator.add, (value for value, _ in expected), 0.0)


@pytest.mark.parametrize("n", [1, 2, 3, 11, 100, 5000])
def test_the_kth_largest_is_found(loops, n):
    """Of any order: ascending, descending, all alike, a few distinct ones."""
    rng = np.random.default_rng(n)
    for numbers in (np.arange(n), np.arange(n)[::-1], np.zeros(n, int), rng.integers(0, 5, n), rng.permutation(n)):
        values, ascending = numbers / 7, np.sort(numbers / 7)
        for k in {1, 2, n // 3, n - 1, n} & {*range(1, n + 1)}:
            assert loops.sieve.kth_largest(values.copy(), k) == ascending[n - k]


def test_encoders_ask_for_loops_once_they_have_worked_for_long_together(loops, monkeypatch):
    """As the trained SAE and the random ones beside it; codes are the same before and after."""
    asked = []
    monkeypatch.setattr(Encoder, "n_terms", 0)
    monkeypatch.setattr(sparse_activations, "TERMS_PER_STEP", 1)
    monkeypatch.setattr(sparse_activations, "loops_for", lambda steps, _device: asked.append(steps))
    encoders, x = [TopKEncoder(torch.randn(16, 50), 4) for _ in range(3)], torch.randn(30, 16)
    before = [each.encode(x) for each in encoders]
    assert asked[0] == 0
    assert asked[-1] >= 3 * 30 * 4 * 16
    monkeypatch.setattr(sparse_activations, "loops_for", lambda *_: loops)
    for each, code in zip(encoders, before, strict=True):
        assert_bit_equal(each.encode(x), code)
    assert Encoder.n_terms >= 6 * 30 * 4 * 16


@pytest.mark.parametrize("threads", [1, 3])
@PROPERTY
@given(problem=problems(), bias=st.booleans(), budget=st.sampled_from([1, 2**20]))
def test_codes_are_the_same_bits(loops, threads, problem, bias, budget):
    """Ties, rows without a positive unit and blocks of single rows among them."""
    x, enc, pre_b, k, k_stored = problem
    more = {"bias": torch.linspace(-1, 1, enc.shape[1])} if bias else {}
    made = encoder(enc, k, pre_b, memory_budget=budget, **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_activations, "loops_for", lambda *_: None)
        expected = made.encode(torch.from_numpy(x), k_stored)
        patch.setattr(sparse_activations, "loops_for", lambda *_: loops)
        patch.setattr(compiled, "GRAIN", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        assert_bit_equal(made.encode(torch.from_numpy(x), k_stored), expected)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("k", "spread"), [(1, 0.0), (16, 0.0), (16, 4.0), (300, 0.0)])
def test_codes_of_ordinary_floats_are_the_same_bits(loops, k, spread, precision, monkeypatch):
    """Of candidates that rounding could have swapped, the same are stored, whatever screened them."""
    monkeypatch.setattr(screens, "operands", lambda *_: precision)
    rng = np.random.default_rng(k)
    enc = (rng.normal(size=(77, 300)) * np.exp(rng.normal(size=300) * spread)).astype(np.float32)
    made, x = encoder(enc, k), torch.from_numpy(rng.normal(size=(20, 77)).astype(np.float32))
    monkeypatch.setattr(sparse_activations, "loops_for", lambda *_: None)
    expected = made.encode(x)
    monkeypatch.setattr(sparse_activations, "loops_for", lambda *_: loops)
    assert_bit_equal(made.encode(x), expected)


@pytest.mark.parametrize("threads", [1, 3])
@PROPERTY
@given(hostile(), st.integers(1, 4))
def test_fits_are_the_same_bits(loops, threads, made, times):
    """Of subnormal and of the largest rows, and of rows on which nothing is active."""
    x, code, decoder = made
    expected = fitted(decoder, *[(x, code)] * times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconstruction, "loops_for", lambda *_: loops)
        patch.setattr(compiled, "GRAIN", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        assert fitted(decoder, *[(x, code)] * times) == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_asks_for_loops_once_it_has_worked_for_long(loops, seed, monkeypatch):
    """Its sums are the same before and after."""
    asked = []
    monkeypatch.setattr(reconstruction, "TERMS_PER_STEP", 1)
    monkeypatch.setattr(reconstruction, "loops_for", lambda steps, _device: asked.append(steps))
    x, code, decoder = problem(seed)
    before = fitted(decoder, (x, code), (x, code))
    assert asked == [len(code.values) * decoder.d_model, 2 * len(code.values) * decoder.d_model]
    monkeypatch.setattr(reconstruction, "loops_for", lambda *_: loops)
    assert fitted(decoder, (x, code), (x, code)) == before


@long_where_compiled("sizes", ((120, 4), False), ((121, 4), False), ((40, 30), False), ((12, 260), True))
def test_many_continuous_values_are_the_same_bits(by, sizes):
    """Where quantiles interpolate, rows have more concepts than are dealt out at once, and these are many."""
    n_examples, n_concepts = sizes
    world = random_world(n_concepts, n_examples=n_examples, n_concepts=n_concepts, n_units=max(12, n_concepts))
    world = World(world.activations[:, :12], world.lengths, world.splits, world.truth, world.labels)
    by(False)
    cutoffs = calibrate(world)
    counts = count_detections(_gathered(world, 2**20), cutoffs)
    by(True)
    assert calibrate(world) == cutoffs
    assert count_detections(_gathered(world, 2**20), cutoffs) == counts


def test_a_null_of_either_sign_detects_nothing(by):
    """What a processor makes of 0 / 0 has a sign, unlike the null that torch writes."""
    world = random_world(0)
    cutoffs = calibrate(world, (0.1, 0.5))
    values = cutoffs.values.clone()
    values[:, 0], cutoffs.n_positive[:, 0] = -torch.nan, 0
    assert bool(values[:, 0].signbit().all())
    null = dataclasses.replace(cutoffs, values=values)
    by(False)
    expected = count_detections(_gathered(world, 2**20), null)
    assert not bool(expected.true_positives[:, :, 0].any()) and bool(expected.true_positives.any())
    by(True)
    assert count_detections(_gathered(world, 2**20), null) == expected


@long_where_compiled("most_narrow", (0, True), (exact_search.MOST_NARROW, False))
@settings(PROPERTY, max_examples=PROPERTY.max_examples // 2)
@given(world=worlds(), truths=st.integers(1, 9), most=st.integers(1, 3), support=st.integers(1, 3), data=st.data())
def test_searches_are_the_same_bits(by, most_narrow, world, truths, most, support, data):
    """Of any number of truths, together and some at a time, also where positives are counted in more bits."""
    scores = _scored(world, 2**20)["cal"]
    n = len(scores.labels)
    cells = data.draw(st.lists(st.booleans(), min_size=n * truths, max_size=n * truths))
    truth, found = torch.tensor(cells, dtype=torch.bool).view(n, truths), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "MOST_NARROW", most_narrow)
        patch.setattr(exact_search, "TRUTHS_TOGETHER", most)
        for on in (False, True):
            by(on)
            search = exact_search.ExactSearch(scores, min_support=support)
            search.by_torch.truths_at_once = most
            found.append(search.best(truth))
    _assert_same(*found)


def _assert_same(one: Choices, other: Choices) -> None:
    for name in ("units", "lengths", "hits"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("levels", [2, 10**6])
@pytest.mark.parametrize("loops", ["compiled"], indirect=True)
def test_searches_of_long_lists_are_the_same_bits(by, levels):
    """Of units that fire on all examples and on few, with equal scores and without, and of truths of no, few and all
    examples, that follow a unit or nothing."""
    rng = np.random.default_rng(levels)
    n = 700
    share = np.concatenate([np.ones(5), np.linspace(0, 1, 40) ** 3])
    dense = (rng.integers(1, levels + 1, (n, len(share))) * (rng.random((n, len(share))) < share)).astype(np.float32)
    truths = rng.random((n, 150)) < np.linspace(0, 1, 150)
    truths[:, ::7] = dense[:, rng.integers(0, len(share), len(range(0, 150, 7)))] > levels / 2
    search, truth = exact_search.ExactSearch(sparse(dense, truths), min_support=2), torch.from_numpy(truths)
    by(False)
    expected = search.best(truth)
    by(True)
    _assert_same(search.best(truth), expected)
    f1 = expected.f1(truth.sum(0))
    _assert_same(search.best(truth, f1), expected)
    assert bool((search.best(truth, f1 + 0.1).units < 0).any())  # which nobody looked for


def test_ranks_are_the_same_bits(by):
    """Of runs of odd and of even lengths, of which nothing, a part or all is detected."""
    rng = np.random.default_rng(4)
    dense = (rng.integers(1, 9, (90, 8)) * (rng.random((90, 8)) < np.linspace(0.1, 1, 8))).astype(np.float32)
    scores = sparse(dense, np.zeros((90, 1), bool))
    generator, n = torch.Generator().manual_seed(0), 60
    truths = torch.rand(len(scores.labels), n, generator=generator) < torch.linspace(0, 1, n)
    units = torch.arange(n) % (len(scores.starts) - 1)
    lengths = scores.starts.diff()[units]
    detected = (lengths * torch.linspace(0, 1, n)).long()
    assert len({int(each) % 2 for each in lengths}) == 2
    excess, found = rank_sums.midrank_excess(scores), []
    for on in (False, True):
        by(on)
        found.append(rank_sums.rank_sums(scores, excess, units, detected, truths, truths.sum(0)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_search_asks_for_loops_once_it_has_worked_for_long(monkeypatch):
    """Whatever it searched for."""
    asked = []
    monkeypatch.setattr(exact_search, "TRUTHS_PER_STEP", 1)
    monkeypatch.setattr(exact_search, "loops_for", lambda steps, _device: asked.append(steps))
    search, truths = exact_search.ExactSearch(_scored(random_world(0), 2**20)["cal"]), random_world(0).labels
    truths = torch.from_numpy(truths)[: len(search.scores.labels)]
    search.best(truths)
    first = len(asked)
    search.best(truths)
    assert asked == sorted(asked) and 0 < asked[first - 1] < asked[first]


@pytest.mark.parametrize(("n_examples", "family"), [(60, "max-t"), (60, "holm"), (900, "max-t")])
def test_nulls_are_the_same_bits(by, n_examples, family):
    """With lists of many blocks and of few, and with more positives than a byte counts."""
    world = random_world(3, n_examples=n_examples, n_concepts=3)
    scores, found = _scored(world, 2**20), []
    for on in (False, True):
        by(on)
        null = dataclasses.asdict(search_null(scores, n_shuffles=20, family=family))
        found.append({name: each for name, each in null.items() if name != "seconds"})
    for name, expected in found[0].items():
        if name == "family":
            assert expected == found[1][name]
            continue
        assert torch.equal(*(torch.as_tensor(each).nan_to_num(-9) for each in (expected, found[1][name]))), name


@long_where_compiled("half", (8, False), (16, False), (32, True))
def test_counts_of_any_type_are_the_same_bits(by, half, monkeypatch):
    """Of as many examples as fit in a byte, and as if there were more; with scores of one split alone, too."""
    world = random_world(5, n_examples=90, n_concepts=5)
    cutoffs = calibrate(world)
    scores = _scored(world, 2**20)
    by(False)
    expected = count_detections(scores, cutoffs)
    monkeypatch.setattr(detection_stats, "HALVES", {half: detection_stats.HALVES[half]})
    for on in (False, True):
        by(on)
        assert count_detections(scores, cutoffs) == expected


@pytest.mark.parametrize(
    ("loops", "n_examples", "cells"),
    [
        ("interpreted", 500, 1),
        ("compiled", 500, 1),
        ("compiled", 1100, detection_stats.CELLS_AT_ONCE),
    ],
    indirect=["loops"],
)
def test_counts_of_many_examples_are_the_same_bits(by, n_examples, cells, monkeypatch):
    """Of which a byte holds no more than a part; units are counted one by one, together, and some alone."""
    monkeypatch.setattr(detection_stats, "CELLS_AT_ONCE", cells)
    world = random_world(6, n_examples=n_examples, n_concepts=3, n_units=70)
    by(False)
    cutoffs = calibrate(world)
    expected = count_detections(_gathered(world, 2**20), cutoffs)
    by(True)
    assert calibrate(world) == cutoffs
    assert count_detections(_gathered(world, 2**20), cutoffs) == expected


@pytest.mark.parametrize("on", [False, True])
def test_thresholds_that_rise_are_found_when_they_are_counted(by, on):
    """Though nobody had looked before."""
    world = random_world(1)
    by(on)
    cutoffs = calibrate(world, (0.1, 0.9))
    rising = dataclasses.replace(cutoffs, values=cutoffs.values.flip(-1), examined=True)
    assert not torch.equal(rising.values.nan_to_num(), cutoffs.values.nan_to_num())
    with pytest.raises(ArtifactError, match="must not fall as the tail fraction grows"):
        count_detections(_gathered(world, 2**20), rising)


def test_values_that_are_not_sorted_or_not_positive_are_found(loops):
    """So that thresholds are looked at."""
    tags, starts, truth = torch.zeros(3, dtype=torch.int32), torch.tensor([0, 3]), torch.zeros(AT_ONCE + 2).byte()
    q, n_positive, out = torch.tensor([0.5]).double(), torch.zeros(2, 1).long(), torch.zeros(2).double()
    for values, expected in (([1.0, 2.0, 2.0], True), ([2.0, 1.0, 2.0], False), ([0.0, 1.0, 2.0], False)):
        keys = pack(torch.zeros(3).long(), torch.tensor(values))
        columns = keys, tags, starts, truth, q, n_positive, out
        assert loops.values.quantiles_by_concept(*(column.numpy() for column in columns), 0) == expected


@pytest.fixture
def fresh() -> Iterator[None]:
    """As in a process that has not asked for loops, then as before."""
    compiled._load.cache_clear()
    yield
    compiled._load.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_only_work_that_is_worth_it_asks_for_loops(monkeypatch):
    """Less once they are there; never on a GPU, nor where Numba is missing."""
    monkeypatch.setattr(jit, "COMPILED", True)
    assert compiled.loops_for(compiled.FIRST - 1) is None
    assert compiled.loops_for(compiled.FIRST, "cuda") is None
    loops = Loops(*MODULES)
    assert compiled.loops_for(compiled.FIRST) == compiled.loops_for(compiled.FURTHER) == loops
    assert compiled.loops_for(compiled.FURTHER - 1) is None
    compiled._load.cache_clear()
    monkeypatch.setattr(jit, "COMPILED", False)
    assert compiled.loops_for(compiled.FIRST) is None


ASKED = "from sae_assets.ops import compiled; print(compiled.loops_for(compiled.FIRST) is not None)"


def test_small_work_does_not_load_numba_and_large_work_does():
    """In a process of its own."""
    code = (
        "import sys; from sae_assets_tests.helpers.ops_of_worlds import calibrate;"
        "from sae_assets_tests.strategies import random_world; calibrate(random_world(0));"
        f"print('numba' in sys.modules, 'sae_assets.ops.jit' in sys.modules); {ASKED}"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "False", str(jit.COMPILED)]


@pytest.mark.long
def test_numba_that_is_told_not_to_compile_is_not_used(monkeypatch):
    """Interpreted, loops would take a hundred times as long as torch."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    found = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "False"
