"""Rarefaction says how many units would fire on fewer rows: numbers are comparable only among equally many rows."""

import torch

from sae_assets.artifacts import SparseRows
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic


@plain_arithmetic()
def expected_units(rows: SparseRows, n_drawn: int) -> float:
    """Return units expected to fire on ``n_drawn`` rows that are drawn without replacement.

    ``Σ_u 1 − C(N − N_u, n) / C(N, n)``, N rows of which N_u name unit u (Hurlbert 1971, Ecology 52).

    Raises:
        ArtifactError: more are to be drawn than there are, or fewer than none.
    """
    n = rows.n_rows
    if not 0 <= n_drawn <= n:
        raise ArtifactError(f"{n_drawn} rows cannot be drawn from {n}.")
    without = n - torch.bincount(rows.unit_ids, minlength=rows.n_units)
    possible = without[without >= n_drawn].double()  # all rows drawn may lack the unit
    draws = _log_choose(torch.tensor(n, dtype=torch.float64, device="cpu"), n_drawn)
    return rows.n_units - float((_log_choose(possible, n_drawn) - draws).exp().sum())


def _log_choose(n: torch.Tensor, k: int) -> torch.Tensor:
    fewer = torch.tensor(k + 1, dtype=torch.float64, device="cpu").lgamma()
    return (n + 1).lgamma() - fewer - (n - k + 1).lgamma()
