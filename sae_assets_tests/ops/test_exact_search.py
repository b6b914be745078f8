"""The exact search against an exhaustive reference, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sae_assets.errors import ArtifactError
from sae_assets.ops import block_search
from sae_assets.ops.exact_search import ExactSearch
from sae_assets.ops.sorted_scores import example_scores
from sae_assets_tests.reference.exact_search import best_threshold
from sae_assets_tests.strategies import DEVICES, PROPERTY


def sparse(dense: np.ndarray, labels: np.ndarray, device: str = "cpu"):
    """The non-zero scores of [examples, units] as triples, in an order of their own."""
    example, unit = dense.nonzero()
    order = np.random.default_rng(0).permutation(len(unit))
    parts = (unit[order], example[order], dense[example, unit][order].astype(np.float32))
    parts = [torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (*parts, labels)]
    return example_scores(*parts, n_units=dense.shape[1])


def searched(dense: np.ndarray, truths: np.ndarray, min_support: int, device: str = "cpu") -> list:
    """(unit, threshold, detected, hits) per truth; None without a pair."""
    search = ExactSearch(sparse(dense, truths, device), min_support=min_support)
    got = search.best(torch.from_numpy(truths).to(device))
    columns = (got.units, search.scores.values_at(got.units, got.lengths), got.lengths, got.hits)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [None if row[0] < 0 else row for row in rows]


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(st.data(), st.integers(1, 14), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_the_search_is_exhaustive(device, data, n_examples, n_units, n_truths, min_support):
    """Few distinct scores, so that ties of score, F1, recall and threshold come up."""
    values = hnp.arrays(np.int64, (n_examples, n_units), elements=st.integers(0, 3), fill=st.nothing())
    dense = data.draw(values).astype(np.float32)
    truths = data.draw(hnp.arrays(bool, (n_examples, n_truths), fill=st.nothing()))
    expected = [best_threshold(dense, truth, min_support) for truth in truths.T]
    assert searched(dense, truths, min_support, device) == expected


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("levels", [4, 10**6])
def test_long_lists_and_many_units(share, levels):
    """More units than a group holds, lists of several blocks, and truths of very different sizes at once."""
    rng = np.random.default_rng(int(share * 10) + levels)
    dense = (rng.integers(1, levels + 1, (70, 130)) * (rng.random((70, 130)) < share)).astype(np.float32)
    truths = rng.random((70, 7)) < np.array([0, 0.02, 0.1, 0.3, 0.6, 0.95, 1])
    assert searched(dense, truths, 2) == [best_threshold(dense, truth, 2) for truth in truths.T]


def test_how_many_truths_are_in_hand_changes_nothing(monkeypatch):
    """Parts of the truths, blocks and entries are a matter of memory alone; more than 255 hits do not fit a byte."""
    rng = np.random.default_rng(3)
    dense = (rng.random((300, 66)) * (rng.random((300, 66)) < 0.8)).astype(np.float32)
    truths = rng.random((300, 40)) < np.linspace(0, 1, 40)
    whole = searched(dense, truths, 1)
    assert whole[-1] == best_threshold(dense, truths[:, -1], 1)
    monkeypatch.setattr(block_search, "CELLS_AT_ONCE", 1)
    monkeypatch.setattr(block_search, "ENTRIES_AT_ONCE", 800)
    monkeypatch.setattr(block_search, "ROWS_AT_ONCE", 50)
    assert searched(dense, truths, 1) == whole


@pytest.mark.parametrize(
    ("unit", "example", "value", "said"),
    [
        ([0], [0], [0.0], "positive and finite"),
        ([0], [0], [float("nan")], "positive and finite"),
        ([0], [0], [1e-60], "positive and finite"),
        ([0], [0], [1e60], "positive and finite"),
        ([2], [0], [1.0], "units go from 2 to 2, expected 0 to 1"),
        ([0], [3], [1.0], "examples go from 3 to 3, expected 0 to 2"),
        ([1, 1], [0, 0], [1.0, 2.0], "several scores"),
    ],
)
def test_what_are_no_scores(unit, example, value, said):
    """Each by its name; numbers of 64 bits, too, that float32 does not hold."""
    labels, value = torch.zeros(3, 1, dtype=torch.bool), torch.tensor(value, dtype=torch.float64)
    with pytest.raises(ArtifactError, match=said):
        example_scores(torch.tensor(unit), torch.tensor(example), value, labels, n_units=2)
