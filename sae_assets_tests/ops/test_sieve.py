"""Rows screened in bytes give the codes that one product gives, and the sieve is left where it does not pay.

Without Numba there is no sieve: then each of these tests is skipped, and fails where ``SAE_ASSETS_REQUIRE_NUMBA=1``.
"""

import os
import subprocess
import sys
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sae_assets.ops import (
    byte_products,
    compiled,
    detection_kernels,
    encoding_kernels,
    jit,
    screens,
    search_kernels,
    sieve,
    sieve_kernels,
    value_kernels,
    ways,
)
from sae_assets.ops.byte_products import ZERO, adds_up, byte_product, packed_weights
from sae_assets.ops.compiled import Loops
from sae_assets.ops.jumprelu import JumpReluEncoder
from sae_assets.ops.sieve import Sieve
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder
from sae_assets.ops.sparse_code import SparseCode
from sae_assets_tests.helpers.compiled_loops import expect_compiled
from sae_assets_tests.ops.codes import assert_bit_equal
from sae_assets_tests.strategies import PROPERTY

pytestmark = [pytest.mark.xdist_group("compiled"), pytest.mark.slow]

D, UNITS, ROWS = 40, 2100, 70
LOOPS = Loops(encoding_kernels, value_kernels, detection_kernels, search_kernels, sieve_kernels)


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    expect_compiled()


def test_torch_multiplies_bytes_here():
    """Else none of these tests would say anything, and encoding would be slower."""
    assert any(map(exactly_added, byte_products.WEIGHTS))


def exactly_added(most: int) -> bool:
    return adds_up(D, most)


def random(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, D, generator=generator), torch.randn(D, UNITS, generator=generator)


def outliers(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return x * torch.where(torch.arange(D) % 13 == 0, 500.0, 1.0), weight


def ties(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return (x * 2).round() / 2, (weight * 2).round() / 2


def duplicates(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return x, weight[:, torch.randint(60, (UNITS,), generator=generator)]


def near_duplicates(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return x, weight[:, :1] * (1 + 2.0**-20 * torch.arange(UNITS) / UNITS)


def all_sizes(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return (
        x * torch.exp(9 * torch.randn(ROWS, 1, generator=generator)),
        weight * torch.exp(5 * torch.randn(UNITS, generator=generator)),
    )


def subnormal(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return x * 1e-40, weight * torch.where(torch.arange(UNITS) % 2 == 0, 1e-41, 1.0)


def zeros(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight = random(generator)
    return x * (torch.arange(ROWS) % 3 > 0)[:, None], weight * (torch.arange(UNITS) % 5 > 0)


def cancelling(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All sums are of large terms and near 0 for the first row, which all others resemble."""
    x, weight = random(generator)
    x = 100 * (x[:1] + 1e-4 * x)
    shared = weight[:, 0] - x[0] * (x[0] @ weight[:, 0]) / (x[0] @ x[0])
    return x, shared[:, None] + 1e-5 * weight


def sparse(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows that are few directions and a little noise, as an SAE is made for."""
    x, weight = random(generator)
    weight /= weight.norm(dim=0)
    code = (torch.rand(ROWS, UNITS, generator=generator) < 8 / UNITS).float() * 3
    return code @ weight.T + 0.05 * x, weight


KINDS = random, outliers, ties, duplicates, near_duplicates, all_sizes, subnormal, zeros, cancelling, sparse


def encoded(encoder: Encoder, x: Tensor, *, sifted: bool, k_stored: int | None = None) -> SparseCode:
    """A code by one way or the other, whatever the clock says, and whatever bytes are worth here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "largest_code", lambda _: next(filter(exactly_added, byte_products.WEIGHTS)))
        patch.setattr(ways, "ROWS_BEFORE", 0)
        patch.setattr(ways, "loops_for", lambda *_: LOOPS)
        patch.setattr(ways.Ways, "_is_due", lambda _: sifted)
        patch.setattr(sieve, "SHARE", 1)  # however many are candidates
        code = encoder.encode(x, k_stored)
    assert encoder.ways.sifted == sifted
    return code


@PROPERTY
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(KINDS), k=st.sampled_from([1, 7, 64, 300]),
       lifted=st.booleans(), k_stored=st.none() | st.integers(1, 20), at_once=st.sampled_from([UNITS, 600]),
       threads=st.sampled_from([1, 3]))  # fmt: skip
def test_a_sieve_changes_no_code(seed, kind, k, lifted, k_stored, at_once, threads):
    """Ids, values, order, L0 and masses are those of one product in float32, and so of the exact ones, however many
    units are screened at once and rows shared out."""
    generator = torch.Generator().manual_seed(seed)
    x, weight = kind(generator)
    size = float((x[:9].double() @ weight[:, :99].double()).abs().mean())
    bias = torch.randn(UNITS, generator=generator) * size if lifted else None
    jump = (torch.rand(UNITS, generator=generator) * 3 - 1) * size
    for encoder in TopKEncoder(weight, k, bias=bias), JumpReluEncoder(weight, jump, bias=bias):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "GRAIN", 1)
            patch.setattr(torch, "get_num_threads", lambda: threads)
            patch.setattr(sieve, "UNITS_AT_ONCE", at_once)
            plain, sifted = (encoded(encoder, x, sifted=way, k_stored=k_stored) for way in (False, True))
        assert_bit_equal(sifted, plain)
        assert encoder.ways.sieve is not None and len(encoder.ways.sieve.parts) == -(-UNITS // at_once)


def made(x: Tensor, weight: Tensor, k: int = 16, most: int | None = None) -> Sieve:
    columns = weight.T.contiguous()
    nothing = torch.zeros(len(columns), dtype=torch.float64)
    most = most or next(filter(exactly_added, byte_products.WEIGHTS))
    return Sieve(LOOPS, columns, nothing, nothing, k, 16, x.double(), most)


@pytest.mark.parametrize("most", [None, 31])  # with few bits of weights, what is left of these is what counts first
@pytest.mark.parametrize("kind", [random, outliers, all_sizes, sparse, cancelling, subnormal])
def test_each_screen_lies_within_its_bound_and_not_far_below_it(kind, most, monkeypatch):
    """Distances are measured: a screen errs by no more, and by a good part of that; each by less than the last, the
    second by half at most."""
    x, weight = kind(torch.Generator().manual_seed(3))
    exact = x.double() @ weight.double()
    shares, errors, refine = [], [], sieve_kernels.refine

    def noted(screened: np.ndarray, scale: np.ndarray, of_rows: np.ndarray, *args: np.ndarray) -> bool:
        of_units = args[4]
        bound = of_rows[:, :1] * of_units[0] + of_rows[:, 2:] * of_units[2] + of_units[3]
        added = screened.astype(np.float64) * scale[:, None]
        shares.append(np.abs(added - exact.numpy()) / bound)
        errors.append(np.median(bound))
        return collect(screened, scale, of_rows, *args)

    def refined(*args: np.ndarray) -> None:
        refine(*args)
        first, row_of, value_of, error_of = args[-4:]
        unit_of = np.repeat(np.arange(UNITS), np.diff(first))
        assert len(unit_of) >= 16
        row_of, value_of, error_of = (each[: len(unit_of)] for each in (row_of, value_of, error_of))
        shares.append(np.abs(value_of - exact.numpy()[row_of, unit_of]) / error_of)
        errors.append(np.median(error_of))

    collect = sieve_kernels.collect
    monkeypatch.setattr(sieve_kernels, "collect", noted)
    monkeypatch.setattr(sieve_kernels, "refine", refined)
    monkeypatch.setattr(sieve, "SHARE", 1)
    assert made(x, weight, k=0, most=most).candidates(LOOPS, x.double()) is not None
    assert len(shares) == 3 and all(share.max() <= 1 for share in shares)
    if kind in (random, outliers, sparse):
        assert all(share.max() > 0.2 for share in shares) and 12 * errors[2] < errors[1] < 0.55 * errors[0]


@pytest.mark.parametrize("width", [64, 128, 448])
def test_bytes_are_multiplied_as_a_plain_loop_does(width):
    """By whatever instructions loops have here, the largest sums included."""
    generator = torch.Generator().manual_seed(width)
    most = sieve_kernels.LARGEST
    weights = torch.randint(-most, most + 1, (5, width), generator=generator, dtype=torch.int64)
    weights[0], weights[1], weights[2, ::2] = most, -most, -most
    codes = torch.randint(256, (9, width), generator=generator)
    codes[0], codes[1] = 255, 0
    first, row_of = torch.arange(6) * 9, torch.arange(9).repeat(5).int()
    values, errors = torch.zeros((2, 45), dtype=torch.float64)
    of_rows, of_units, least = torch.zeros(9, 3).double(), torch.zeros(4, 5).double(), torch.full((9,), -torch.inf)
    ones, nothing = torch.ones(9).double(), torch.zeros(5, dtype=torch.int64)
    columns = codes.to(torch.uint8), ones, of_rows, least.double(), weights.to(torch.int8), ones[:5], nothing, of_units
    sieve_kernels.refine(*(each.numpy() for each in (*columns, first, row_of, values, errors)))
    assert torch.equal(values.unflatten(0, (5, 9)), (weights @ codes.T).double())


@pytest.mark.parametrize("features", [
    pytest.param("+avx512vnni,+avx512f,+avx2,+fma", marks=pytest.mark.long), "+avx2,+fma", "+sse4.2",
])  # fmt: skip
def test_instructions_are_those_of_the_processor(features):
    """Loops that were compiled for another processor would end the process: each kind is tried in one of its own."""
    here = jit.numba.core.codegen.get_host_cpu_features().split(",")
    if not set(features.split(",")) <= set(here):
        pytest.skip("this processor has no such instructions")
    environment = {**os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features}
    calls = "test_bytes_are_multiplied_as_a_plain_loop_does(448); print(sieve_kernels.LARGEST)"
    code = f"from {__name__} import *; {calls}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == (63 if features.startswith("+avx2") else 127)


def test_a_guess_that_is_too_high_is_mended(monkeypatch):
    """It is proved by products in float32, and a wrong one costs a second look, no unit."""
    generator = torch.Generator().manual_seed(1)
    x, weight = random(generator)
    encoder = TopKEncoder(weight, 32)
    plain = encoded(encoder, x, sifted=False)
    looks, real = [], sieve_kernels.collect

    def noted(*args: np.ndarray) -> bool:
        looks.append(len(args))
        return real(*args)

    monkeypatch.setattr(sieve_kernels, "collect", noted)
    assert_bit_equal(encoded(encoder, x, sifted=True), plain)
    assert len(looks) == 1
    monkeypatch.setattr(sieve, "DEVIATIONS", -10.0)
    assert_bit_equal(encoded(encoder, x, sifted=True), plain)
    assert len(looks) == 3


@pytest.mark.parametrize("units", [UNITS, 2**11 - 1])
def test_it_is_known_beforehand_what_an_encoder_comes_to_hold(units):
    """All that is as large as its directions: of few units no bytes are made."""
    x, weight = torch.randn(ROWS, 128), torch.randn(128, units)
    encoder = TopKEncoder(weight, 16)
    foretold = encoder.held_bytes
    encoded(encoder, x, sifted=units == UNITS)
    directions = [encoder.columns, encoder.screen.operand]
    if encoder.ways.sieve is not None:
        directions += [*vars(encoder.ways.sieve).values(), *(part.packed for part in encoder.ways.sieve.parts)]
    large = [each for each in directions if isinstance(each, Tensor) and each.numel() >= weight.numel()]
    held = sum({each.data_ptr(): each.numel() * each.element_size() for each in large if not each.is_mkldnn}.values())
    held += sum(each.numel() for each in large if each.is_mkldnn)
    assert foretold == encoder.held_bytes and held <= 1.02 * foretold and foretold <= 1.02 * held


def test_few_more_than_are_stored_are_left():
    """So that the exact products are few: of rows as they come, a unit in a hundred more."""
    x, weight = random(torch.Generator().manual_seed(2))
    found = made(x, weight).candidates(LOOPS, x.double())
    assert found is not None
    kept, units = found
    assert len(units) == kept.sum() and 16 * ROWS <= len(units) <= 16.5 * ROWS


def test_rows_with_too_many_candidates_are_left_to_one_product():
    """And so are those that would leave float32 on the way."""
    x, weight = near_duplicates(torch.Generator().manual_seed(2))
    assert made(x, weight, k=0).candidates(LOOPS, x.double()) is None
    large = torch.full((ROWS, D), 1e37)
    x, weight = random(torch.Generator().manual_seed(2))
    assert made(x, weight).candidates(LOOPS, large.double()) is None


def test_sums_of_bytes_that_are_cut_are_found_out(monkeypatch):
    """As processors without instructions for bytes cut those of two products at 16 bits."""

    def cut(codes: Tensor, weights: Tensor, scales: Tensor, lift: Tensor) -> Tensor:
        products = codes[:, None].int() * weights[None].int()
        return products.unflatten(2, (-1, 2)).sum(3).clamp(-(2**15), 2**15 - 1).sum(2).float() * scales + lift

    monkeypatch.setattr(byte_products, "packed_weights", lambda codes: codes)
    monkeypatch.setattr(byte_products, "byte_product", cut)
    assert adds_up(40, 63) and not adds_up(40, 127)


def test_bytes_count_from_the_byte_of_zero():
    codes = torch.tensor([[ZERO, ZERO + 1, 255]], dtype=torch.uint8)
    weights = torch.tensor([[1, 2, 3], [-3, 0, 7]], dtype=torch.int8)
    lift = -ZERO * weights.sum(1).float() * 0.5
    found = byte_product(codes, packed_weights(weights), torch.full((2,), 0.5), lift)
    assert found.tolist() == [[0.5 * (2 + 3 * 127), 0.5 * 7 * 127]]


@pytest.mark.parametrize(("first", "later", "faster"), [(0.5, 0.0005, True), (0.05, 0.05, False), (0.5, 0.001, False)])
def test_a_first_product_that_is_slow_decides_nothing(monkeypatch, first, later, faster):
    """It makes the kernel; that later ones are slow, or hardly faster than float32's millisecond, does decide."""
    clock, calls = Clock(), []

    def product(*_: object) -> None:
        calls.append(clock.now)
        clock.now += later if calls[1:] else first

    def wide(*_: object) -> None:
        clock.now += 0.001

    monkeypatch.setattr(byte_products, "time", clock)
    monkeypatch.setattr(screens, "time", clock)
    monkeypatch.setattr(byte_products, "packed_weights", lambda codes: codes)
    monkeypatch.setattr(byte_products, "byte_product", product)
    monkeypatch.setattr(byte_products, "screening_product", wide)
    byte_products._is_faster.cache_clear()
    found = byte_products._is_faster()
    byte_products._is_faster.cache_clear()
    assert found == faster and len(calls) <= 18


class Clock:
    """Time that passes by what each way is said to take."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def carried_out(monkeypatch: pytest.MonkeyPatch, sifted: float, plain: float, blocks: int, many: bool = False
                ) -> list[bool]:  # fmt: skip
    """Which of the blocks were sifted, where each way takes so long."""
    clock, done = Clock(), []
    monkeypatch.setattr(ways, "time", clock)
    monkeypatch.setattr(ways, "largest_code", lambda _: 127)
    monkeypatch.setattr(ways, "loops_for", lambda *_: LOOPS)
    code = None if many else (torch.zeros(256, dtype=torch.int64), torch.zeros(0, dtype=torch.int32))

    class Made:
        @staticmethod
        def candidates(*_: object) -> object:
            return code

    way = ways.Ways(2**12, 8, 2**20)
    for _ in range(blocks):
        with way.timed(256):
            done.append(way.candidates(torch.zeros(256, 8), lambda *_: cast("Sieve", Made())) is not None)
            clock.now += sifted if done[-1] else plain
    return done


def test_the_faster_way_is_gone_once_both_were_tried(monkeypatch):
    faster = carried_out(monkeypatch, 1.0, 2.0, 60)
    assert not faster[0] and sum(faster[:8]) >= 3 and faster[8:].count(False) == 1
    slower = carried_out(monkeypatch, 2.0, 1.0, 60)
    assert sum(slower[:8]) == 3 and slower[8:].count(True) == 1


def test_a_sieve_that_holds_too_much_is_tried_more_and_more_seldom(monkeypatch):
    tries, real = [], ways.Ways._is_due

    def noted(way: ways.Ways) -> bool:
        tries.append(real(way))
        return tries[-1]

    monkeypatch.setattr(ways.Ways, "_is_due", noted)
    assert not any(carried_out(monkeypatch, 1.0, 2.0, 200, many=True))
    assert 1 <= sum(tries) <= 9
