"""Data sets of ``strategies.World`` with embeddings of their rows and random SAEs, as chunks for controls."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from sae_assets.artifacts import Labels, offsets_of
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.ops.control_data import ControlChunk, ControlData, collect
from sae_assets.ops.detectors import largest_scores, row_mean_difference
from sae_assets.ops.items import LargestScores
from sae_assets.ops.pooling import MAXIMUM, Pooling
from sae_assets_tests.reference import pooling as reference
from sae_assets_tests.strategies import World, random_world


@dataclass(frozen=True)
class ControlWorld:
    """A data set with embeddings float32 [rows, d], activations of random SAEs [rows, units], and sampled rows."""

    world: World
    embeddings: np.ndarray
    random: tuple[np.ndarray, ...]
    sampled: np.ndarray  # bool [rows]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"example {number}" for number in range(len(self.world.lengths)))

    def pooled(self, activations: np.ndarray, pooling: Pooling = MAXIMUM) -> np.ndarray:
        """[examples, units]."""
        return reference.pooled(activations, self.world.lengths, pooling.name, pooling.k).astype(np.float32)

    def mean_embeddings(self) -> np.ndarray:
        rows = [self.embeddings[self.world.example_of_row == each] for each in range(len(self.world.lengths))]
        return np.array([each.mean(0, dtype=np.float64) for each in rows], np.float32)

    def max_embeddings(self) -> np.ndarray:
        rows = [self.embeddings[self.world.example_of_row == each] for each in range(len(self.world.lengths))]
        return np.array([each.max(0) for each in rows])

    def data(self, *, truth: bool = True) -> ControlData:
        """All examples as one chunk, whose rows were looked at once more."""
        data = collect([self.chunk(truth=truth)])
        directions = row_mean_difference(data.examples, data.n_rows)
        rows = torch.from_numpy(self.embeddings)
        every = [rows[self.world.example_of_row == each] for each in range(len(self.world.lengths))]
        scores = torch.stack([largest_scores(each, directions) for each in every])
        return replace(data, largest=LargestScores(scores, 4 * rows.numel()))

    def chunk(
        self, first: int = 0, stop: int | None = None, *, truth: bool = True, pooling: Pooling = MAXIMUM
    ) -> ControlChunk:
        """Examples ``first`` to ``stop - 1`` as a chunk."""
        examples = np.arange(first, len(self.world.lengths) if stop is None else stop)
        part, rows = self.world.take(examples), np.isin(self.world.example_of_row, examples)
        row_ids = np.flatnonzero(self.sampled[rows])
        scores = (self.pooled(each, pooling)[examples] for each in self.random)
        pooled = np.concatenate([np.zeros((0, part.n_units)), *scores])
        on_rows = np.concatenate([np.zeros((0, part.n_units)), *(each[rows][row_ids] for each in self.random)])
        inputs = ControlInputs(
            first_example=first,
            example_offsets=offsets_of(torch.from_numpy(part.lengths.astype(np.int64))),
            mean_embeddings=torch.from_numpy(self.mean_embeddings()[examples]),
            max_embeddings=torch.from_numpy(self.max_embeddings()[examples]),
            row_ids=torch.from_numpy(row_ids),
            row_embeddings=torch.from_numpy(self.embeddings[rows][row_ids]),
            n_seeds=len(self.random),
            random_offsets=offsets_of(torch.from_numpy((pooled > 0).sum(1))),
            random_units=torch.from_numpy(np.nonzero(pooled)[1].astype(np.int32)),
            random_values=torch.from_numpy(pooled[pooled > 0].astype(np.float32)),
            n_units=part.n_units,
            d_model=self.embeddings.shape[1],
            pooling=None if pooling == MAXIMUM else pooling.label,
            row_random_offsets=offsets_of(torch.from_numpy((on_rows > 0).sum(1))),
            row_random_units=torch.from_numpy(np.nonzero(on_rows)[1].astype(np.int32)),
            row_random_values=torch.from_numpy(on_rows[on_rows > 0].astype(np.float32)),
        )
        ids = tuple(self.ids[example] for example in examples)
        labels = Labels(part.concepts, first, ids, part.splits, torch.from_numpy(part.labels), ("{}",) * len(examples))
        return ControlChunk(inputs, part.sparse(), labels, part.ground_truth() if truth else None)


def control_world(
    seed: int,
    *,
    n_examples: int = 90,
    n_units: int = 12,
    n_concepts: int = 2,
    d: int = 5,
    n_seeds: int = 3,
    signal: float = 1.5,
    noise: float = 1.0,
) -> ControlWorld:
    """Embeddings hold a direction for each concept, units are those of ``random_world``, random SAEs are random."""
    rng = np.random.default_rng(seed)
    world = random_world(seed, n_examples=n_examples, n_units=n_units, n_concepts=n_concepts)
    directions = rng.normal(size=(n_concepts, d))
    embeddings = (noise * rng.normal(size=(len(world.truth), d)) + signal * world.truth @ directions).astype(np.float32)
    random = []
    for _ in range(n_seeds):
        z = embeddings @ rng.normal(size=(d, n_units)) - 1
        random.append(np.where(z > 0, z, 0).astype(np.float32))
    return ControlWorld(world, embeddings, tuple(random), rng.random(len(world.truth)) < 0.7)
