"""TopK encoding against the dense float64 reference: exact, however it is cut."""

from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sae_assets.errors import ArtifactError
from sae_assets.ops import chosen_units, sparse_activations
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets.ops.sparse_code import truncated
from sae_assets_tests.ops.codes import assert_bit_equal, joined, rows_of
from sae_assets_tests.reference.sparse_activations import dense_topk, stored_entries
from sae_assets_tests.strategies import DEVICES, PROPERTY

# Few values whose products and sums are exact in float64: ties abound, and the reference's sums have one answer.
DYADIC = tuple(float(number) / 4 for number in range(-6, 7))


@st.composite
def problems(draw, pool=DYADIC):
    """(x, enc, pre_b, k, k_stored) of up to 6 rows, 6 dimensions and 12 units."""
    d, n_units, n_rows = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 6))
    matrix = st.sampled_from(pool)
    x = draw(hnp.arrays(np.float32, (n_rows, d), elements=matrix, fill=st.nothing()))
    enc = draw(hnp.arrays(np.float32, (d, n_units), elements=matrix, fill=st.nothing()))
    pre_b = draw(hnp.arrays(np.float32, (d,), elements=matrix, fill=st.nothing()))
    return x, enc, pre_b, draw(st.integers(1, n_units)), draw(st.none() | st.integers(1, n_units))


def encoder(enc, k, pre_b=None, **kwargs) -> TopKEncoder:
    shift = None if pre_b is None else torch.from_numpy(pre_b)
    return TopKEncoder(torch.from_numpy(enc), k, shift=shift, **kwargs)


@pytest.mark.parametrize("device", DEVICES)
@PROPERTY
@given(problem=problems())
def test_encoding_is_the_dense_topk(device, problem):
    """Ids, values, order and ties are those of the whole sorted row; L0 and masses count what is and is not stored."""
    x, enc, pre_b, k, k_stored = problem
    code = encoder(enc, k, pre_b, device=device).encode(torch.from_numpy(x), k_stored)
    expected = dense_topk(x, enc, pre_b, k)
    assert rows_of(code) == stored_entries(expected["activations"], k_stored)
    assert code.l0.tolist() == expected["l0"].tolist()
    mass = expected["activations"].sum(1, dtype=np.float64)
    stored = [sum(value for _, value in row) for row in rows_of(code)]
    np.testing.assert_allclose(code.row_mass, mass, rtol=1e-12, atol=0)
    np.testing.assert_allclose(code.row_dropped, mass - stored, rtol=1e-12, atol=1e-12)
    assert (code.unit_ids.dtype, code.values.dtype, code.l0.dtype) == (torch.int32, torch.float32, torch.int32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("seed", "spread"), [(0, 0.0), (1, 0.0), (2, 4.0), (3, 8.0)])
def test_encoding_of_ordinary_floats(device, seed, spread):
    """Values equal the float64 product rounded to float32; norms of units may differ by many orders of magnitude."""
    rng = np.random.default_rng(seed)
    enc = (rng.normal(size=(64, 300)) * np.exp(rng.normal(size=300) * spread)).astype(np.float32)
    x, pre_b = rng.normal(size=(40, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    code = encoder(enc, 16, pre_b, device=device).encode(torch.from_numpy(x))
    expected = dense_topk(x, enc, pre_b, 16)
    for got, wanted in zip(rows_of(code), stored_entries(expected["activations"]), strict=True):
        assert [unit for unit, _ in got] == [unit for unit, _ in wanted]
        np.testing.assert_allclose([value for _, value in got], [value for _, value in wanted], rtol=2.0**-22)


def test_values_that_float32_sums_would_lose_are_ranked_exactly():
    """Where every float32 sum in order cancels to zero, ids still follow the true, tiny pre-activations."""
    rng = np.random.default_rng(0)
    small = rng.permutation(np.arange(1, 41)).astype(np.float32) * np.float32(2.0**-10)
    enc = np.stack([np.full(40, 2.0**20, np.float32), small, np.full(40, -(2.0**20), np.float32)])
    assert not ((enc[0] + enc[1]) + enc[2]).any()
    code = encoder(enc, 5).encode(torch.ones(1, 3))
    assert code.unit_ids.tolist() == np.argsort(-small)[:5].tolist()
    assert code.values.tolist() == (np.arange(40, 35, -1) * 2.0**-10).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_choices_that_float32_sums_would_get_wrong_are_exact(seed):
    """Where rounding of the screening product swaps units around the k-th place, the true ones are still stored."""
    rng = np.random.default_rng(seed)
    x = (100 * rng.normal(size=64)).astype(np.float32)
    shared = rng.normal(size=64)
    shared -= x * (x @ shared) / (x @ x)  # large terms that cancel
    enc = (shared[:, None] + 1e-6 * rng.normal(size=(64, 400))).astype(np.float32)
    expected = stored_entries(dense_topk(x[None], enc, None, 32)["activations"])
    in_float32 = np.cumsum(x[:, None] * enc, axis=0, dtype=np.float32)[-1]
    assert set(np.argsort(-in_float32)[:32].tolist()) != {unit for unit, _ in expected[0]}
    assert rows_of(encoder(enc, 32).encode(torch.from_numpy(x)[None])) == expected


def test_sums_beyond_float32_are_never_silently_wrong():
    """Where a float32 partial sum overflows but the exact one does not: the exact result, or an error."""
    enc = np.array([[1, 0.6], [1, 0], [-1.9, 0]], np.float32)
    x = np.full((1, 3), 3e38, np.float32)
    try:
        code = encoder(enc, 1).encode(torch.from_numpy(x))
    except ArtifactError:
        return
    assert rows_of(code) == stored_entries(dense_topk(x, enc, None, 1)["activations"])


def test_ties_at_the_kth_place_go_to_the_lower_unit():
    """Of equal pre-activations the lower ids are stored, and in that order."""
    enc = np.array([[1, 2, 2, 3, 2, 2]], np.float32)
    assert rows_of(encoder(enc, 3).encode(torch.ones(1, 1))) == [[(3, 3.0), (1, 2.0), (2, 2.0)]]


def test_relu_comes_after_the_choice():
    """Only positive pre-activations among the k largest are active: fewer than k, or none."""
    enc = np.array([[1, -1, -2, 0]], np.float32)
    code = encoder(enc, 2).encode(torch.tensor([[1.0], [-1.0], [0.0]]))
    assert rows_of(code) == [[(0, 1.0)], [(2, 2.0), (1, 1.0)], []]
    assert code.l0.tolist() == [1, 2, 0] and code.row_mass.tolist() == [1.0, 3.0, 0.0]


@PROPERTY
@given(problems(), st.data())
def test_batches_change_nothing(problem, data):
    """Rows encoded together or one cut after another give the same bits."""
    x, enc, pre_b, k, k_stored = problem
    sae = encoder(enc, k, pre_b)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(x)))))
    parts = np.split(x, cuts)
    whole = sae.encode(torch.from_numpy(x), k_stored)
    assert_bit_equal(joined([sae.encode(torch.from_numpy(part), k_stored) for part in parts]), whole)


def ordinary(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(50, 48)).astype(np.float32), rng.normal(size=(48, 200)).astype(np.float32)


@pytest.mark.parametrize("budget", [1, 8 * 200 * 7, 32 * 48 * 3, 2**20])
def test_the_memory_budget_changes_nothing(budget):
    """Blocks of one row, of seven, or of all rows; pairs computed again one by one or all at once: the same bits."""
    x, enc = ordinary()
    whole = encoder(enc, 12).encode(torch.from_numpy(x), 9)
    assert_bit_equal(encoder(enc, 12, memory_budget=budget).encode(torch.from_numpy(x), 9), whole)


@pytest.mark.parametrize("batch", [1, 3, 17, 50])
def test_batches_of_ordinary_floats_change_nothing(batch):
    """Where the float32 screening product depends on the batch, the stored bits do not."""
    x, enc = ordinary(1)
    sae = encoder(enc, 12)
    whole = sae.encode(torch.from_numpy(x))
    parts = [sae.encode(part) for part in torch.from_numpy(x).split(batch)]
    assert_bit_equal(joined(parts), whole)


def test_the_order_of_units_and_rows_changes_only_the_order():
    """Encoding permuted units and rows gives the permuted result: no unit's value depends on its neighbours."""
    x, enc = ordinary(2)
    rng = np.random.default_rng(2)
    rows, units = rng.permutation(len(x)), rng.permutation(enc.shape[1])
    plain = rows_of(encoder(enc, 12).encode(torch.from_numpy(x)))
    moved = rows_of(encoder(enc[:, units], 12).encode(torch.from_numpy(x[rows])))
    assert [[(int(units[unit]), value) for unit, value in row] for row in moved] == [plain[row] for row in rows]


@PROPERTY
@given(problems())
def test_k_stored_cuts_the_tail_of_each_row(problem):
    """A smaller k_stored stores a prefix of each row and leaves L0 and the total mass alone."""
    x, enc, pre_b, k, k_stored = problem
    sae = encoder(enc, k, pre_b)
    full, cut = sae.encode(torch.from_numpy(x)), sae.encode(torch.from_numpy(x), k_stored)
    assert rows_of(cut) == [row[:k_stored] for row in rows_of(full)]
    assert torch.equal(cut.l0, full.l0) and torch.equal(cut.row_mass, full.row_mass)
    assert full.row_dropped.tolist() == [0.0] * len(x)
    assert_bit_equal(truncated(full, k_stored), cut)


def test_float64_and_half_inputs_are_taken_as_they_are():
    """The input's own values count, whatever its width."""
    enc = np.array([[1, 1]], np.float32)
    exact = encoder(enc, 2).encode(torch.tensor([[1 + 2.0**-23]], dtype=torch.float64))
    assert exact.values.tolist() == [1 + 2.0**-23] * 2
    assert encoder(enc, 1).encode(torch.tensor([[0.1]], dtype=torch.float16)).values.tolist() == [
        float(np.float32(np.float16(0.1)))
    ]


def test_no_rows_give_an_empty_code():
    """A batch without rows is no special case."""
    code = encoder(ordinary()[1], 4).encode(torch.zeros(0, 48))
    assert code.row_offsets.tolist() == [0] and code.l0.tolist() == [] and len(code.values) == 0


def test_rows_of_one_product_are_few_and_change_no_code(monkeypatch):
    """Whatever memory there is: on a CPU products are looked through while its caches hold them."""
    x, enc = ordinary()
    x, enc = torch.from_numpy(x), encoder(enc, 3)
    sizes, real = [], enc.screen.product
    monkeypatch.setattr(enc.screen, "product", lambda rows, norm: sizes.append(len(rows)) or real(rows, norm))
    whole = enc.encode(x)
    assert sizes == [len(x)]
    monkeypatch.setattr(sparse_activations, "FEWEST_ROWS", 7)
    monkeypatch.setattr(sparse_activations, "CACHED_BYTES", 0)
    assert_bit_equal(enc.encode(x), whole)
    assert max(sizes[1:]) == 7 and sum(sizes[1:]) == len(x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("budget", [1, 2**20])
def test_a_row_that_is_not_finite_is_named(bad, budget):
    """The first such row's number is in the message, in whichever block it lies."""
    x, enc = ordinary()
    x[[31, 40], 5] = bad
    with pytest.raises(ArtifactError, match="Embedding row 31 is not finite"):
        encoder(enc, 4, memory_budget=budget).encode(torch.from_numpy(x))


@pytest.mark.parametrize("width", [47, 49])
def test_rows_of_another_width_are_refused(width):
    """The shape found and the width expected are named."""
    with pytest.raises(ArtifactError, match=rf"shape \(3, {width}\).*width 48"):
        encoder(ordinary()[1], 4).encode(torch.zeros(3, width))


@pytest.mark.parametrize("name", ["weight", "shift", "bias"])
def test_weights_that_are_not_finite_are_refused(name):
    """The tensor is named."""
    tensors = {"weight": torch.ones(2, 3), "shift": torch.ones(2), "bias": torch.ones(3)}
    tensors[name].view(-1)[1] = torch.nan
    with pytest.raises(ArtifactError, match=f"encoder's {name} holds values that are not finite"):
        TopKEncoder(tensors.pop("weight"), 1, **tensors)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """As a user runs it: without the shape checks that tests add to ops."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize(("name", "length"), [("shift", 1), ("shift", 3), ("bias", 1), ("bias", 2)])
def test_weights_that_do_not_fit_each_other_are_refused(unchecked_shapes, name, length):
    """A shift or bias of another length is refused when the encoder is built, not stretched when it is used."""
    with pytest.raises(ArtifactError, match=name):
        TopKEncoder(torch.ones(2, 3), 1, **{name: torch.ones(length)})


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_beyond_the_units_is_refused(k):
    """k lies within 1..n_units."""
    with pytest.raises(ArtifactError, match=f"k is {k}, expected 1..3"):
        TopKEncoder(torch.ones(2, 3), k)


def test_units_that_share_a_tile_leave_few_others_to_be_computed(monkeypatch):
    """The k-th largest of tiles is smaller than that of units; where it is, some that cannot be stored reach it."""
    seen, real = [], chosen_units.rounded_products

    def noted(*args):
        seen.append(len(args[0]))
        return real(*args)

    monkeypatch.setattr(sparse_activations, "loops_for", lambda *_: None)
    monkeypatch.setattr(chosen_units, "rounded_products", noted)
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(64, 2048, generator=generator), torch.randn(50, 64, generator=generator)
    code = TopKEncoder(weight, 64).encode(x)
    exact = (x.double() @ weight.double()).float().topk(64, 1)
    assert torch.equal(code.unit_ids.view(50, 64).long(), exact.indices)
    assert 50 * 64 <= sum(seen) <= 50 * 65
