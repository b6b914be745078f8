"""Products of named pairs: one tree of additions in float64, and what is stored of it, whatever order is fast.

The GPU's kernel sums as torch does.
"""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from sae_assets.ops import dot_products as module
from sae_assets.ops.dot_products import Pairs, dot_products, products, quick_products, rounded_products
from sae_assets.ops.segments import tree_sums
from sae_assets_tests.strategies import DEVICES

pytestmark = pytest.mark.slow

Problem = tuple[Tensor, ...]  # columns, their norms, bias; rows, their norms; unit and row of pairs


def of_pairs(columns: Tensor, bias: Tensor, rows: Tensor, seed: int) -> Problem:
    """41 of the pairs, by row, some more than once and some rows without any."""
    generator = torch.Generator().manual_seed(seed)
    unit, row = (torch.randint(len(each), (41,), generator=generator) for each in (columns, rows))
    return columns, columns.double().norm(dim=1), bias, rows, rows.norm(dim=1), unit, row.sort().values


def ordinary(d: int, of_weights: float = 1.0, of_rows: float = 1.0) -> Problem:
    generator = torch.Generator().manual_seed(d)
    columns, rows = torch.randn(9, d, generator=generator), torch.randn(6, d, dtype=torch.float64, generator=generator)
    bias = torch.randn(9, generator=generator).double() * of_weights * of_rows
    return of_pairs(columns * of_weights, bias, rows * of_rows, d)


def between_two_floats(d: int) -> Problem:
    """Sums of large terms that nearly cancel, in the middle of two floats but for what the order makes of their end."""
    generator = torch.Generator().manual_seed(d)
    columns = torch.ones(9, d)
    rows = (torch.rand(40, d, dtype=torch.float64, generator=generator) - 0.5) * 16
    rows -= rows.mean(dim=1, keepdim=True)
    rows[:, 0] += 1 + 2.0**-24
    rows = rows.gather(1, torch.rand(40, d, generator=generator).argsort(1))
    return of_pairs(columns, torch.zeros(9, dtype=torch.float64), rows, d)


def rounded(problem: Problem, budget: int) -> Tensor:
    columns, norms, bias, rows, norm, unit, row = problem
    return rounded_products(Pairs(columns, rows, unit, row), norms, bias, norm, budget)


def rounded_by_the_tree(columns, _norms, bias, rows, _norm, unit, row) -> Tensor:
    return (tree_sums(products(columns, rows, unit, row)) + bias[unit]).float()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("budget", [1, 2**12, 2**28])
@pytest.mark.parametrize("d", [1, 3, 24, 77, 1024, 3584])
def test_dot_products_add_halves_to_halves(device, d, budget):
    """Equal bits at any budget and on any device; a GPU's kernel leaves the last, odd number of terms to torch."""
    generator = torch.Generator().manual_seed(d)
    columns, rows = torch.randn(9, d, generator=generator), torch.randn(6, d, dtype=torch.float64, generator=generator)
    unit, row = torch.randint(9, (40,), generator=generator), torch.randint(6, (40,), generator=generator).sort().values
    expected = tree_sums(products(columns, rows, unit, row))
    got = dot_products(Pairs(*(each.to(device) for each in (columns, rows, unit, row))), budget)
    assert got.dtype == torch.float64 and torch.equal(got.cpu(), expected)
    torch.testing.assert_close(got.cpu(), (columns[unit].double() * rows[row]).sum(1), rtol=1e-9, atol=1e-9)


@pytest.fixture(params=["matrices and vectors", "sums"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of the ways in which products are added up quickly, however few they are."""
    monkeypatch.setattr(module, "TERMS_PER_ROW", 0 if request.param == "matrices and vectors" else 2**62)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("budget", [1, 2**12, 2**28])
@pytest.mark.parametrize("d", [1, 3, 24, 77, 1024, 3584])
def test_what_is_stored_is_the_trees_sum_rounded_once(d, budget):
    """At any budget, in the middle of two floats and elsewhere."""
    for problem in (ordinary(d), between_two_floats(d)):
        assert torch.equal(rounded(problem, budget), rounded_by_the_tree(*problem))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of_rows", [2.0**-1000, 2.0**-149, 2.0**-40, 1.0, 2.0**60])
@pytest.mark.parametrize("of_weights", [2.0**-149, 2.0**-126, 1.0, 2.0**60])
def test_products_of_any_size_are_stored_as_the_tree_gives_them(of_weights, of_rows, device):
    """What leaves the normal numbers of float32, and norms whose squares are 0 in float64, among them."""
    problem = ordinary(77, of_weights, of_rows)
    got = rounded(tuple(each.to(device) for each in problem), 2**20)
    assert torch.equal(got.cpu(), rounded_by_the_tree(*problem))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("d", [24, 77, 1024, 3584])
def test_an_order_that_is_fast_stays_within_its_reach_and_would_store_other_bits(d):
    """So that the tree has to be asked for some, and is for few of ordinary ones."""
    columns, norms, _bias, rows, norm, unit, row = problem = between_two_floats(d)
    quick, tree = (each(Pairs(columns, rows, unit, row), 2**20) for each in (quick_products, dot_products))
    assert ((quick - tree).abs() <= d * module.REACH * norms[unit] * norm[row]).all()
    assert d == 24 or not torch.equal(quick.float(), rounded_by_the_tree(*problem))


@pytest.mark.usefixtures("way")
def test_the_tree_is_asked_for_few(monkeypatch):
    """And for all that lie in the middle of two floats."""
    asked, real = [], dot_products
    monkeypatch.setattr(module, "dot_products", lambda *args: asked.append(len(args[0])) or real(*args))
    rounded(ordinary(1024), 2**20)
    rounded(between_two_floats(1024), 2**20)
    assert asked[0] <= 1 and asked[1] == 41


KERNEL = """
import torch
from sae_assets.ops.dot_products import products
from sae_assets.ops.folded_products import folded, terms_left
from sae_assets.ops.segments import tree_sums

assert [terms_left(d) for d in (8, 24, 768, 1024, 2304, 3584, 4096)] == [1, 3, 3, 1, 9, 7, 4]
assert terms_left(77) is None and terms_left(12) is None
for d in (8, 24, 768, 1024, 3584, 4096):
    generator = torch.Generator().manual_seed(d)
    columns, rows = torch.randn(5, d, generator=generator), torch.randn(4, d, dtype=torch.float64, generator=generator)
    unit, row = torch.randint(5, (3,), generator=generator), torch.randint(4, (3,), generator=generator)
    left = folded(columns, rows, unit, row)
    assert left.shape == (3, terms_left(d))
    assert torch.equal(tree_sums(left), tree_sums(products(columns, rows, unit, row))), d
print("equal")
"""


@pytest.mark.long
def test_the_kernel_interpreted_on_the_cpu_sums_as_torch_does():
    """In a process of its own: Triton is told to interpret before it is loaded."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", KERNEL], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "equal", done.stderr
