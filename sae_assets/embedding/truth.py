"""Row-level truth of a chunk: masks under the model's own transform, cut into its patches."""

from typing import TYPE_CHECKING

from sae_assets.artifacts import Examples
from sae_assets.catalog import Dataset, Transformer

if TYPE_CHECKING:
    from torch import Tensor


def example_truth(chunk: Examples) -> "list[Tensor]":
    """One row per example: its labels, bool [1, n_concepts] each."""
    return [labels[None] for labels in chunk.labels]


def patch_truth(chunk: Examples, name: str, entry: Dataset, transformer: Transformer) -> "tuple[list[Tensor], int]":
    """bool [n_patches, n_concepts] per example, and the number of patches.

    Raises:
        DatasetError, CheckpointError: unreadable images or masks, or a transform that masks cannot follow.
    """
    import torch

    from sae_assets.datasets import open_dataset
    from sae_assets.embedding.open_clip_vision import ImageGeometry
    from sae_assets.ops.ground_truth import covered_patches
    from sae_assets.progress import track

    reader, geometry = open_dataset(name, entry), ImageGeometry(transformer)
    rows = []
    for path, labels in track(list(zip(chunk.paths, chunk.labels, strict=True)), "masks"):
        if bool(labels.any()):
            covered = covered_patches(geometry.mask(reader.mask(path)), geometry.patch_size, entry.min_overlap)
        else:
            covered = torch.zeros(geometry.n_patches, dtype=torch.bool)
        rows.append(covered[:, None] & labels)
    return rows, geometry.n_patches
