"""What controls need of the rows of a chunk, made in the pass that encodes it: pooled embeddings, and a few rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import HASHED_IF_GIVEN, Artifact, bad_offsets, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ControlInputs(Artifact):
    """Embeddings of a chunk pooled per example, a hash sample of its rows, and pooled scores of random SAEs.

    Attributes:
        first_example, example_offsets: as in ``SparseRows``.
        mean_embeddings, max_embeddings: float32 [n_examples, d_model], over the rows of each example; 0 without rows.
        row_ids: int64 [n_sample], ascending, row within the chunk; row_embeddings: float32 [n_sample, d_model].
        n_seeds: random SAEs; random_offsets: int64 [n_seeds * n_examples + 1], scores of each (seed, example).
        random_units: int32, ascending within each; random_values: float32, > 0, pooled over rows.
        n_units, d_model: width of the SAE and of the embeddings.
        pooling: of ``random_values``; None: the maximum.
    """

    kind: ClassVar[str] = "control_inputs"
    first_example: int
    example_offsets: Int[Tensor, " examples_plus_1"]
    mean_embeddings: Float[Tensor, "examples d"]
    max_embeddings: Float[Tensor, "examples d"]
    row_ids: Int[Tensor, " sample"]
    row_embeddings: Float[Tensor, "sample d"]
    n_seeds: int
    random_offsets: Int[Tensor, " runs_plus_1"]
    random_units: Int[Tensor, " scores"]
    random_values: Float[Tensor, " scores"]
    n_units: int
    d_model: int
    pooling: str | None = field(default=None, metadata=HASHED_IF_GIVEN)

    @property
    def n_examples(self) -> int:
        return len(self.example_offsets) - 1

    @property
    def n_rows(self) -> int:
        return int(self.example_offsets[-1])

    def problems(self) -> Iterator[str]:
        n, sample = self.n_examples, len(self.row_ids)
        structure = [
            *expect_tensor(self.example_offsets, "example_offsets", "int64", (None,)),
            *expect_tensor(self.mean_embeddings, "mean_embeddings", "float32", (n, self.d_model)),
            *expect_tensor(self.max_embeddings, "max_embeddings", "float32", (n, self.d_model)),
            *expect_tensor(self.row_ids, "row_ids", "int64", (sample,)),
            *expect_tensor(self.row_embeddings, "row_embeddings", "float32", (sample, self.d_model)),
            *expect_tensor(self.random_offsets, "random_offsets", "int64", (self.n_seeds * n + 1,)),
            *expect_tensor(self.random_units, "random_units", "int32", (None,)),
            *expect_tensor(self.random_values, "random_values", "float32", (len(self.random_units),)),
        ]
        if not structure:
            structure += bad_offsets(self.example_offsets, "example_offsets", self.n_rows)
            structure += bad_offsets(self.random_offsets, "random_offsets", len(self.random_units))
        yield from structure
        if not structure:
            yield from self._bad_values()

    def _bad_values(self) -> Iterator[str]:
        import torch

        if len(self.row_ids) and not 0 <= int(self.row_ids.min()) <= int(self.row_ids.max()) < self.n_rows:
            yield f"row_ids must lie in 0..{self.n_rows - 1}"
        if bool((self.row_ids.diff() <= 0).any()):
            yield "row_ids must ascend without repeats"
        for name in ("mean_embeddings", "max_embeddings", "row_embeddings"):
            if not bool(getattr(self, name).isfinite().all()):
                yield f"{name} holds values that are not finite"
        # As bits: also where the process takes subnormal numbers for 0.
        bits = self.random_values.view(torch.int32)
        if not bool((bits > 0).all() & self.random_values.isfinite().all()):
            yield "random_values must be finite and > 0"
        if (
            len(self.random_units)
            and not 0 <= int(self.random_units.min()) <= int(self.random_units.max()) < self.n_units
        ):
            yield f"random_units must lie in 0..{self.n_units - 1}"
        run = torch.repeat_interleave(
            torch.arange(len(self.random_offsets) - 1, device="cpu"), self.random_offsets.diff()
        )
        if bool(((run[1:] == run[:-1]) & (self.random_units.diff() <= 0)).any()):
            yield "random_units of an example must ascend without repeats"
