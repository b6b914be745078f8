"""Controls' inputs are collected while rows are encoded: no dense latents are held, and no file of rows made.

Per example the mean and the maximum of its embeddings, a sample of rows by hash with what random SAEs make of them, and
the scores of random SAEs, pooled as those of the SAE's units are. What is fitted on them is not decided here.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.ops.pooling import MAXIMUM, Pooling, encode_scores
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.sparse_activations import Encoder

Scores = tuple[Tensor, Tensor, Tensor]  # unit, score, example
HASH_BYTES = 7  # of an int64 that is not negative


class Collector:
    """Collects the control inputs of a chunk, batch after batch; the result does not depend on how it is cut.

    Args:
        random: random SAEs, by seed; rows_per_chunk: most rows in the sample.
        d_model, n_units: width of the rows, and of the SAE.
        poolings: that results are asked for.
    """

    def __init__(
        self,
        random: Sequence[Encoder],
        rows_per_chunk: int,
        d_model: int,
        n_units: int,
        poolings: Collection[Pooling] = (MAXIMUM,),
    ):
        self._random, self._most, self._d_model, self._n_units = random, rows_per_chunk, d_model, n_units
        self._scores: dict[Pooling, list[list[Scores]]] = {pooling: [[] for _ in random] for pooling in poolings}
        self._means: list[Tensor] = []
        self._maxima: list[Tensor] = []
        self._ids: list[str] = []
        self._empty: list[bool] = []
        self._n_rows = 0
        self._sample = _Sample(rows_per_chunk, d_model)

    @plain_arithmetic()
    def add(self, example_ids: Sequence[str], rows: Sequence[Float[Tensor, "_ d"]], lengths: Sequence[int]) -> None:
        """Count examples, in the chunk's order.

        Args:
            rows: per example, float32 on any device, as the SAE is fed them; none where they stand for nothing.
            lengths: rows that each example has in its artifact: as many, or those that stand for nothing.
        """
        for example, each, length in zip(example_ids, rows, lengths, strict=True):
            nothing = torch.zeros(self._d_model, dtype=torch.float32, device="cpu")
            self._means.append(each.double().mean(0).float().cpu() if len(each) else nothing)
            self._maxima.append(each.amax(0).cpu() if len(each) else nothing)
            self._sample.add(example, each, self._n_rows)
            self._ids.append(example)
            self._empty.append(not len(each))
            self._n_rows += length
        counts = torch.tensor([len(each) for each in rows], dtype=torch.int64, device="cpu")
        together = torch.cat(list(rows))
        first = len(self._ids) - len(rows)
        for seed, encoder in enumerate(self._random):
            for pooling, (unit, score, number) in encode_scores(encoder, together, counts, self._scores).items():
                self._scores[pooling][seed].append((unit, score, number + first))

    @plain_arithmetic()
    def result(
        self, first_example: int, example_offsets: Int[Tensor, " examples_plus_1"], pooling: Pooling = MAXIMUM
    ) -> ControlInputs:
        """Return the control inputs of the rows that were added, with scores pooled in one of the ways there are."""
        return self._result(first_example, example_offsets, self._sample, pooling, self._codes_of_rows())

    @plain_arithmetic()
    def result_of_pooled(self, first_example: int) -> ControlInputs:
        """Return those of one row per example that is pooled from the added ones: its embedding is the mean of theirs.

        Pooled embeddings are those of the added rows, scores their maxima; an example without any is in no sample.
        """
        sample = _Sample(self._most, self._d_model)
        for number, (example, mean) in enumerate(zip(self._ids, self._means, strict=True)):
            sample.add(example, mean[None][: 0 if self._empty[number] else 1], number)
        return self._result(first_example, torch.arange(len(self._ids) + 1, device="cpu"), sample, MAXIMUM, {})

    def _codes_of_rows(self) -> dict[str, Tensor]:
        """Return each random SAE's codes of the sampled rows, which were not known before; a code depends on its row
        alone."""
        _, x = self._sample.result()
        lengths, units, values = [], [], []
        for encoder in self._random:
            code = encoder.encode(x)
            row = torch.repeat_interleave(torch.arange(len(x), device="cpu"), code.row_offsets.diff())
            order = (row * self._n_units + code.unit_ids).argsort()
            lengths.append(code.row_offsets.diff())
            units.append(code.unit_ids[order])
            values.append(code.values[order])
        nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
        return {
            "row_random_offsets": offsets_of(torch.cat([nothing, *lengths])),
            "row_random_units": torch.cat([nothing.int(), *units]),
            "row_random_values": torch.cat([nothing.float(), *values]),
        }

    def _result(
        self,
        first_example: int,
        example_offsets: Tensor,
        sample: "_Sample",
        pooling: Pooling,
        codes_of_rows: dict[str, Any],
    ) -> ControlInputs:
        lengths, units, values = [], [], []
        for parts in self._scores[pooling]:
            unit, value, example = (torch.cat(column) for column in zip(*parts, strict=True))
            order = (example * self._n_units + unit).argsort()
            lengths.append(torch.bincount(example, minlength=len(self._ids)))
            units.append(unit[order].int())
            values.append(value[order])
        nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
        rows, embeddings = sample.result()
        return ControlInputs(
            first_example=first_example,
            example_offsets=example_offsets,
            mean_embeddings=torch.stack(self._means),
            max_embeddings=torch.stack(self._maxima),
            row_ids=rows,
            row_embeddings=embeddings,
            n_seeds=len(self._random),
            random_offsets=offsets_of(torch.cat([nothing, *lengths])),
            random_units=torch.cat([nothing.int(), *units]),
            random_values=torch.cat([nothing.float(), *values]),
            n_units=self._n_units,
            d_model=self._d_model,
            pooling=None if pooling == MAXIMUM else pooling.label,
            **codes_of_rows,
        )


class _Sample:
    """At most so many rows: those of the smallest hashes of (example id, row within the example)."""

    def __init__(self, most: int, d_model: int):
        self._most, self._pending = most, 0
        self._hashes = [torch.zeros(0, dtype=torch.int64, device="cpu")]
        self._rows = [torch.zeros(0, dtype=torch.int64, device="cpu")]
        self._embeddings = [torch.zeros(0, d_model, dtype=torch.float32, device="cpu")]
        self._limit = 2 ** (8 * HASH_BYTES)

    def add(self, example: str, embeddings: Tensor, first_row: int) -> None:
        hashes = torch.tensor([_hash(example, row) for row in range(len(embeddings))], dtype=torch.int64, device="cpu")
        chosen = (hashes < self._limit).nonzero().flatten()
        self._hashes.append(hashes[chosen])
        self._rows.append(chosen + first_row)
        self._embeddings.append(embeddings[chosen.to(embeddings.device)].cpu())
        self._pending += len(chosen)
        if self._pending > 2 * self._most:
            self._prune()

    def _prune(self) -> None:
        hashes, rows, embeddings = (torch.cat(each) for each in (self._hashes, self._rows, self._embeddings))
        smallest = hashes.argsort(stable=True)[: self._most]
        if len(smallest) == self._most:
            self._limit = int(hashes[smallest[-1]])
        smallest = smallest.sort().values
        self._hashes, self._rows, self._embeddings = [hashes[smallest]], [rows[smallest]], [embeddings[smallest]]
        self._pending = len(smallest)

    def result(self) -> tuple[Int[Tensor, " sample"], Float[Tensor, "sample d"]]:
        self._prune()
        return self._rows[0], self._embeddings[0]


def _hash(example: str, row: int) -> int:
    digest = hashlib.blake2b(f"{example}\0{row}".encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big")
