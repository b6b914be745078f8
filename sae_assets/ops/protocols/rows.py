"""Several protocols need other splits of rows in place of ours, strict thresholds, and connected regions."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import GroundTruth
from sae_assets.ops.row_chunks import RowChunk


@dataclass(frozen=True)
class _Renamed:
    """Chunks whose examples are of other splits; gone through as often as the chunks can be."""

    chunks: Iterable[RowChunk]
    names: Mapping[str, str]

    def __iter__(self) -> Iterator[RowChunk]:
        for chunk in self.chunks:
            yield replace(chunk, splits=tuple(self.names.get(split, "") for split in chunk.splits))


def in_place_of(chunks: Iterable[RowChunk], names: Mapping[str, str]) -> Iterable[RowChunk]:
    """Return the same chunks with examples of these splits under other names; examples of no such split are of none."""
    return _Renamed(chunks, names)


def above(thresholds: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the smallest float32 above each threshold, as float64: ``a > t`` is ``a >= above(t)`` for every float32
    a."""
    nearest = thresholds.float()
    higher = torch.nextafter(nearest, torch.full_like(nearest, torch.inf))
    return torch.where(nearest.double() > thresholds, nearest, higher).double()


def connected_regions(truth: GroundTruth, width: int | None) -> Int[Tensor, " positives"]:
    """Number of the region of every positive (row, concept) of a chunk, int64, 0, 1, … in the order of first rows.

    Positive rows of one concept in one example are of one region if a way of neighbours leads from one to the other:
    the next rows, and in a grid ``width`` across, those left, right, above and below.
    """
    row, concept = truth.row_of_positive(), truth.concept_ids.long()
    n_rows = truth.n_rows
    lengths = truth.example_offsets.diff()
    example = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
    index = torch.arange(n_rows, device="cpu") - truth.example_offsets[example]
    keys, order = (concept * n_rows + row).sort()
    one_row = row[order]
    label = torch.arange(len(keys), device="cpu")
    edges = []
    for step in (1,) if width is None else (1, width):
        other = torch.searchsorted(keys, keys + step).clamp(max=max(len(keys) - 1, 0))
        meets = (keys[other] == keys + step) if len(keys) else keys > 0
        neighbour = (one_row + step).clamp(max=max(n_rows - 1, 0))
        meets &= (one_row + step < n_rows) & (example[neighbour] == example[one_row])
        if width is not None and step == 1:
            meets &= index[one_row] % width != width - 1
        edges.append(torch.stack([label[meets], other[meets]]))
    first, second = torch.cat(edges, 1)
    while True:
        # The smaller number wins on both ends of an edge, and jumps on to whatever it has won by then.
        least = torch.minimum(label[first], label[second])
        new = label.clone()
        for end in (label[first], label[second]):
            new.scatter_reduce_(0, end, least, "amin")
        new = new[new]
        if torch.equal(new, label):
            break
        label = new
    _, region = label.unique(return_inverse=True)
    result = torch.empty_like(region)
    result[order] = region
    return result
