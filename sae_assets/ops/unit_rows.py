"""From activations by row to activations by unit: a counting sort over chunks that are read twice.

Nothing of the size of the data is held: the result is mapped from a file (``ops.scratch``), beside it a chunk and a few
numbers per unit.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.artifacts.unit_rows import BLOCK, UnitRows
from sae_assets.errors import ArtifactError
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import scratch

ODD = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15, 0x165667B19E3779F9)  # any odd numbers of 64 bits


@plain_arithmetic()
def sort_by_unit(chunks: Iterable[SparseRows], n_units: int) -> tuple[UnitRows, int]:
    """Return all entries by unit, and the digest (:func:`entries_digest`) of what was read.

    Args:
        chunks: in the order of their examples; gone through twice.

    Raises:
        ArtifactError: a chunk of another width, or one that is another the second time.
    """
    counts, n_rows = torch.zeros(n_units, dtype=torch.int64, device="cpu"), 0
    for chunk in chunks:
        if chunk.n_units != n_units:
            raise ArtifactError(f"A chunk has {chunk.n_units} units, expected {n_units}.")
        counts += torch.bincount(chunk.unit_ids, minlength=n_units)
        n_rows += chunk.n_rows
    offsets = offsets_of(counts)
    n_entries, cursor, digest = int(offsets[-1]), offsets[:-1].clone(), 0
    examples, positions = scratch(n_entries, torch.int32), scratch(n_entries, torch.int32)
    values = scratch(n_entries, torch.float32)
    for chunk in chunks:
        order = chunk.unit_ids.sort(stable=True).indices
        row, unit = chunk.row_of_entry()[order], chunk.unit_ids[order].long()
        example = chunk.example_of_row()[row]
        position, value = row - chunk.example_offsets[example], chunk.values[order]
        of_units = torch.bincount(unit, minlength=n_units)
        index = torch.arange(len(unit), device="cpu") + (cursor - offsets_of(of_units)[:-1])[unit]
        if bool((cursor + of_units > offsets[1:]).any()):
            raise ArtifactError("The chunks are others than when their entries were counted.")
        example += chunk.first_example
        examples[index], positions[index], values[index] = example.int(), position.int(), value
        cursor += of_units
        digest = (digest + entries_digest(unit, example, position, value)) % 2**64
    if not torch.equal(cursor, offsets[1:]):
        raise ArtifactError("The chunks are others than when their entries were counted.")
    return UnitRows(offsets, examples, positions, values, n_rows), digest


@plain_arithmetic()
def rows_digest(artifact: UnitRows) -> int:
    """Return the digest of its entries, a block at a time."""
    digest = 0
    for start in range(0, artifact.n_entries, BLOCK):
        block = slice(start, min(start + BLOCK, artifact.n_entries))
        entry = torch.arange(block.start, block.stop, device="cpu")
        unit = torch.searchsorted(artifact.unit_offsets, entry, right=True) - 1
        digest += entries_digest(unit, artifact.examples[block], artifact.positions[block], artifact.values[block])
    return digest % 2**64


def entries_digest(
    unit: Int[Tensor, " n"], example: Int[Tensor, " n"], position: Int[Tensor, " n"], value: Tensor
) -> int:
    """Return a number of 64 bits that is the same of the same entries in any order, and hardly of any others.

    Each entry is mixed to 64 bits (Steele, Lea & Flood 2014, splitmix64), and these are added up.
    """
    parts = (unit, example, position, value.contiguous().view(torch.int32))
    mixed = torch.zeros(len(unit), dtype=torch.int64, device="cpu")
    for odd, part in zip(ODD, parts, strict=True):
        mixed = (mixed + part.long() + 1) * odd
        mixed ^= mixed >> 29 & 2**35 - 1
    mixed *= ODD[0]
    mixed ^= mixed >> 32 & 2**32 - 1
    return int(mixed.sum()) % 2**64
