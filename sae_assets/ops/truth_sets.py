"""Rows share sets of concepts, and segments of positions. Values on rows: ``ops.incidences``."""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of


@dataclass(frozen=True)
class TruthSets:
    """Truth sets say which concepts each row of a split has. Rows with the same concepts share a set.

    Attributes:
        set_of_row: int64 [n_rows], number of the row's set.
        set_offsets: int64 [n_sets + 1] and concept_ids: int64, the concepts of each set, ascending.
        n_positive: int64 [n_concepts], rows of each concept.
    """

    set_of_row: Int[Tensor, " rows"]
    set_offsets: Int[Tensor, " sets_plus_1"]
    concept_ids: Int[Tensor, " members"]
    n_positive: Int[Tensor, " concepts"]

    @property
    def n_rows(self) -> int:
        return len(self.set_of_row)

    @property
    def n_sets(self) -> int:
        return len(self.set_offsets) - 1

    @property
    def n_concepts(self) -> int:
        return len(self.n_positive)


def truth_sets(
    row_offsets: Int[Tensor, " rows_plus_1"], concept_ids: Int[Tensor, " positives"], n_concepts: int
) -> TruthSets:
    """Return truth of a split from compressed sparse rows, int64 offsets and ascending concept ids per row, on any
    device.

    Sets are told apart by sums of random 64-bit numbers, one per concept, and then compared member by member; numbers
    that take two sets for one are drawn anew. So the answer is exact.
    """
    device, lengths, concept_ids = row_offsets.device, row_offsets.diff(), concept_ids.long()
    n_rows = len(lengths)
    row = torch.repeat_interleave(torch.arange(n_rows, device=device), lengths)
    position = torch.arange(len(row), device=device) - row_offsets[row]
    for seed in itertools.count():
        drawn = torch.randint(
            -(2**63), 2**63 - 1, (n_concepts,), generator=torch.Generator().manual_seed(seed), device="cpu"
        )
        codes = torch.zeros(n_rows, dtype=torch.int64, device=device)
        codes.index_add_(0, row, drawn.to(device)[concept_ids])
        unique, set_of_row = codes.unique(return_inverse=True)
        first = torch.full((len(unique),), n_rows, dtype=torch.int64, device=device)
        first.scatter_reduce_(0, set_of_row, torch.arange(n_rows, device=device), "amin")
        if not torch.equal(lengths[first][set_of_row], lengths):
            continue
        if torch.equal(concept_ids[row_offsets[first][set_of_row[row]] + position], concept_ids):
            break
    members, _ = spread(row_offsets[first], lengths[first])
    return TruthSets(
        set_of_row, offsets_of(lengths[first]), concept_ids[members], torch.bincount(concept_ids, minlength=n_concepts)
    )


def spread(
    starts: Int[Tensor, " segments"], lengths: Int[Tensor, " segments"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return every position of segments that begin at ``starts``, one after the other, and the number of its
    segment."""
    segment = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), lengths)
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(len(segment), device=starts.device) + shift.index_select(0, segment), segment


def contained(keys: Int[Tensor, " n"], queries: Int[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """Return which of these are among sorted keys."""
    if len(keys) == 0:
        return torch.zeros_like(queries, dtype=torch.bool)
    return keys[torch.searchsorted(keys, queries).clamp(max=len(keys) - 1)] == queries
