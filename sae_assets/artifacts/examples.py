"""A chunk's examples, and their splits and labels, are known before any model has seen it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

SPLITS = ("train", "cal", "test")


def stands_in_for_train(example_id: str) -> bool:
    """Return whether an example of cal is fitted on where a data set has no train examples: a bit of the sha256 of its
    id."""
    return bool(hashlib.sha256(example_id.encode()).digest()[-1] & 1)


@dataclass(frozen=True, eq=False)
class Examples(Artifact):
    """The immutable manifest of one chunk: which examples it holds, at which position, with which contents.

    Attributes:
        first_index: position of the first example in the data set (examples registered before it).
        example_ids, paths, file_hashes: per example; paths relative to the data set's root, sha256 of its image or text
            when it was registered.
    """

    kind: ClassVar[str] = "examples"
    first_index: int
    example_ids: tuple[str, ...]
    paths: tuple[str, ...]
    file_hashes: tuple[str, ...]

    def problems(self) -> Iterator[str]:
        yield from _bad_examples(self.example_ids, paths=self.paths, file_hashes=self.file_hashes)

    def __len__(self) -> int:
        return len(self.example_ids)

    def content_hash(self) -> str:
        """Return sha256 over what rows are made from; paths are left out, since the same contents elsewhere give the
        same."""
        content = json.dumps([self.first_index, self.example_ids, self.file_hashes])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Labels(Artifact):
    """The splits and labels of a chunk's examples, and where they are located, may be corrected.

    Attributes:
        concepts: names of the label columns, in catalog order.
        first_index, example_ids: as in :class:`Examples`, so that the table is read alone.
        splits: ``train``, ``cal`` or ``test`` per example.
        labels: bool [n_examples, n_concepts], the example-level truth H.
        region_hashes: per example as JSON, by true concept: sha256 of its mask or spans, or how it is located without.
    """

    kind: ClassVar[str] = "labels"
    concepts: tuple[str, ...]
    first_index: int
    example_ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: Bool[Tensor, "examples concepts"]
    region_hashes: tuple[str, ...]

    def problems(self) -> Iterator[str]:
        yield from _bad_examples(self.example_ids, splits=self.splits, region_hashes=self.region_hashes)
        unknown = sorted(set(self.splits) - set(SPLITS))
        if unknown:
            yield f"unknown splits {unknown}, expected {list(SPLITS)}"
        yield from expect_tensor(self.labels, "labels", "bool", (len(self), len(self.concepts)))

    def __len__(self) -> int:
        return len(self.example_ids)

    def in_split(self, split: str) -> Bool[Tensor, " examples"]:
        import torch

        return torch.tensor([name == split for name in self.splits], dtype=torch.bool, device="cpu")


def _bad_examples(example_ids: tuple[str, ...], **columns: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with the ids of a chunk, and with columns that have one entry per example."""
    n = len(example_ids)
    if n == 0:
        yield "a chunk needs at least one example"
    for name, column in columns.items():
        if len(column) != n:
            yield f"{name} has {len(column)} entries, expected {n}"
    if len(set(example_ids)) != n:
        yield "example ids are not unique"
