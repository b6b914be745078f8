"""Unit statistics over the calibration rows of many chunks: exact, in bounded memory, for any chunking.

One pass over the chunks collects each unit's positive values (``ops.key_runs``). Those of as many units as fit the
budget are then sorted, and sums, maximum and quantiles taken from the sorted run. A unit's run is the same however rows
are cut or ordered, so every figure is too, bit for bit.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import SparseRows, UnitStats, offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import Loops, loops_for
from sae_assets.ops.key_runs import KeyRuns
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import keys_within, linear_quantiles, ordered_sums, pack, positions, sort_keys

QUANTILES = (0.95, 0.99)
ROWS_AT_ONCE = 2**13


# Activations with the mask of their calibration examples.
ChunkPairs = Iterable[tuple[SparseRows, Tensor]]


def rows_of(chunk: SparseRows, examples: Bool[Tensor, " examples"]) -> Bool[Tensor, " rows"]:
    """Return row mask of an example mask.

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
    """Return statistics of every unit over calibration rows (numerics 2).

    Args:
        chunks: (activations, bool mask [n_examples] of calibration examples), gone through once.
        n_units: width of the SAE.
        memory_budget: bytes for the values while they are sorted (``keys_within``), beside one chunk; what does not fit
            goes through a temporary file. At least one unit's values are held.

    Raises:
        ArtifactError: no calibration rows, or a chunk of another width.
    """
    runs = KeyRuns(keys_within(memory_budget, device))
    n_rows, n_active = _collect(chunks, n_units, runs)
    loops = loops_for(int(n_active.sum()), device)
    if n_rows == 0:
        raise ArtifactError("There are no calibration rows: the chunks hold no example of split 'cal'.")

    sums = torch.zeros(2, n_units, dtype=torch.float64, device="cpu")
    quantiles = torch.full((n_units, len(QUANTILES) + 1), torch.nan, dtype=torch.float64, device="cpu")
    q = torch.tensor((*QUANTILES, 1.0), dtype=torch.float64, device=device)
    for block in runs.blocks(n_active):
        start, stop = block.start, block.stop
        counts, keys = n_active[start:stop], sort_keys(block.keys.to(device))
        if loops:
            columns = keys, offsets_of(counts), q, sums[:, start:stop], quantiles[start:stop]
            loops.values.sums_and_quantiles(*(column.numpy() for column in columns))
            del columns
        else:
            sums[:, start:stop] = ordered_sums(keys, counts)
            quantiles[start:stop] = linear_quantiles(keys, counts.to(device), q).cpu()
        del block, keys  # before the next ones
    return UnitStats(
        n_rows=n_rows,
        n_active=n_active,
        total=sums[0].clone(),
        total_sq=sums[1].clone(),
        p95=quantiles[:, 0].contiguous(),
        p99=quantiles[:, 1].contiguous(),
        max=quantiles[:, 2].contiguous(),
    )


def _collect(chunks: ChunkPairs, n_units: int, runs: KeyRuns) -> tuple[int, Int[Tensor, " units"]]:
    """Return calibration rows, and each unit's positive values; its own function, so that no chunk outlives the
    pass."""
    n_rows, n_entries, n_active = 0, 0, torch.zeros(n_units, dtype=torch.int64, device="cpu")
    for chunk, cal in chunks:
        if chunk.n_units != n_units:
            raise ArtifactError(f"A chunk has {chunk.n_units} units, expected {n_units}.")
        rows = rows_of(chunk, cal)
        n_rows += int(rows.sum())
        n_entries += chunk.n_entries
        collect_values(chunk, torch.where(rows, 0, -1).int(), n_active, runs, loops_for(n_entries), tagged=False)
    return n_rows, n_active


def collect_values(
    activations: SparseRows,
    tag_of_row: Int[Tensor, " rows"],
    n_active: Int[Tensor, " units"],
    runs: KeyRuns,
    loops: Loops | None,
    *,
    tagged: bool,
) -> None:
    """Add the positive values of rows that have a tag, which is not below 0, by unit; and count them in ``n_active``.

    Some rows at a time, which a cache holds.

    Args:
        tag_of_row: int32, with which values are tagged, if they are.
        loops: as of ``loops_for``.
    """
    for start in range(0, activations.n_rows, ROWS_AT_ONCE):
        some = tag_of_row[start : start + ROWS_AT_ONCE]
        offsets = activations.row_offsets[start : start + ROWS_AT_ONCE + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        unit_ids, values = activations.unit_ids[entries], activations.values[entries]
        if loops:
            n = len(values)  # or fewer
            room = runs.room(n, tagged=tagged)
            keys, tags = room or (torch.empty(n, dtype=each, device="cpu") for each in (torch.int64, torch.int32))
            columns = (offsets - entries.start, unit_ids, values.view(torch.int32), some, keys, tags, n_active)
            n = int(loops.values.gather_values(*(column.numpy() for column in columns), tagged))
            if room:
                runs.filled(n)
                continue
            keys, tags = keys[:n], tags[:n]
        else:
            of_row = offsets.diff()
            entry = positions((some >= 0).repeat_interleave(of_row))
            tags = some.repeat_interleave(of_row).index_select(0, entry) if tagged else some
            unit_ids, values = unit_ids.index_select(0, entry), values.index_select(0, entry)
            keys = pack(unit_ids, values)
            n_active += torch.bincount(unit_ids, minlength=len(n_active))
        runs.add(keys, tags if tagged else None)
