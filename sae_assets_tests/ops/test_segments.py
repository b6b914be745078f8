"""Packed sorting, exact quantiles of runs, and the plan of blocks."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.ops import segments
from sae_assets.ops.segments import BITS, cut_blocks, linear_quantiles, pack, pack_descending, sort_tagged, unpack
from sae_assets_tests.strategies import DENORMAL, HUGE, PROPERTY

positive = st.floats(min_value=DENORMAL, max_value=HUGE, width=32, allow_subnormal=True)
grouped = st.lists(st.tuples(st.integers(0, 2**20), positive), max_size=30)


@PROPERTY
@given(grouped)
def test_packed_keys_sort_by_group_then_value(pairs):
    """Sorting the int64 keys is sorting the pairs, and unpacking gives back every bit."""
    groups = torch.tensor([group for group, _ in pairs], dtype=torch.int64)
    values = torch.tensor([value for _, value in pairs], dtype=torch.float32)
    got_groups, got_values = unpack(pack(groups, values).sort().values)
    assert list(zip(got_groups.tolist(), got_values.tolist(), strict=True)) == sorted(pairs)
    order = pack_descending(groups, values).sort(stable=True).indices.tolist()
    assert order == sorted(range(len(pairs)), key=lambda i: (pairs[i][0], -pairs[i][1]))


@PROPERTY
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 77, 2**31 - 1])), max_size=20
    ),
    st.sampled_from([0, 28, 29]),
    st.integers(1, 4),
)
def test_tagged_keys_sort_by_key_then_tag(triples, high, at_once):
    """Where a key and its tag fit 64 bits together, and where the keys have to be parted for that."""
    keys = torch.tensor([group << BITS + high | bits for group, bits, _ in triples], dtype=torch.int64)
    tags = torch.tensor([tag for _, _, tag in triples], dtype=torch.int32)
    expected = sorted(zip(keys.tolist(), tags.tolist(), strict=True))
    with patch.object(segments, "SLICE", at_once):
        got_keys, got_tags = sort_tagged(keys.clone(), tags.clone())
    assert (got_keys.dtype, got_tags.dtype) == (torch.int64, torch.int32)
    assert list(zip(got_keys.tolist(), got_tags.tolist(), strict=True)) == expected


@PROPERTY
@given(
    st.lists(st.lists(positive, max_size=8), min_size=1, max_size=5),
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=4),
)
def test_quantiles_of_runs_are_numpys(runs, fractions):
    """Each run's quantiles equal numpy's linear ones; an empty run has none."""
    ordered = torch.tensor([value for run in runs for value in sorted(run)], dtype=torch.float32)
    counts = torch.tensor([len(run) for run in runs])
    got = linear_quantiles(ordered, counts, torch.tensor(fractions, dtype=torch.float64))
    assert got.dtype == torch.float64 and got.shape == (len(runs), len(fractions))
    for run, row in zip(runs, got.numpy(), strict=True):
        if run:
            np.testing.assert_allclose(row, np.quantile(np.array(run, np.float64), fractions), rtol=1e-12, atol=0)
        else:
            assert np.isnan(row).all()


def test_quantiles_are_the_same_however_many_groups_are_taken_together(monkeypatch):
    """Runs of 0 to 6 values, three at a time and all at once, into a new tensor and into one that is given."""
    counts = torch.tensor([3, 0, 1, 6, 0, 2, 4, 5, 0])
    ordered = torch.cat([torch.rand(int(n)).sort().values for n in counts])
    q = torch.tensor([0.0, 0.3, 0.95, 1.0], dtype=torch.float64)
    whole = linear_quantiles(ordered, counts, q)
    monkeypatch.setattr(segments, "GROUPS_AT_ONCE", 3)
    out = torch.zeros(len(counts), len(q), dtype=torch.float64)
    assert linear_quantiles(ordered, counts, q, out=out) is out
    assert torch.equal(out.nan_to_num(-1), whole.nan_to_num(-1))


def test_quantiles_of_more_values_than_float32_counts():
    """17 million different values in one run: beyond 2^24, where ranks in float32 would skip, they are numpy's."""
    n, q = 17_000_000, [0.02, 0.5, 0.95, 0.99]
    ordered = torch.arange(0x3F000000, 0x3F000000 + n, dtype=torch.int32).view(torch.float32)  # ascending from 0.5 on
    got = linear_quantiles(ordered, torch.tensor([n]), torch.tensor(q, dtype=torch.float64))
    np.testing.assert_array_equal(got[0], np.quantile(ordered.numpy().astype(np.float64), q, overwrite_input=True))


@PROPERTY
@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 20))
def test_blocks_cover_all_groups_within_the_bound(counts, bound):
    """Blocks are contiguous and complete; one exceeds the bound only if a single group does by itself."""
    blocks = list(cut_blocks(torch.tensor(counts, dtype=torch.int64), bound))
    assert [group for start, stop in blocks for group in range(start, stop)] == list(range(len(counts)))
    for start, stop in blocks:
        assert start < stop
        inside = [count for count in counts[start:stop] if count]
        assert sum(inside) <= bound or len(inside) == 1


def test_blocks_are_as_few_as_the_order_allows():
    """A block is only closed when the next group does not fit."""
    assert list(cut_blocks(torch.tensor([4, 4, 4, 4, 4]), 8)) == [(0, 2), (2, 4), (4, 5)]
    assert list(cut_blocks(torch.tensor([4, 4, 4]), 12)) == [(0, 3)]


@pytest.mark.parametrize("bound", [1, 3])
def test_a_group_larger_than_the_bound_stands_alone(bound):
    """A group is never cut; its neighbours do not join it."""
    assert list(cut_blocks(torch.tensor([1, 100, 1]), bound)) == [(0, 1), (1, 2), (2, 3)]


def test_a_budget_holds_so_many_keys_and_no_more_than_are_of_use():
    assert [segments.keys_within(budget) for budget in (0, 80, 2**40)] == [1, 10, segments.KEYS_ENOUGH]
    assert segments.keys_within(2**40, "cuda") == 2**40 // 40
