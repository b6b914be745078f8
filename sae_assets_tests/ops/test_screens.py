"""The screen's bound holds in either precision, and codes are the same."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.ops import screens
from sae_assets.ops.jumprelu import JumpReluEncoder
from sae_assets.ops.screens import Screen
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets_tests.ops.codes import assert_bit_equal
from sae_assets_tests.strategies import PROPERTY

pytestmark = pytest.mark.slow


def narrow_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 operands and float32 sums, which torch offers on a GPU alone."""
    real = torch.mm

    def mm(a: torch.Tensor, b: torch.Tensor, out_dtype: torch.dtype | None = None) -> torch.Tensor:
        assert a.dtype == b.dtype == torch.float16 and out_dtype == torch.float32
        return real(a.float(), b.float())

    monkeypatch.setattr(screens, "operands", lambda *_: torch.float16)
    monkeypatch.setattr(torch, "mm", mm)


def rounded_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 operands and results, as on CPUs with instructions for them; others give the same, slowly."""
    monkeypatch.setattr(screens, "operands", lambda *_: torch.bfloat16)


def by(onednn: bool) -> Callable[[pytest.MonkeyPatch], None]:
    """float32 by one of torch's two libraries, whichever would be chosen here."""
    return lambda patch: patch.setattr(screens, "is_onednn_faster", lambda: onednn)


WIDE = {"float32": by(False), "float32 by oneDNN": by(True)}
PRECISIONS = {**WIDE, "narrow": narrow_on_the_cpu, "narrow results": rounded_on_the_cpu}


@pytest.fixture(params=list(PRECISIONS))
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    PRECISIONS[request.param](monkeypatch)
    return request.param


def problem(seed: int, d: int, units: int, rows: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(d, units, generator=generator) * torch.exp(spread * torch.randn(units, generator=generator))
    return torch.randn(rows, d, generator=generator), weight


@pytest.mark.parametrize("spread", [0.0, 4.0])
@pytest.mark.parametrize("d", [1, 7, 64, 1500])
def test_no_product_lies_further_from_the_exact_one_than_the_bound(precision, d, spread):
    x, weight = problem(d, d, 90, 40, spread)
    screen = Screen(weight.T.contiguous(), 96)
    centred, norms = x.double(), weight.double().norm(dim=0)
    norm = centred.norm(dim=1, keepdim=True)
    screened, stray, scale = screen.product(centred, norm)
    assert screened.shape == (40, 96) and screened.dtype == torch.float32 and not screened[:, 90:].any()
    assert scale.dtype == torch.float32 and scale.frexp().mantissa == 0.5
    screened = screened * scale
    error = (screened[:, :90].double() - centred @ weight.double()).abs()
    bound = stray * norms + (norm + stray) * screen.slope + screen.share * screened[:, :90].abs()
    assert (error <= bound).all()
    assert error.max() > 0 or d == 1
    assert (screen.share > 0) == (precision == "narrow results")
    if precision not in WIDE:
        assert screen.dtype == {"narrow": torch.float16, "narrow results": torch.bfloat16}[precision]
        assert (error / bound).max() > 0.01  # and it is no bound that would hold for anything


@PROPERTY
@given(
    seed=st.integers(0, 2**31), d=st.integers(1, 40), units=st.integers(1, 150), k=st.integers(1, 150),
    spread=st.sampled_from([0.0, 3.0]), close=st.booleans(),
)  # fmt: skip
def test_the_screens_precision_changes_no_code(seed, d, units, k, spread, close):
    """Units that 16 bits cannot tell apart, and any number of them per tile, give the code that float32 gives."""
    x, weight = problem(seed, d, units, 5, spread)
    if close:
        weight = weight[:, :1] * (1 + 2.0**-20 * torch.arange(units))
    bias, jump = 0.1 * torch.randn(units), torch.rand(units) * 3 - 1
    made = {}
    for name, set_up in PRECISIONS.items():
        with pytest.MonkeyPatch.context() as patch:
            set_up(patch)
            encoders = TopKEncoder(weight, min(k, units), bias=bias), JumpReluEncoder(weight, jump, bias=bias)
            assert (encoders[0].screen.dtype == torch.float32) == (name in WIDE)
            made[name] = [encoder.encode(x) for encoder in encoders]
    for each in zip(*made.values(), strict=True):
        for other in each[1:]:
            assert_bit_equal(each[0], other)


def test_onednn_is_asked_only_where_it_is_faster_and_computes_in_float32(monkeypatch):
    """A torch without it, and an environment in which it takes less than float32, leave the other library's product."""
    x, columns = torch.randn(5, 40), torch.randn(70, 40)

    def missing(*_):
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    def narrow(x, columns):
        return (x.bfloat16() @ columns.bfloat16().T).float()

    screens.is_onednn_faster.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screens, "onednn_product", missing)
        assert torch.equal(screens.screening_product(x, columns), screens.exact_float32_product(x, columns.T))
    screens.is_onednn_faster.cache_clear()
    by(True)(monkeypatch)
    for d in (1, 40, 1024):
        assert screens.errs_as_float32(d, lambda x, columns: x @ columns.T)
        assert not screens.errs_as_float32(d, narrow)
    monkeypatch.setattr(screens, "onednn_product", narrow)
    assert torch.equal(screens.screening_product(x, columns), screens.exact_float32_product(x, columns.T))


def test_what_runs_beside_does_not_choose_between_products(monkeypatch):
    """Both are tried in turns, so that neither is alone when something else has the processor for a while."""
    clock, calls = [0.0], []

    def taking(seconds):
        def product(*_):
            calls.append(seconds)
            clock[0] += seconds + (3 if len(calls) <= 4 else 0)

        return product

    screens.is_onednn_faster.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(screens, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        patch.setattr(screens, "onednn_product", taking(1.0))
        patch.setattr(screens, "exact_float32_product", taking(1.2))
        assert screens.is_onednn_faster()
    screens.is_onednn_faster.cache_clear()
    assert calls[:4] == [1.0, 1.2, 1.0, 1.2]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_nothing_is_lost_where_large_terms_cancel(monkeypatch, precision, seed):
    """Products of float32 alone would choose other units."""
    generator = torch.Generator().manual_seed(seed)
    x = 100 * torch.randn(1, 64, generator=generator, dtype=torch.float64)
    shared = torch.randn(64, generator=generator, dtype=torch.float64)
    shared -= x[0] * (x[0] @ shared) / (x[0] @ x[0])
    weight = (shared[:, None] + 1e-6 * torch.randn(64, 400, generator=generator, dtype=torch.float64)).float()
    exact = (x.float().double() @ weight.double()).float().topk(32).indices.tolist()[0]
    alone = (x.float() @ weight).topk(32).indices.tolist()[0]
    assert {*alone} != {*exact}
    PRECISIONS[precision](monkeypatch)
    assert TopKEncoder(weight, 32).encode(x.float()).unit_ids.tolist() == exact


@pytest.mark.parametrize("d", [128, 1024, 3584, 3585])
def test_a_product_that_rounds_sums_on_the_way_is_found_out(d):
    """The bound does not hold of it; whatever torch has chosen for this processor sums in float32."""

    def in_parts(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((len(a), b.shape[1]), dtype=torch.bfloat16)
        for start in range(0, d, 64):
            total += (a[:, start : start + 64].float() @ b[start : start + 64].float()).bfloat16()
        return total

    assert screens.sums_in_float32(d) and not screens.sums_in_float32(d, in_parts)


def test_weights_that_bfloat16_would_make_infinite_are_screened_in_float32(monkeypatch):
    rounded_on_the_cpu(monkeypatch)
    largest = torch.finfo(torch.float32).max
    assert Screen(torch.tensor([[largest]]), 1).dtype == torch.float32
    assert Screen(torch.tensor([[largest / 2]]), 1).dtype == torch.bfloat16


@pytest.mark.parametrize("size", [2.0**-126, 2.0**-60, 2.0**-14, 1.0, 2.0**17, 2.0**60])
@pytest.mark.parametrize("of_weights", [2.0**-100, 2.0**-30, 1.0, 2.0**60])
def test_operands_of_any_size_are_scaled_into_float16(monkeypatch, size, of_weights):
    """No entry is rounded to infinity, rows much smaller than others included, and codes are float32's."""
    x, weight = problem(5, 40, 70, 6, 0.0)
    x[0] *= 2.0**-20
    x, weight, bias = x * size, weight * of_weights, torch.randn(70) * size * of_weights
    expected = [TopKEncoder(weight, 5, bias=each).encode(x) for each in (None, bias)]
    narrow_on_the_cpu(monkeypatch)
    encoders = [TopKEncoder(weight, 5, bias=each) for each in (None, bias)]
    assert all(encoder.screen.dtype == torch.float16 for encoder in encoders)
    for encoder, code in zip(encoders, expected, strict=True):
        assert_bit_equal(encoder.encode(x), code)
    screened, _, scale = encoders[0].screen.product(x.double(), x.double().norm(dim=1, keepdim=True))
    assert screened.isfinite().all() and (screened * scale).isfinite().all()
