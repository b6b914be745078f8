"""JumpReLU and ReLU against the dense float64 reference: strict at the threshold, exact, and within their memory."""

import weakref
from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sae_assets.errors import ArtifactError
from sae_assets.ops.jumprelu import JumpReluEncoder, ReluEncoder
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder
from sae_assets_tests.ops.codes import assert_bit_equal, joined, rows_of
from sae_assets_tests.reference.sparse_activations import dense_jumprelu, pre_activations, stored_entries
from sae_assets_tests.strategies import DEVICES, PROPERTY

# Few values whose products and sums are exact in float64: pre-activations meet thresholds, zero and each other.
DYADIC = tuple(float(number) / 4 for number in range(-6, 7))
THRESHOLDS = (-8.0, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 8.0)


@st.composite
def problems(draw):
    """(x, enc, pre_b, b_enc, jump_threshold or None, k_stored) of up to 6 rows, 6 dimensions and 12 units."""
    d, n_units, n_rows = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 6))

    def matrix(shape, pool=DYADIC):
        return draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(pool), fill=st.nothing()))

    threshold = matrix((n_units,), THRESHOLDS) if draw(st.booleans()) else None
    k_stored = draw(st.none() | st.just(64) | st.integers(1, n_units))
    return matrix((n_rows, d)), matrix((d, n_units)), matrix((d,)), matrix((n_units,)), threshold, k_stored


def encoder(enc, pre_b=None, b_enc=None, threshold=None, **kwargs) -> Encoder:
    """ReLU where there is no threshold."""
    shift = None if pre_b is None else torch.from_numpy(pre_b)
    bias = None if b_enc is None else torch.from_numpy(b_enc)
    if threshold is None:
        return ReluEncoder(torch.from_numpy(enc), shift=shift, bias=bias, **kwargs)
    return JumpReluEncoder(torch.from_numpy(enc), torch.from_numpy(threshold), shift=shift, bias=bias, **kwargs)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(problem=problems())
def test_encoding_is_the_dense_reference(device, problem):
    """Ids, values, order, ties and strictness are the reference's; L0 and masses count what is and is not stored."""
    x, enc, pre_b, b_enc, threshold, k_stored = problem
    code = encoder(enc, pre_b, b_enc, threshold, device=device).encode(torch.from_numpy(x), k_stored)
    expected = dense_jumprelu(x, enc, pre_b, b_enc, threshold)
    assert rows_of(code) == stored_entries(expected["activations"], k_stored)
    assert code.l0.tolist() == expected["l0"].tolist()
    mass = expected["activations"].sum(1, dtype=np.float64)
    stored = [sum(value for _, value in row) for row in rows_of(code)]
    np.testing.assert_allclose(code.row_mass, mass, rtol=1e-12, atol=0)
    np.testing.assert_allclose(code.row_dropped, mass - stored, rtol=1e-12, atol=1e-12)
    assert (code.unit_ids.dtype, code.values.dtype, code.l0.dtype) == (torch.int32, torch.float32, torch.int32)


@PROPERTY
@given(problems(), st.data())
def test_neither_batches_nor_the_memory_budget_change_anything(problem, data):
    """Rows together, cut apart, or encoded one candidate row at a time give the same bits."""
    x, enc, pre_b, b_enc, threshold, k_stored = problem
    whole = encoder(enc, pre_b, b_enc, threshold).encode(torch.from_numpy(x), k_stored)
    sae = encoder(enc, pre_b, b_enc, threshold, memory_budget=data.draw(st.sampled_from([1, 2**10, 2**14])))
    parts = np.split(x, sorted(data.draw(st.sets(st.integers(0, len(x))))))
    assert_bit_equal(joined([sae.encode(torch.from_numpy(part), k_stored) for part in parts]), whole)


def ordinary(seed: int = 0) -> tuple[np.ndarray, ...]:
    """(x, enc, pre_b, b_enc, threshold) of ordinary floats; a few units are active in a row."""
    rng = np.random.default_rng(seed)
    shapes = (50, 48), (48, 200), (48,), (200,)
    x, enc, pre_b, b_enc = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, enc, pre_b, b_enc, (8 + 4 * rng.random(200)).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize(("seed", "spread"), [(0, 0.0), (1, 4.0), (2, 8.0)])
def test_encoding_of_ordinary_floats(device, jump, seed, spread):
    """Values equal the float64 product rounded to float32; norms of units may differ by many orders of magnitude."""
    x, enc, pre_b, b_enc, threshold = ordinary(seed)
    scale = np.exp(np.random.default_rng(seed).normal(size=200) * spread)
    enc, b_enc, threshold = ((part * scale).astype(np.float32) for part in (enc, b_enc, threshold))
    threshold = threshold if jump else None
    code = encoder(enc, pre_b, b_enc, threshold, device=device).encode(torch.from_numpy(x))
    expected = dense_jumprelu(x, enc, pre_b, b_enc, threshold)
    assert expected["l0"].min() > 0
    for got, wanted in zip(rows_of(code), stored_entries(expected["activations"]), strict=True):
        assert [unit for unit, _ in got] == [unit for unit, _ in wanted]
        np.testing.assert_allclose([value for _, value in got], [value for _, value in wanted], rtol=2.0**-22)


@pytest.mark.parametrize("budget", [1, 12 * 200 * 7, 2**16, 2**20])
@pytest.mark.parametrize("k_stored", [None, 9, 64])
def test_the_memory_budget_changes_nothing(budget, k_stored):
    """Blocks of one row or of all, candidates of one row or of all at once: the same bits."""
    x, *weights = ordinary()
    whole = encoder(*weights).encode(torch.from_numpy(x), k_stored)
    assert_bit_equal(encoder(*weights, memory_budget=budget).encode(torch.from_numpy(x), k_stored), whole)


@pytest.mark.parametrize("seed", range(4))
def test_a_value_exactly_at_its_threshold_is_not_active(seed):
    """Thresholds set to a row's own values: none is active; one float32 step lower: all are, with that value.

    The screening product of these values errs by far more than one step, in either direction.
    """
    rng = np.random.default_rng(seed)
    x, enc = (100 * rng.normal(size=(1, 256))).astype(np.float32), rng.normal(size=(256, 300)).astype(np.float32)
    values = torch.zeros(300)
    whole = ReluEncoder(torch.from_numpy(enc)).encode(torch.from_numpy(x))
    values[whole.unit_ids.long()] = whole.values
    np.testing.assert_allclose(values, np.maximum(pre_activations(x, enc)[0], 0), rtol=2.0**-22)
    positive = values > 0
    at = JumpReluEncoder(torch.from_numpy(enc), values).encode(torch.from_numpy(x))
    assert at.l0.tolist() == [0] and len(at.values) == 0 and at.row_mass.tolist() == [0.0]
    below = torch.where(positive, torch.nextafter(values, torch.tensor(0.0)), 1e9)
    assert_bit_equal(JumpReluEncoder(torch.from_numpy(enc), below).encode(torch.from_numpy(x)), whole)
    screened = torch.from_numpy(x) @ torch.from_numpy(enc)
    assert bool((screened[0][positive] <= below[positive]).any())  # the screen alone would have lost some


def test_thresholds_of_zero_and_below_leave_relu():
    """A negative threshold lets no negative value through, and zero itself is never active."""
    x = torch.tensor([[1.0], [-1.0], [0.0]])
    enc = torch.tensor([[1.0, -1.0, 0.0, 2.0]])
    for threshold in (0.0, -0.0, -0.5, -5.0, -3e38):
        code = JumpReluEncoder(enc, torch.full((4,), threshold)).encode(x)
        assert rows_of(code) == [[(3, 2.0), (0, 1.0)], [(1, 1.0)], []]
        assert_bit_equal(code, ReluEncoder(enc).encode(x))


def test_the_example_that_is_worked_by_hand():
    """z = 3, 0.5, −1, 0.5 and θ = 1, 0.5, −2, 0.25, as in the numerics."""
    z, limits, one = torch.tensor([[3.0, 0.5, -1.0, 0.5]]), torch.tensor([1.0, 0.5, -2.0, 0.25]), torch.ones(1, 1)
    assert TopKEncoder(z, 2).encode(one).unit_ids.tolist() == [0, 1]
    assert JumpReluEncoder(z, limits).encode(one).unit_ids.tolist() == [0, 3]
    assert ReluEncoder(z).encode(one).unit_ids.tolist() == [0, 1, 3]


def test_the_value_is_not_lowered_by_the_threshold():
    """JumpReLU jumps: a value above its threshold is stored as it is."""
    code = JumpReluEncoder(torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([1.5, 2.0, 2.5])).encode(torch.tensor([[2.0]]))
    assert rows_of(code) == [[(0, 2.0)]]


@pytest.mark.parametrize("threshold", [1e-45, 1e-38, 1e30, 3.4e38])
def test_thresholds_at_the_ends_of_float32(threshold):
    """Denormal and huge thresholds are compared as they are."""
    enc = np.array([[1, 1e-38, 1e-44, 1e38]], np.float32)
    x = np.array([[1.0], [0.25]], np.float32)
    limits = np.full(4, threshold, np.float32)
    code = JumpReluEncoder(torch.from_numpy(enc), torch.from_numpy(limits)).encode(torch.from_numpy(x))
    assert rows_of(code) == stored_entries(dense_jumprelu(x, enc, None, None, limits)["activations"])


def test_cancelling_sums_are_decided_exactly():
    """Where every float32 sum in order cancels to zero, the true, tiny values decide."""
    small = np.arange(-20, 20).astype(np.float32) * np.float32(2.0**-10)
    enc = np.stack([np.full(40, 2.0**20, np.float32), small, np.full(40, -(2.0**20), np.float32)])
    code = encoder(enc, threshold=np.full(40, 5 * 2.0**-10, np.float32)).encode(torch.ones(1, 3))
    assert sorted(code.unit_ids.tolist()) == list(range(26, 40))
    assert ReluEncoder(torch.from_numpy(enc)).encode(torch.ones(1, 3)).l0.tolist() == [19]


class Held(TorchDispatchMode):
    """The most bytes that tensors made inside held at one time, by the storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {storage._cdata for storage in self.storages((args, kwargs))}  # views of these are not made here
        result = func(*args, **(kwargs or {}))
        for storage in self.storages(result):
            if storage._cdata not in self.known | before:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.freed, storage._cdata, storage.nbytes())
        return result

    @staticmethod
    def storages(tree):
        return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    def freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.slow
@pytest.mark.parametrize("budget", [pytest.param(2**18, marks=pytest.mark.long), 2**20])
@pytest.mark.parametrize("d", [8, 64])
@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk"])
def test_memory_stays_within_the_budget(kind, d, budget):
    """Also where every unit of every row is active, so that nothing is screened away."""
    n_units, n_rows = 600, 40
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.random((d, n_units)).astype(np.float32) + 1)
    x = torch.from_numpy(rng.random((n_rows, d)).astype(np.float32) + 1)
    sae = {
        "relu": lambda: ReluEncoder(weight, memory_budget=budget),
        "jumprelu": lambda: JumpReluEncoder(weight, torch.ones(n_units), memory_budget=budget),
        "topk": lambda: TopKEncoder(weight, n_units, memory_budget=budget),
    }[kind]()
    sae.encode(x, 1)  # the first of a process finds out which of torch's products are exact and fast
    with Held() as held:
        code = sae.encode(x, 1)
    assert code.l0.tolist() == [n_units] * n_rows
    result = 2 * n_rows * (8 + 4 + 4 + 4 + 8 + 8)  # in parts and joined
    assert budget / 8 < held.peak <= budget + result


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """As a user runs it: without the shape checks that tests add to ops."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize("shape", [(1,), (2,), (4,), (3, 1)])
def test_thresholds_of_another_length_are_refused(unchecked_shapes, shape):
    """One threshold per unit, never stretched."""
    with pytest.raises(ArtifactError, match=r"jump_threshold has shape .*expected \(3,\)"):
        JumpReluEncoder(torch.ones(2, 3), torch.ones(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_thresholds_that_are_not_finite_are_refused(bad):
    """NaN would make a unit silent without a word."""
    with pytest.raises(ArtifactError, match="jump_threshold holds values that are not finite"):
        JumpReluEncoder(torch.ones(2, 3), torch.tensor([0.0, bad, 0.0]))
