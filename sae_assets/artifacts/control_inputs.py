"""Controls need of a chunk's rows pooled embeddings and a few rows, made in the pass that encodes it."""

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
        row_random_offsets: int64 [n_seeds * n_sample + 1], values of each (seed, sampled row); row_random_units: int32,
            ascending within each; row_random_values: float32, > 0. None of rows that are pooled, and in files of
            earlier versions.
    """

    kind: ClassVar[str] = "control_inputs"
    first_example: int
    example_offsets: Int[Tensor, " examples_plus_1"]
    mean_embeddings: Float[Tensor, "examples d"]
    max_embeddings: Float[Tensor, "examples d"]
    row_ids: Int[Tensor, " sample"]
    row_embeddings: Float[Tensor, "sample d"]
    n_seeds: int
    random_offsets: Int[Tensor, " segments_plus_1"]
    random_units: Int[Tensor, " scores"]
    random_values: Float[Tensor, " scores"]
    n_units: int
    d_model: int
    pooling: str | None = field(default=None, metadata=HASHED_IF_GIVEN)
    row_random_offsets: Int[Tensor, " row_runs_plus_1"] | None = field(default=None, metadata=HASHED_IF_GIVEN)
    row_random_units: Int[Tensor, " row_values"] | None = field(default=None, metadata=HASHED_IF_GIVEN)
    row_random_values: Float[Tensor, " row_values"] | None = field(default=None, metadata=HASHED_IF_GIVEN)

    @property
    def n_examples(self) -> int:
        return len(self.example_offsets) - 1

    @property
    def n_rows(self) -> int:
        return int(self.example_offsets[-1])

    @property
    def random_codes(self) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return offsets, units and values of random SAEs that are there, by the start of their names."""
        codes = {"random": (self.random_offsets, self.random_units, self.random_values)}
        offsets, units, values = self.row_random_offsets, self.row_random_units, self.row_random_values
        if offsets is not None and units is not None and values is not None:
            codes["row_random"] = (offsets, units, values)
        return codes

    def problems(self) -> Iterator[str]:
        n, sample = self.n_examples, len(self.row_ids)
        structure = [
            *expect_tensor(self.example_offsets, "example_offsets", "int64", (None,)),
            *expect_tensor(self.mean_embeddings, "mean_embeddings", "float32", (n, self.d_model)),
            *expect_tensor(self.max_embeddings, "max_embeddings", "float32", (n, self.d_model)),
            *expect_tensor(self.row_ids, "row_ids", "int64", (sample,)),
            *expect_tensor(self.row_embeddings, "row_embeddings", "float32", (sample, self.d_model)),
        ]
        present = [
            part is not None for part in (self.row_random_offsets, self.row_random_units, self.row_random_values)
        ]
        if any(present) and not all(present):
            structure.append("row_random_offsets, row_random_units and row_random_values are given together or not")
        segments = {"random": self.n_seeds * n, "row_random": self.n_seeds * sample}
        for name, (offsets, units, values) in self.random_codes.items():
            structure += expect_tensor(offsets, f"{name}_offsets", "int64", (segments[name] + 1,))
            structure += expect_tensor(units, f"{name}_units", "int32", (None,))
            structure += expect_tensor(values, f"{name}_values", "float32", (len(units),))
        if not structure:
            structure += bad_offsets(self.example_offsets, "example_offsets", self.n_rows)
            for name, (offsets, units, _) in self.random_codes.items():
                structure += bad_offsets(offsets, f"{name}_offsets", len(units))
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
        for name, (offsets, units, values) in self.random_codes.items():
            # As bits: also where the process takes subnormal numbers for 0.
            if not bool((values.view(torch.int32) > 0).all() & values.isfinite().all()):
                yield f"{name}_values must be finite and > 0"
            if len(units) and not 0 <= int(units.min()) <= int(units.max()) < self.n_units:
                yield f"{name}_units must lie in 0..{self.n_units - 1}"
            segment = torch.repeat_interleave(torch.arange(len(offsets) - 1, device="cpu"), offsets.diff())
            if bool(((segment[1:] == segment[:-1]) & (units.diff() <= 0)).any()):
                yield f"{name}_units of an example or row must ascend without repeats"
