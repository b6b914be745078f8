"""Activations like those of a TopK SAE: Zipf-distributed units, log-normal values, rows sorted, seeded."""

import torch

from sae_assets.artifacts import SparseActivations, offsets_of


def synthetic_chunk(n_examples: int, rows_per_example: int, n_units: int, k: int, seed: int = 0) -> SparseActivations:
    """A chunk with exactly k distinct active units in every row."""
    generator = torch.Generator().manual_seed(seed)
    weights = 1 / torch.arange(1, n_units + 1, dtype=torch.float64)
    weights = weights[torch.randperm(n_units, generator=generator)]
    n_rows = n_examples * rows_per_example
    units = torch.cat(
        [
            torch.multinomial(weights.expand(min(2048, n_rows - start), -1), k, generator=generator)
            for start in range(0, n_rows, 2048)
        ]
    )
    values = torch.empty(n_rows, k).log_normal_(0.5, 0.7, generator=generator).sort(1, descending=True).values
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
