"""Activations like those of a TopK SAE: Zipf-distributed units, log-normal values, rows sorted, seeded."""

import torch

from sae_assets.artifacts import SparseActivations, offsets_of


def synthetic_chunk(n_examples: int, rows_per_example: int, n_units: int, k: int, seed: int = 0) -> SparseActivations:
    """A chunk with exactly k distinct active units in every row."""
    generator = torch.Generator().manual_seed(seed)
    weights = 1 / torch.arange(1, n_units + 1, dtype=torch.float64)
    weights = weights[torch.randperm(n_units, generator=generator)]
    n_rows = n_examples * rows_per_example
    ends = weights.cumsum(0)
    units = torch.cat([_distinct(ends, min(4096, n_rows - start), k, generator) for start in range(0, n_rows, 4096)])
    values = torch.empty(n_rows, k).log_normal_(0.5, 0.7, generator=generator).sort(1, descending=True).values
    for row in (values[:, 1:] == values[:, :-1]).any(1).nonzero().flatten().tolist():  # equal ones by unit
        units[row] = units[row][sorted(range(k), key=lambda index, row=row: (-values[row, index], units[row, index]))]
    return SparseActivations(
        first_example=0,
        example_offsets=offsets_of(torch.full((n_examples,), rows_per_example)),
        row_offsets=offsets_of(torch.full((n_rows,), k)),
        unit_ids=units.flatten().int(),
        values=values.flatten(),
        n_units=n_units,
        l0=torch.full((n_rows,), k, dtype=torch.int32),
        k_stored=k,
        total_mass=float(values.double().sum()),
        dropped_mass=0.0,
    )


def _distinct(ends: torch.Tensor, n_rows: int, k: int, generator: torch.Generator) -> torch.Tensor:
    """int64 [n_rows, k]: k units of each row, drawn one after another, each at most once, by weights that sum to ends.

    Units are drawn with repetition, and repetitions are left out, until the last row has k.
    """
    drawn = torch.empty(n_rows, 0, dtype=torch.int64)
    while True:
        points = torch.rand(n_rows, 4 * k, dtype=torch.float64, generator=generator) * ends[-1]
        drawn = torch.cat([drawn, torch.searchsorted(ends, points, right=True).clamp(max=len(ends) - 1)], dim=1)
        ordered, order = drawn.sort(dim=1, stable=True)
        repeats = torch.zeros_like(drawn, dtype=torch.bool)
        repeats[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        first = ~torch.zeros_like(repeats).scatter_(1, order, repeats)
        chosen = first & (first.cumsum(1) <= k)
        if bool((chosen.sum(1) == k).all()):
            return drawn[chosen].view(n_rows, k)
