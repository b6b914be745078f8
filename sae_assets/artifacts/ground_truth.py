"""Ground truth says which rows of a chunk show which concept and, of patches cut from masks, how much each mask
covers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import HASHED_IF_GIVEN, Artifact, bad_offsets, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class GroundTruth(Artifact):
    """G says which rows of a chunk are positive for which concept, as compressed sparse rows of concept positions.

    What masks cover is there of patches that masks were cut into, and None of all other rows.

    Attributes:
        concepts: names, in catalog order; first_example: position of the chunk's first example in the data set.
        example_offsets: int64 [n_examples + 1], rows of each example.
        row_offsets: int64 [n_rows + 1], positives of each row; concept_ids: int32 [n_positives], ascending in a row.
        patch_pixels: pixels of a patch.
        cover_offsets: int64 [n_rows + 1], concepts of which each row shows a pixel, enough to be positive or not.
        cover_ids: int32 [n_covers], these concepts, ascending in a row; cover_pixels: int32 [n_covers], of the patch.
    """

    kind: ClassVar[str] = "ground_truth"
    concepts: tuple[str, ...]
    first_example: int
    example_offsets: Int[Tensor, " examples_plus_1"]
    row_offsets: Int[Tensor, " rows_plus_1"]
    concept_ids: Int[Tensor, " positives"]
    patch_pixels: int | None = field(default=None, metadata=HASHED_IF_GIVEN)
    cover_offsets: Int[Tensor, " rows_plus_1"] | None = field(default=None, metadata=HASHED_IF_GIVEN)
    cover_ids: Int[Tensor, " covers"] | None = field(default=None, metadata=HASHED_IF_GIVEN)
    cover_pixels: Int[Tensor, " covers"] | None = field(default=None, metadata=HASHED_IF_GIVEN)

    @property
    def n_rows(self) -> int:
        return len(self.row_offsets) - 1

    def row_of_positive(self) -> Int[Tensor, " positives"]:
        return _row_of(self.row_offsets)

    def row_of_cover(self) -> Int[Tensor, " covers"]:
        """Raises: ValueError, of a chunk without pixels."""
        if self.cover_offsets is None:
            raise ValueError("the chunk has no pixels")
        return _row_of(self.cover_offsets)

    def problems(self) -> Iterator[str]:
        structure = [
            *expect_tensor(self.example_offsets, "example_offsets", "int64", (None,)),
            *self._bad_lists("row_offsets", "concept_ids"),
        ]
        if not structure:
            structure += bad_offsets(self.example_offsets, "example_offsets", self.n_rows)
        yield from structure
        if not structure:
            yield from self._bad_ids(self.row_offsets, self.concept_ids)
            yield from self._bad_cover()

    def _bad_lists(self, offsets: str, ids: str) -> list[str]:
        of, values = getattr(self, offsets), getattr(self, ids)
        wrong = [*expect_tensor(of, offsets, "int64", (None,)), *expect_tensor(values, ids, "int32", (None,))]
        return wrong or list(bad_offsets(of, offsets, len(values)))

    def _bad_ids(self, offsets: Tensor, ids: Tensor) -> Iterator[str]:
        if not len(ids):
            return
        if int(ids.min()) < 0 or int(ids.max()) >= len(self.concepts):
            yield f"concept ids must lie in 0..{len(self.concepts) - 1}"
        row = _row_of(offsets)
        if bool(((row[1:] == row[:-1]) & (ids[1:] <= ids[:-1])).any()):
            yield "concept ids of a row must ascend without repeats"

    def _bad_cover(self) -> Iterator[str]:
        import torch

        offsets, ids, pixels, most = self.cover_offsets, self.cover_ids, self.cover_pixels, self.patch_pixels
        if offsets is None or ids is None or pixels is None or most is None:
            if not offsets is ids is pixels is most:
                yield "patch_pixels, cover_offsets, cover_ids and cover_pixels are given together or not at all"
            return
        structure = [
            *self._bad_lists("cover_offsets", "cover_ids"),
            *expect_tensor(pixels, "cover_pixels", "int32", (len(ids),)),
        ]
        if len(offsets) != len(self.row_offsets):
            structure.append(f"cover_offsets are of {len(offsets) - 1} rows, expected {self.n_rows}")
        yield from structure
        if structure:
            return
        yield from self._bad_ids(offsets, ids)
        if bool((pixels < 1).any()) or bool((pixels > most).any()):
            yield f"cover_pixels must lie in 1..{most}"
        n_concepts = max(len(self.concepts), 1)
        shown = _row_of(offsets) * n_concepts + ids
        if not bool(torch.isin(self.row_of_positive() * n_concepts + self.concept_ids, shown).all()):
            yield "a row that is positive for a concept shows pixels of it"


def _row_of(offsets: Int[Tensor, " rows_plus_1"]) -> Int[Tensor, " entries"]:
    import torch

    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device="cpu"), offsets.diff())
