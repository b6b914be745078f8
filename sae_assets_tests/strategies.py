"""Small hostile data sets for property tests, as dense arrays that chunks of artifacts are cut from.

Every data set is drawn dense, so that the references read it directly; ``World`` makes the sparse artifacts of all or
some of its examples. Nothing is computed here beyond that change of form.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sae_assets.artifacts import SPLITS, FilteredActivations, GroundTruth, SparseActivations, offsets_of
from sae_assets_tests.reference.sparse_activations import stored_entries

THOROUGH = os.environ.get("SAE_ASSETS_TESTS_THOROUGH") == "1"
PROPERTY = settings(
    max_examples=60 if THOROUGH else 20, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
DEVICES = ("cpu", *(("cuda",) if torch.cuda.is_available() else ()))

DENORMAL = float(np.finfo(np.float32).smallest_subnormal)
TINY = float(np.finfo(np.float32).smallest_normal)
HUGE = float(np.finfo(np.float32).max)
NEARLY_ONE = float(np.nextafter(np.float32(1), np.float32(2)))
ORDINARY = (0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 2.0, 3.0)
HOSTILE = (*ORDINARY, float(np.float32(0.1)), NEARLY_ONE, DENORMAL, 3 * DENORMAL, TINY, HUGE, float(np.float32(1e30)))


@dataclass(frozen=True)
class World:
    """A dense data set.

    Attributes:
        activations: float32 [rows, units], 0 where inactive.
        lengths: int [examples], rows of each example; may be 0.
        splits: per example; truth: bool [rows, concepts] (G); labels: bool [examples, concepts] (H).
    """

    activations: np.ndarray
    lengths: np.ndarray
    splits: tuple[str, ...]
    truth: np.ndarray
    labels: np.ndarray

    @property
    def n_units(self) -> int:
        return self.activations.shape[1]

    @property
    def concepts(self) -> tuple[str, ...]:
        return tuple(f"concept {number}" for number in range(self.labels.shape[1]))

    @property
    def example_of_row(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def examples_in(self, split: str) -> np.ndarray:
        """bool [examples]."""
        return np.array([name == split for name in self.splits], bool)

    def rows_in(self, split: str) -> np.ndarray:
        """bool [rows]."""
        return self.examples_in(split)[self.example_of_row]

    def mask(self, split: str) -> torch.Tensor:
        """``examples_in`` as a tensor."""
        return torch.from_numpy(self.examples_in(split))

    def take(self, examples: Sequence[int]) -> "World":
        """The data set of these examples only, in this order."""
        chosen = np.asarray(examples, np.int64)
        starts = np.cumsum(self.lengths) - self.lengths
        rows = [np.arange(starts[example], starts[example] + self.lengths[example]) for example in chosen]
        row = np.concatenate([np.zeros(0, np.int64), *rows])
        return World(
            self.activations[row],
            self.lengths[chosen],
            tuple(self.splits[example] for example in chosen),
            self.truth[row],
            self.labels[chosen],
        )

    def sparse(self, k_stored: int | None = None) -> SparseActivations:
        """All rows as one chunk in original unit ids."""
        row_offsets, unit_ids, values = entries(self.activations, k_stored)
        total = float(self.activations.sum(dtype=np.float64))
        return SparseActivations(
            first_example=0,
            example_offsets=offsets_of(torch.from_numpy(self.lengths.astype(np.int64))),
            row_offsets=row_offsets,
            unit_ids=unit_ids,
            values=values,
            n_units=self.n_units,
            l0=torch.from_numpy((self.activations > 0).sum(1).astype(np.int32)),
            k_stored=k_stored,
            total_mass=total,
            dropped_mass=max(0.0, total - float(values.double().sum())) if k_stored else 0.0,
        )

    def filtered(self) -> FilteredActivations:
        """All rows as one chunk in which every unit is kept."""
        row_offsets, unit_ids, values = entries(self.activations)
        return FilteredActivations(
            first_example=0,
            example_offsets=offsets_of(torch.from_numpy(self.lengths.astype(np.int64))),
            row_offsets=row_offsets,
            unit_ids=unit_ids,
            values=values,
            n_units=self.n_units,
            n_original=2 * self.n_units,
        )

    def ground_truth(self) -> GroundTruth:
        """G of all rows as one chunk."""
        return GroundTruth(
            concepts=self.concepts,
            first_example=0,
            example_offsets=offsets_of(torch.from_numpy(self.lengths.astype(np.int64))),
            row_offsets=offsets_of(torch.from_numpy(self.truth.sum(1).astype(np.int64))),
            concept_ids=torch.tensor(np.argwhere(self.truth)[:, 1].tolist(), dtype=torch.int32),
        )


def entries(activations: np.ndarray, k_stored: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row offsets, unit ids and values of a dense matrix [rows, units]."""
    rows = stored_entries(activations, k_stored)
    pairs = [pair for row in rows for pair in row]
    return (
        offsets_of(torch.tensor([len(row) for row in rows], dtype=torch.int64)),
        torch.tensor([unit for unit, _ in pairs], dtype=torch.int32),
        torch.tensor([value for _, value in pairs], dtype=torch.float32),
    )


def densify(chunk: SparseActivations | FilteredActivations) -> np.ndarray:
    """float32 [rows, units] of a chunk's entries."""
    dense = torch.zeros(chunk.n_rows, chunk.n_units)
    dense[chunk.row_of_entry(), chunk.unit_ids.long()] = chunk.values
    return dense.numpy()


@st.composite
def activations(draw: st.DrawFn, n_rows: int, n_units: int, pool: Sequence[float] = HOSTILE) -> np.ndarray:
    """float32 [n_rows, n_units] with ties, extremes, empty rows, and units that never, always or equally fire."""
    dense = draw(hnp.arrays(np.float32, (n_rows, n_units), elements=st.sampled_from(pool), fill=st.nothing()))
    kinds = st.sampled_from(("drawn", "drawn", "drawn", "silent", "always", "constant"))
    for unit, kind in enumerate(draw(st.lists(kinds, min_size=n_units, max_size=n_units))):
        if kind == "silent":
            dense[:, unit] = 0
        elif kind == "always":
            dense[:, unit] = np.where(dense[:, unit] > 0, dense[:, unit], 1)
        elif kind == "constant":
            dense[:, unit] = 2
    if n_rows and draw(st.booleans()):
        dense[draw(st.integers(0, n_rows - 1))] = 0
    if draw(st.booleans()) and draw(st.booleans()):  # what k = 1 leaves: one entry per row
        for row in dense:
            row[np.arange(n_units) != row.argmax()] = 0
    return dense


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    max_examples: int = 6,
    max_rows: int = 4,
    max_units: int = 5,
    max_concepts: int = 3,
    pool: Sequence[float] = HOSTILE,
) -> World:
    """A data set with at least one calibration row; any split may otherwise be empty, any concept without positives."""
    n_examples = draw(st.integers(1, max_examples))
    n_units, n_concepts = draw(st.integers(1, max_units)), draw(st.integers(1, max_concepts))
    lengths = draw(st.lists(st.integers(0, max_rows), min_size=n_examples, max_size=n_examples))
    splits = draw(st.lists(st.sampled_from(SPLITS), min_size=n_examples, max_size=n_examples))
    calibration = draw(st.integers(0, n_examples - 1))
    lengths[calibration], splits[calibration] = max(1, lengths[calibration]), "cal"
    n_rows = sum(lengths)
    truth = draw(hnp.arrays(np.bool_, (n_rows, n_concepts), fill=st.nothing()))
    labels = draw(hnp.arrays(np.bool_, (n_examples, n_concepts), fill=st.nothing()))
    empty = draw(st.sampled_from((None, *range(n_concepts))))
    if empty is not None:
        truth[:, empty] = labels[:, empty] = False
    dense = draw(activations(n_rows, n_units, pool))
    return World(dense, np.array(lengths), tuple(splits), truth, labels)


@st.composite
def chunkings(draw: st.DrawFn, n_examples: int, *, shuffled: bool = True) -> list[list[int]]:
    """The examples cut into 1..n chunks, in any order where ``shuffled``."""
    order = draw(st.permutations(range(n_examples))) if shuffled else list(range(n_examples))
    cuts = sorted(draw(st.sets(st.integers(1, n_examples - 1)))) if n_examples > 1 else []
    return [list(order[a:b]) for a, b in zip([0, *cuts], [*cuts, n_examples], strict=True)]


tail_fractions = st.lists(
    st.sampled_from((0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
    min_size=1,
    max_size=5,
    unique=True,
).map(lambda fractions: tuple(sorted(fractions)))


def random_world(
    seed: int, *, n_examples: int = 60, rows: int = 5, n_units: int = 12, n_concepts: int = 2, density: float = 0.3
) -> World:
    """A larger continuous data set, for what needs many examples; unit c fires strongly where concept c is present."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, rows + 1, n_examples)
    example = np.repeat(np.arange(n_examples), lengths)
    labels = rng.random((n_examples, n_concepts)) < 0.4
    truth = labels[example] & (rng.random((len(example), n_concepts)) < 0.7)
    fires = rng.random((len(example), n_units)) < density
    dense = np.where(fires, rng.lognormal(size=fires.shape), 0).astype(np.float32)
    for concept in range(n_concepts):
        dense[truth[:, concept], concept] += 2
    splits = tuple(str(name) for name in rng.permutation(np.resize(np.array(SPLITS), n_examples)))
    return World(dense, lengths, splits, truth, labels)
