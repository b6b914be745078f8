"""Row locations say where each row of a chunk stands in its example: characters of a text, or pixels of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import Artifact, bad_offsets, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

TRANSFORM = ("width", "height", "resized_width", "resized_height", "left", "top")


@dataclass(frozen=True, eq=False)
class RowLocations(Artifact):
    """Texts have ``spans``, pictures ``transforms``; neither is there where nothing says where rows stand.

    Attributes:
        first_example: position of the chunk's first example in the data set.
        example_offsets: int64 [n_examples + 1], rows of each example.
        spans: int32 [n_rows, 2], characters [start, end) of the text.
        transforms: int32 [n_examples, 6], pixels: width and height of the picture as shown, the size that it is resized
            to, and where in that the model's input begins; negative where it is padded.
        grid: patches (down, across) of the input, and ``patch`` the (height, width) of one in pixels; (0, 0) of texts.
    """

    kind: ClassVar[str] = "row_locations"
    first_example: int
    example_offsets: Int[Tensor, " examples_plus_1"]
    spans: Int[Tensor, "rows 2"] | None
    transforms: Int[Tensor, "examples 6"] | None
    grid: tuple[int, int] = (0, 0)
    patch: tuple[int, int] = (0, 0)

    @property
    def n_rows(self) -> int:
        return int(self.example_offsets[-1])

    @property
    def n_examples(self) -> int:
        return len(self.example_offsets) - 1

    @property
    def is_known(self) -> bool:
        return self.spans is not None or self.transforms is not None

    def problems(self) -> Iterator[str]:
        structure = [*expect_tensor(self.example_offsets, "example_offsets", "int64", (None,))]
        if not structure:
            structure += bad_offsets(self.example_offsets, "example_offsets", self.n_rows)
        yield from structure
        if structure:
            return
        if self.spans is not None and self.transforms is not None:
            yield "rows stand in a text or in a picture, not in both"
        if self.spans is not None:
            yield from self._bad_spans(self.spans)
        if self.transforms is not None:
            yield from self._bad_transforms(self.transforms)

    def _bad_spans(self, spans: Tensor) -> Iterator[str]:
        wrong = [*expect_tensor(spans, "spans", "int32", (self.n_rows, 2))]
        yield from wrong
        if not wrong and bool(((spans[:, 0] < 0) | (spans[:, 1] < spans[:, 0])).any()):
            yield "a span must start at 0 or later and not end before it starts"

    def _bad_transforms(self, transforms: Tensor) -> Iterator[str]:
        wrong = [*expect_tensor(transforms, "transforms", "int32", (self.n_examples, len(TRANSFORM)))]
        yield from wrong
        if not wrong and bool((transforms[:, :4] < 1).any()):
            yield "a picture must have at least one pixel"
        if min(*self.grid, *self.patch) < 1:
            yield f"grid {self.grid} and patch {self.patch} must be at least 1"
        if bool((self.example_offsets.diff() != self.grid[0] * self.grid[1]).any()):
            yield f"every picture must have the {self.grid[0]}x{self.grid[1]} rows of its grid"

    def boxes(self, example: int) -> Float[Tensor, "rows 4"]:
        """Left, top, right and bottom of an example's rows, float64, pixels of the picture as shown.

        A patch of nothing but padding has an empty box at the border.

        Args:
            example: number within the chunk.

        Raises:
            ValueError: the rows are no patches, or nothing says where they stand.
        """
        import torch

        if self.transforms is None:
            raise ValueError("there are no pictures, or nothing says where their patches are")
        width, height, resized_width, resized_height, left, top = self.transforms[example].tolist()
        across = _edges(self.grid[1], self.patch[1], left, width, resized_width)
        down = _edges(self.grid[0], self.patch[0], top, height, resized_height)
        y, x = torch.meshgrid(
            torch.arange(self.grid[0], device="cpu"), torch.arange(self.grid[1], device="cpu"), indexing="ij"
        )
        y, x = y.flatten(), x.flatten()
        return torch.stack([across[x], down[y], across[x + 1], down[y + 1]], 1)


def _edges(patches: int, patch: int, start: int, size: int, resized: int) -> Float[Tensor, " patches_plus_1"]:
    """Return where patches begin and the last one ends along one axis, in pixels of the picture, within it."""
    import torch

    edges = start + patch * torch.arange(patches + 1, dtype=torch.float64, device="cpu")
    return (edges * size / resized).clamp(0, size)
