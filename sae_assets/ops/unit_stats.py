"""Unit statistics over the calibration rows of many chunks: exact, in bounded memory, for any chunking.

Two passes over the chunks: the first counts each unit's positive values; the second collects the values of as many
units as fit the budget, sorts them once, and takes count, sums, maximum and quantiles from the sorted run. A unit's
run is the same however rows are cut or ordered, so every figure is too, bit for bit.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool
from torch import Tensor

from sae_assets.artifacts import SparseRows, UnitStats
from sae_assets.errors import ArtifactError
from sae_assets.ops.segments import linear_quantiles, pack, plan_blocks, unpack

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
        memory_budget: bytes for the sorted values; more passes are made where they do not fit. At least one unit's
            values (at most 24 bytes a calibration row) are held.

    Raises:
        ArtifactError: no calibration rows, or a chunk of another width.
    """
    n_rows, n_active = 0, torch.zeros(n_units, dtype=torch.int64)
    for chunk, cal in chunks:
        if chunk.n_units != n_units:
            raise ArtifactError(f"A chunk has {chunk.n_units} units, expected {n_units}.")
        rows = rows_of(chunk, cal)
        n_rows += int(rows.sum())
        n_active += torch.bincount(chunk.unit_ids[rows[chunk.row_of_entry()]], minlength=n_units)
    if n_rows == 0:
        raise ArtifactError("There are no calibration rows: the chunks hold no example of split 'cal'.")

    total, total_sq = torch.zeros(n_units, dtype=torch.float64), torch.zeros(n_units, dtype=torch.float64)
    largest = torch.full((n_units,), torch.nan, dtype=torch.float64)
    quantiles = torch.full((n_units, len(QUANTILES)), torch.nan, dtype=torch.float64)
    for start, stop in plan_blocks(n_active, max(1, memory_budget // 24)):
        keys = []
        for chunk, cal in chunks:
            chosen = rows_of(chunk, cal)[chunk.row_of_entry()]
            chosen &= (chunk.unit_ids >= start) & (chunk.unit_ids < stop)
            keys.append(pack(chunk.unit_ids[chosen] - start, chunk.values[chosen]))
        units, values = unpack(torch.cat(keys).to(device).sort().values)
        counts = n_active[start:stop].to(device)
        q = torch.tensor(QUANTILES, dtype=torch.float64, device=device)
        quantiles[start:stop] = linear_quantiles(values, counts, q).cpu()
        largest[start:stop] = linear_quantiles(values, counts, torch.ones_like(q[:1]))[:, 0].cpu()
        # bincount on the CPU adds in the order given, which is the sorted one.
        units, exact = units.cpu(), values.double().cpu()
        total[start:stop] = torch.bincount(units, exact, minlength=stop - start)
        total_sq[start:stop] = torch.bincount(units, exact.square(), minlength=stop - start)
    return UnitStats(
        n_rows=n_rows,
        n_active=n_active,
        total=total,
        total_sq=total_sq,
        max=largest,
        p95=quantiles[:, 0].contiguous(),
        p99=quantiles[:, 1].contiguous(),
    )
