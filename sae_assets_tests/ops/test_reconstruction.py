"""How well an SAE fits its rows, against dense float64: as the libraries define it, and however the rows are cut."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sae_assets.artifacts.fit import FitSums
from sae_assets.errors import ArtifactError
from sae_assets.ops.reconstruction import Decoder, Fit, merge_fits
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets.ops.sparse_code import SparseCode, truncated
from sae_assets_tests.helpers.process_states import STATES, under
from sae_assets_tests.ops.codes import rows_of
from sae_assets_tests.reference import reconstruction as reference
from sae_assets_tests.strategies import DEVICES, HOSTILE, PROPERTY

D, N = 24, 60


def problem(seed: int = 0, n_rows: int = 50, offset: float = 0.0) -> tuple[torch.Tensor, SparseCode, Decoder]:
    """Rows, their TopK code and a decoder that is the encoder's transpose, a little off."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(D, N)).astype(np.float32) / 5
    bias = torch.from_numpy((rng.normal(size=D) / 10 + offset).astype(np.float32))
    x = torch.from_numpy((rng.normal(size=(n_rows, D)) + offset).astype(np.float32))
    code = TopKEncoder(torch.from_numpy(weight), 16, shift=bias).encode(x)
    return x, code, Decoder(torch.from_numpy(weight.T / 2), bias)


def dense(code: SparseCode, n_units: int = N) -> np.ndarray:
    found = np.zeros((len(code.l0), n_units), np.float32)
    for row, pairs in enumerate(rows_of(code)):
        for unit, value in pairs:
            found[row, unit] = value
    return found


def fitted(decoder: Decoder, *batches: tuple[torch.Tensor, SparseCode]) -> FitSums:
    fit = Fit(decoder)
    for x, code in batches:
        fit.add(x, code)
    return fit.sums()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("seed", "offset"), [(0, 0.0), (1, 5.0), (2, 1000.0)])
def test_fvu_is_that_of_the_libraries(device, seed, offset):
    """sparsify's fraction over all rows, and 1 minus SAELens' explained variance over batches of equal size."""
    x, code, decoder = problem(seed, offset=offset)
    decoder = Decoder(decoder.weight, decoder.bias, device=device)
    made = reference.reconstruction(dense(code), decoder.weight.cpu().numpy(), decoder.bias.cpu().numpy())
    np.testing.assert_allclose(decoder.decode(code).cpu(), made, rtol=0, atol=1e-12 * (1 + offset))
    fit = fitted(decoder, (x, code))
    assert fit.fvu == pytest.approx(reference.fvu(x.numpy(), made), rel=1e-9)
    halves = [x.numpy()[:25], x.numpy()[25:]], [made[:25], made[25:]]
    assert 1 - fit.fvu == pytest.approx(reference.explained_variance(*halves), abs=1e-9)
    assert 0 < fit.fvu < 1


def test_what_is_left_out_of_a_code_is_missing():
    """The more of a row's active units are decoded, the less is left; the norm is of the rows alone."""
    x, code, decoder = problem()
    found = [fitted(decoder, (x, truncated(code, k))) for k in (1, 4, 16)]
    assert found[0].fvu > found[1].fvu > found[2].fvu == fitted(decoder, (x, code)).fvu
    norm = float(x.double().square().sum(1).mean().sqrt())
    assert [fit.norm for fit in found] == [pytest.approx(norm, rel=1e-14)] * 3


@st.composite
def hostile(draw):
    """Rows of extreme values, and a code of any lengths; the decoder's numbers are few."""
    n_rows, d, n_units = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    signed = st.sampled_from((*HOSTILE, *(-value for value in HOSTILE)))
    x = draw(hnp.arrays(np.float32, (n_rows, d), elements=signed, fill=st.nothing()))
    weight = draw(hnp.arrays(np.float32, (n_units, d), elements=st.sampled_from((-2.0, 0.5, 1.0)), fill=st.nothing()))
    lengths = draw(st.lists(st.integers(0, n_units), min_size=n_rows, max_size=n_rows))
    values = [sorted(draw(st.sampled_from((0.25, 1.0, 3.0))) for _ in range(length))[::-1] for length in lengths]
    mass = torch.zeros(n_rows, dtype=torch.float64)
    code = SparseCode(
        row_offsets=torch.tensor([0, *np.cumsum(lengths)]),
        unit_ids=torch.tensor([unit for length in lengths for unit in range(length)], dtype=torch.int32),
        values=torch.tensor([value for row in values for value in row], dtype=torch.float32),
        l0=torch.tensor(lengths, dtype=torch.int32),
        row_mass=mass,
        row_dropped=mass,
    )
    return torch.from_numpy(x), code, Decoder(torch.from_numpy(weight), torch.ones(d))


@PROPERTY
@given(hostile())
def test_sums_of_extreme_values(made):
    """The sum of the rows is exact but for one rounding, whatever cancels; the others err by a few."""
    x, code, decoder = made
    fit = fitted(decoder, (x, code))
    assert list(fit.row_sum) == [math.fsum(column) for column in x.double().T.tolist()]
    exact = x.double().numpy()
    assert fit.square_sum == pytest.approx((exact**2).sum(), rel=1e-14)
    rebuilt = reference.reconstruction(dense(code, decoder.n_units), decoder.weight.numpy(), decoder.bias.numpy())
    assert fit.residual_sum == pytest.approx(((exact - rebuilt) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("cuts", "budget"), [([], 5000), ([1], 2**28), ([7, 7, 30], 1), ([7, 7, 30], 5000), (list(range(5, 50, 5)), 2**28)]
)
def test_batches_and_blocks_change_nothing(cuts, budget):
    """To the last bit, and as parts that are merged: all but the sums, which are rounded once per part."""
    x, code, decoder = problem()
    whole = fitted(decoder, (x, code))
    blocks = Decoder(decoder.weight, decoder.bias.float(), memory_budget=budget)
    batches = [(part, part_of(code, start, start + len(part))) for start, part in parts(x, cuts)]
    assert fitted(blocks, *batches) == whole
    merged = merge_fits(fitted(blocks, batch) for batch in batches)
    assert merge_fits(fitted(blocks, batch) for batch in reversed(batches)) == merged
    assert merged.fvu == pytest.approx(whole.fvu, rel=1e-14)
    assert merged.n_rows == whole.n_rows


def parts(x, cuts):
    bounds = [0, *cuts, len(x)]
    return [(start, x[start:stop]) for start, stop in pairwise(bounds)]


def part_of(code, start, stop):
    offsets = code.row_offsets[start : stop + 1]
    entries, rows = slice(int(offsets[0]), int(offsets[-1])), slice(start, stop)
    columns = {name: getattr(code, name)[entries] for name in ("unit_ids", "values")}
    columns |= {name: getattr(code, name)[rows] for name in ("l0", "row_mass", "row_dropped")}
    return SparseCode(row_offsets=offsets - offsets[0], **columns)


def test_what_the_mean_and_what_nothing_would_reach():
    """A decoder that gives the mean of the rows has FVU 1, one that gives the rows 0; 1.25 is worse than the mean."""
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    code = TopKEncoder(torch.tensor([[1.0], [0.0]]), 1).encode(x)
    figures = [
        fitted(Decoder(torch.tensor([[slope, 0.0]]), torch.tensor([bias, 0.0])), (x, code)).fvu
        for slope, bias in ((0.0, 2.0), (1.0, 0.0), (0.0, 1.5))
    ]
    assert figures == [1, 0, 1.25]


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
def test_rows_that_do_not_vary_have_no_fraction(value):
    """Neither 0 nor infinity, and not what rounding leaves of the variance."""
    x = torch.full((7, D), value)
    code = TopKEncoder(torch.ones(D, N), 1).encode(x * 0)
    fit = fitted(Decoder(torch.zeros(N, D), torch.zeros(D)), (x, code))
    assert fit.fvu is None and fit.variance_sum is None
    none = Fit(Decoder(torch.zeros(N, D), torch.zeros(D))).sums()
    assert (none.n_rows, none.fvu, none.norm) == (0, None, None)


@pytest.mark.parametrize(
    "state",
    ["float64", "meta device", "subnormals to 0", "autocast to bfloat16", "gradients", "inference mode", "rounded up"],
)
def test_whatever_the_process_has_set(state):
    """As the encoders and the other ops."""
    x, code, decoder = problem()
    x[:, 0] *= 2.0**-140
    alone = fitted(decoder, (x, code))
    assert state in STATES
    weight, bias = decoder.weight, decoder.bias
    assert under(state, lambda: fitted(Decoder(weight, bias), (x, code))) == alone


def test_what_does_not_fit_is_refused():
    """Rows, codes and weights of other SAEs; numbers that are none."""
    x, code, decoder = problem()
    with pytest.raises(ArtifactError, match=r"shape \(50, 23\).*width 24"):
        Fit(decoder).add(x[:, 1:], code)
    with pytest.raises(ArtifactError, match="of 50 rows, expected 49"):
        Fit(decoder).add(x[1:], code)
    with pytest.raises(ArtifactError, match=r"names unit .* has 2 units"):
        Fit(Decoder(torch.zeros(2, D), torch.zeros(D))).add(x, code)
    x[31, 3] = torch.inf
    with pytest.raises(ArtifactError, match="Row 31 is not finite"):
        Fit(decoder).add(x, code)
    with pytest.raises(ArtifactError, match="decoder's bias holds values that are not finite"):
        Decoder(torch.zeros(2, 3), torch.full((3,), torch.nan))
    with pytest.raises(ArtifactError, match="expected one and the same"):
        merge_fits([Fit(decoder).sums(), Fit(Decoder(torch.zeros(N, D + 1), torch.zeros(D + 1))).sums()])
    with pytest.raises(ArtifactError, match="expected one and the same"):
        merge_fits([])
