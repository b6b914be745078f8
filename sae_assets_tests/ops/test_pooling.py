"""Pooled scores against dense ones, and the AUROC of length against scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sae_assets.errors import ArtifactError
from sae_assets.ops import pooling
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.pooling import POOLINGS, Pooling, length_auroc, pool_codes, pool_rows
from sae_assets.ops.segments import unpack_descending
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets.ops.sparse_code import SparseCode
from sae_assets_tests.ops.codes import rows_of
from sae_assets_tests.reference import pooling as reference
from sae_assets_tests.strategies import DEVICES, PROPERTY, World, chunkings, worlds


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(world=worlds(), name=st.sampled_from(POOLINGS), k=st.integers(1, 5))
def test_pooled_scores_are_the_dense_ones(device, world, name, k):
    """Every pair with a score above 0 once, by unit, then example; of one rounding."""
    unit, value, example = pool_rows(world.sparse(), Pooling(name, k), device)
    got = np.zeros((len(world.lengths), world.n_units), np.float32)
    got[example.cpu(), unit.cpu()] = value.cpu()
    with np.errstate(under="ignore"):
        expected = reference.pooled(world.activations, world.lengths, name, k).astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-45)
    assert bool((value > 0).all()) and len(value) == (got > 0).sum()
    assert torch.equal(unit * len(got) + example, (unit * len(got) + example).sort().values)


@PROPERTY
@given(world=worlds(), name=st.sampled_from(("max", "last")))
def test_more_pairs_than_keys_tell_apart_are_pooled_alike(world, name):
    """Bit for bit, by another way."""
    few = pool_rows(world.sparse(), Pooling(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "MOST_GROUPS", 0)
        many = pool_rows(world.sparse(), Pooling(name))
    assert all(torch.equal(one, other) for one, other in zip(few, many, strict=True))


@PROPERTY
@given(world=worlds())
def test_pooled_codes_are_the_largest_values_in_canonical_order(world):
    """As rows of a code: by value descending, ties by unit, with L0 and the sum of each; examples without rows too."""
    rows = world.sparse()
    nothing = torch.zeros(rows.n_rows, dtype=torch.float64)
    code = SparseCode(rows.row_offsets, rows.unit_ids, rows.values, rows.l0, nothing, nothing)
    pooled = pool_codes(code, rows.example_of_row(), rows.n_examples)
    expected = reference.pooled(world.activations, world.lengths, "max", 1).astype(np.float32)
    pairs = [sorted(((u, v) for u, v in enumerate(row) if v > 0), key=lambda p: (-p[1], p[0])) for row in expected]
    assert rows_of(pooled) == pairs
    assert pooled.l0.tolist() == [len(row) for row in pairs] and not bool(pooled.row_dropped.any())
    np.testing.assert_allclose(pooled.row_mass, [float(sum(v for _, v in row)) for row in pairs], rtol=1e-6)
    assert [t.dtype for t in vars(pooled).values()] == [t.dtype for t in vars(code).values()]


@PROPERTY
@given(world=worlds(), name=st.sampled_from(POOLINGS), data=st.data())
def test_scores_of_any_pooling_do_not_depend_on_chunks(world, name, data):
    """Cut into any chunks in order, both splits have the same scores, bit for bit."""
    cuts = data.draw(chunkings(len(world.lengths), shuffled=False))
    scores = [
        score_examples(
            [LabelledChunk(part.filtered(), part.splits, torch.from_numpy(part.labels)) for part in parts],
            n_units=world.n_units,
            pooling=Pooling(name, 2),
        )
        for parts in ([world], [world.take(part) for part in cuts])
    ]
    for split in EVALUATED:
        one, two = (each[split] for each in scores)
        assert torch.equal(one.keys, two.keys) and torch.equal(one.example, two.example)


def test_by_hand():
    """An example of three rows with the values 4, 0 and 1 of a unit, and one of one row with 2."""
    world = World(
        np.array([[4], [0], [1], [2]], np.float32), np.array([3, 1]), ("cal",) * 2, np.zeros((4, 1), bool),
        np.zeros((2, 1), bool),
    )  # fmt: skip
    expected = {"max": [4, 2], "mean": [5 / 3, 2], "topk_mean": [2.5, 1], "last": [1, 2]}
    for name, scores in expected.items():
        _, value, _ = pool_rows(world.sparse(), Pooling(name, 2))
        np.testing.assert_allclose(value, scores, rtol=1e-7)
    chunk = LabelledChunk(world.filtered(), world.splits, torch.from_numpy(world.labels))
    keys = score_examples([chunk], n_units=1, pooling=Pooling("topk_mean", 2))["cal"].keys
    assert unpack_descending(keys)[1].tolist() == [2.5, 1]


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_the_length_alone_is_scikit_learns_auroc(pairs):
    """Ties half; null without both classes."""
    lengths, labels = (torch.tensor(column) for column in zip(*pairs, strict=True))
    got = float(length_auroc(lengths, labels[:, None]))
    if labels.all() or not labels.any():
        assert np.isnan(got)
    else:
        assert abs(got - roc_auc_score(labels, lengths)) < 1e-12


def test_length_by_hand():
    """Lengths 1, 2, 2, 3; positive 2 and 3: of four pairs three are won and one is a tie."""
    labels = torch.tensor([False, True, False, True])[:, None]
    assert length_auroc(torch.tensor([1, 2, 2, 3]), labels).tolist() == [3.5 / 4]


@pytest.mark.parametrize(
    ("pooling", "words"), [(("median",), "Unknown pooling 'median'"), (("max", 0), "k of pooling is 0")]
)
def test_unknown_pooling_is_refused(pooling, words):
    """Names and k."""
    with pytest.raises(ArtifactError, match=words):
        Pooling(*pooling)
