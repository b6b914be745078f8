"""The sparse layout against scipy.sparse: the same rows, columns and maxima from an outside implementation of CSR."""

import numpy as np
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.artifacts import REASONS, SparseRows, UnitMapping
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets_tests.helpers.ops_of_worlds import score
from sae_assets_tests.strategies import PROPERTY, worlds


def csr(chunk: SparseRows) -> scipy.sparse.csr_array:
    parts = (chunk.values.numpy(), chunk.unit_ids.numpy(), chunk.row_offsets.numpy())
    matrix = scipy.sparse.csr_array(parts, shape=(chunk.n_rows, chunk.n_units))
    matrix.check_format(full_check=True)
    return matrix


@PROPERTY
@given(worlds(max_rows=6), st.integers(1, 5))
def test_rows_are_compressed_sparse_rows(world, k):
    """What scipy makes of offsets, ids and values is the dense matrix; cut to k, each row's k largest values."""
    np.testing.assert_array_equal(csr(world.sparse()).toarray(), world.activations)
    cut = csr(world.sparse(k)).toarray()
    assert ((cut == 0) | (cut == world.activations)).all()
    for row, stored in zip(world.activations, cut, strict=True):
        assert sorted(stored[stored > 0]) == sorted(row[row > 0])[-k:]


@PROPERTY
@given(worlds(max_rows=6), st.data())
def test_filtering_is_taking_columns(world, data):
    """scipy's column selection gives the filtered matrix."""
    kept = data.draw(st.sets(st.integers(0, world.n_units - 1), min_size=1))
    reasons = torch.full((world.n_units,), REASONS.index("rare"), dtype=torch.uint8)
    reasons[sorted(kept)] = 0
    mapping = UnitMapping(reasons, "fixed", 0, np.inf, 0.0, np.nan, None)
    got = csr(filter_activations(world.sparse(), mapping))
    assert (got != csr(world.sparse())[:, sorted(kept)]).nnz == 0


@PROPERTY
@given(worlds(max_rows=6))
def test_counts_sums_and_maxima_are_scipys(world):
    """Columns of the calibration rows, and the largest value of each example."""
    matrix = csr(world.sparse())
    columns = matrix[np.flatnonzero(world.rows_in("cal"))].astype(np.float64)
    stats = compute_unit_stats([(world.sparse(), world.mask("cal"))], world.n_units)
    np.testing.assert_array_equal(stats.n_active, columns.count_nonzero(axis=0))
    np.testing.assert_allclose(stats.total, columns.sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(stats.max.nan_to_num(0), columns.max(axis=0).toarray().ravel())
    ends = np.cumsum(world.lengths)
    for split, scores in score(world).items():
        for place, example in enumerate(np.flatnonzero(world.examples_in(split))):
            rows = matrix[ends[example] - world.lengths[example] : ends[example]]
            largest = rows.max(axis=0).toarray().ravel() if rows.shape[0] else np.zeros(world.n_units)
            held = (scores.example == place).nonzero().flatten()
            unit = torch.searchsorted(scores.starts, held, right=True) - 1
            assert unit.tolist() == np.flatnonzero(largest).tolist()
            for number in unit.tolist():
                assert scores.detected(number, float(largest[number]))[place]
                assert not scores.detected(number, float(np.nextafter(np.float64(largest[number]), np.inf)))[place]
