"""p values over many tests and over draws that end early: Holm, Benjamini & Hochberg, max T, Besag & Clifford."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic


@plain_arithmetic()
def holm(p: Float[Tensor, " tests"]) -> Float[Tensor, " tests"]:
    """Return Holm's step-down family-wise p (Holm 1979); NaN are no tests."""
    tested = ~p.isnan()
    ordered, order = p[tested].double().sort()
    steps = len(ordered) - torch.arange(len(ordered), device=p.device)
    adjusted = (ordered * steps).cummax(0).values.clamp(max=1) if len(ordered) else ordered
    return _scattered(adjusted, order, tested)


@plain_arithmetic()
def benjamini_hochberg(p: Float[Tensor, " tests"]) -> Float[Tensor, " tests"]:
    """Return adjusted p that bound the false discovery rate (Benjamini & Hochberg 1995); NaN are no tests."""
    tested = ~p.isnan()
    ordered, order = p[tested].double().sort()
    ranks = torch.arange(1, len(ordered) + 1, device=p.device)
    raised = (ordered * len(ordered) / ranks).flip(0)
    adjusted = raised.cummin(0).values.flip(0).clamp(max=1) if len(ordered) else ordered
    return _scattered(adjusted, order, tested)


@plain_arithmetic()
def max_t(observed: Float[Tensor, " tests"], null: Float[Tensor, "tests shuffles"]) -> Float[Tensor, " tests"]:
    """Return step-down family-wise p of statistics under joint shuffles (Westfall & Young 1993, algorithm 4.1).

    Statistics are standardised by mean and standard deviation over the shuffles and the observation, all alike, so
    that the observation stays exchangeable with them. ``p = (b + 1) / (m + 1)``. NaN are no tests.
    """
    tested = ~(observed.isnan() | null.isnan().any(1))
    every = torch.cat([observed[tested, None], null[tested]], 1).double()
    if not every.numel():
        return torch.full_like(observed, torch.nan, dtype=torch.float64)
    spread = every.std(1, correction=0, keepdim=True)
    every = torch.where(spread > 0, (every - every.mean(1, keepdim=True)) / spread, 0.0)
    ordered, order = every[:, 0].sort(descending=True, stable=True)
    # Row i is compared with the largest of it and of all that are observed to be smaller.
    largest = every[order, 1:].flip(0).cummax(0).values.flip(0)
    p = ((largest >= ordered[:, None]).sum(1) + 1).double() / every.shape[1]
    return _scattered(p.cummax(0).values, order, tested)


def _scattered(values: Tensor, order: Tensor, tested: Tensor) -> Tensor:
    """Return values in the order of the tests, NaN where there was none."""
    result = torch.full(tested.shape, torch.nan, dtype=torch.float64, device=tested.device)
    inside = torch.empty_like(values, dtype=torch.float64)
    inside[order] = values.double()
    result[tested] = inside
    return result


@plain_arithmetic()
def sequential_p(
    observed: Float[Tensor, " tests"], null: Float[Tensor, "tests shuffles"], stop_after: int
) -> tuple[Float[Tensor, " tests"], Int[Tensor, " tests"]]:
    """Return p by Besag & Clifford 1991, and the shuffles that it counts: up to the ``stop_after``-th as good as
    observed.

    ``stop_after / l`` if that was shuffle l, else ``(b + 1) / (m + 1)`` of all m.
    """
    reached = (null >= observed[:, None]).cumsum(1)
    m = null.shape[1]
    stop = (reached < stop_after).sum(1) + 1
    p = torch.where(stop <= m, stop_after / stop.double(), ((reached[:, -1] if m else stop - 1) + 1).double() / (m + 1))
    return p.masked_fill(observed.isnan(), torch.nan), stop.clamp(max=m)
