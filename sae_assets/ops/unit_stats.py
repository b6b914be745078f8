"""Unit statistics over the calibration rows of many chunks: exact, in bounded memory, for any chunking.

Two passes over the chunks: the first counts each unit's positive values; the second collects the values of as many
units as fit the budget, sorts them once, and takes sums, maximum and quantiles from the sorted run. A unit's run is
the same however rows are cut or ordered, so every figure is too, bit for bit.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import SparseRows, UnitStats
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import keys_within, linear_quantiles, ordered_sums, pack, plan_blocks, sorted_keys

QUANTILES = (0.95, 0.99)


# Activations with the mask of their calibration examples; must be able to be gone through more than once.
ChunkPairs = Iterable[tuple[SparseRows, Tensor]]


def rows_of(chunk: SparseRows, examples: Bool[Tensor, " examples"]) -> Bool[Tensor, " rows"]:
    """Row mask of an example mask.

    Raises:
        ArtifactError: the mask has another number of examples than the chunk.
    """
    if len(examples) != chunk.n_examples:
        raise ArtifactError(f"The chunk holds {chunk.n_examples} examples, but {len(examples)} splits were given.")
    return examples[chunk.example_of_row()]


@plain_arithmetic()
def compute_unit_stats(
    chunks: ChunkPairs,
    n_units: int,
    *,
    device: torch.device | str = "cpu",
    memory_budget: int = 256 * 2**20,
) -> UnitStats:
    """Statistics of every unit over calibration rows (numerics 2).

    Args:
        chunks: iterable, more than once, of (activations, bool mask [n_examples] of calibration examples).
        n_units: width of the SAE.
        memory_budget: bytes for the values while they are sorted (``keys_within``), beside one chunk; what does not fit
            takes more passes over the chunks. At least one unit's values are held.

    Raises:
        ArtifactError: no calibration rows, or a chunk of another width.
    """
    n_rows, n_active = _count(chunks, n_units)
    if n_rows == 0:
        raise ArtifactError("There are no calibration rows: the chunks hold no example of split 'cal'.")

    sums = torch.zeros(2, n_units, dtype=torch.float64, device="cpu")
    largest = torch.full((n_units,), torch.nan, dtype=torch.float64, device="cpu")
    quantiles = torch.full((n_units, len(QUANTILES)), torch.nan, dtype=torch.float64, device="cpu")
    q = torch.tensor(QUANTILES, dtype=torch.float64, device=device)
    for start, stop in plan_blocks(n_active, keys_within(memory_budget, device)):
        counts = n_active[start:stop]
        keys = sorted_keys(_keys(chunks, start, stop), int(counts.sum()), device)
        sums[:, start:stop] = ordered_sums(keys, counts)
        quantiles[start:stop] = linear_quantiles(keys, counts.to(device), q).cpu()
        largest[start:stop] = linear_quantiles(keys, counts.to(device), torch.ones_like(q[:1]))[:, 0].cpu()
        del keys  # before the next block's
    return UnitStats(
        n_rows=n_rows,
        n_active=n_active,
        total=sums[0].clone(),
        total_sq=sums[1].clone(),
        max=largest,
        p95=quantiles[:, 0].contiguous(),
        p99=quantiles[:, 1].contiguous(),
    )


def _keys(chunks: ChunkPairs, start: int, stop: int) -> Iterator[Tensor]:
    """Packed (unit - start, value) of each chunk's calibration entries of units start..stop - 1."""
    for chunk, cal in chunks:
        chosen = rows_of(chunk, cal)[chunk.row_of_entry()]
        chosen &= (chunk.unit_ids >= start) & (chunk.unit_ids < stop)
        yield pack(chunk.unit_ids[chosen] - start, chunk.values[chosen])


def _count(chunks: ChunkPairs, n_units: int) -> tuple[int, Int[Tensor, " units"]]:
    """Calibration rows, and each unit's positive values; its own function, so that no chunk outlives the pass."""
    n_rows, n_active = 0, torch.zeros(n_units, dtype=torch.int64, device="cpu")
    for chunk, cal in chunks:
        if chunk.n_units != n_units:
            raise ArtifactError(f"A chunk has {chunk.n_units} units, expected {n_units}.")
        rows = rows_of(chunk, cal)
        n_rows += int(rows.sum())
        n_active += torch.bincount(chunk.unit_ids[rows[chunk.row_of_entry()]], minlength=n_units)
    return n_rows, n_active
