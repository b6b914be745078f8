"""One, two and four threads, any block size: the same bits; and the same ids on a GPU, where there is one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_assets.artifacts import Artifact
from sae_assets.ops.best_pairs import figure_pairs
from sae_assets.ops.chosen_pairs import choose_by_tails, choose_exactly
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets.ops.thresholds import CalibrationChunk, calibrate_thresholds
from sae_assets.ops.unit_mapping import EVERY_ACTIVE_UNIT, map_units
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets_tests.helpers.ops_of_worlds import lengths_of, nowhere, rows_of
from sae_assets_tests.ops.codes import assert_bit_equal
from sae_assets_tests.strategies import random_world

pytestmark = pytest.mark.slow

WORLD = random_world(11, n_examples=400, rows=12, n_units=40, n_concepts=3)  # large enough for torch to use threads


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def encoded(**options):
    rng = np.random.default_rng(3)
    enc = torch.from_numpy(rng.normal(size=(96, 800)).astype(np.float32))
    x = torch.from_numpy(rng.normal(size=(700, 96)).astype(np.float32))
    return TopKEncoder(enc, 12, **options).encode(x)


def everything(memory_budget: int = 2**28, device: str = "cpu") -> list[Artifact]:
    """Every artifact after encoding."""
    sparse, truth, cal = WORLD.sparse(), WORLD.ground_truth(), WORLD.mask("cal")
    stats = compute_unit_stats([(sparse, cal)], WORLD.n_units, memory_budget=memory_budget, device=device)
    mapping = map_units(stats, EVERY_ACTIVE_UNIT)
    filtered = filter_activations(sparse, mapping, device=device)
    thresholds = calibrate_thresholds(
        [CalibrationChunk(filtered, truth, cal)],
        concepts=WORLD.concepts,
        kept_units=mapping.kept_units,
        memory_budget=memory_budget,
        device=device,
    )
    chunk = LabelledChunk(filtered, WORLD.splits, torch.from_numpy(WORLD.labels))
    scores = score_examples([chunk], n_units=mapping.n_filtered, device=device)
    counts = count_detections(scores, thresholds)
    every = score_examples([replace(chunk, activations=sparse)], n_units=WORLD.n_units, device=device)
    rows = nowhere(WORLD.concepts, WORLD.n_units)
    tails = choose_by_tails(counts, thresholds, every["cal"], rows, n_folds=3)
    exact = choose_exactly(every, rows, n_folds=3)
    best = [
        figure_pairs(each, every, lengths_of(WORLD), rows_of(WORLD, each), n_permutations=10) for each in (tails, exact)
    ]
    return [stats, mapping, filtered, thresholds, counts, tails, exact, *best]


@pytest.fixture(scope="module")
def alone() -> tuple[list[str], object]:
    """Content hashes and code on one thread."""
    return [artifact.content_hash() for artifact in everything()], encoded()


@pytest.mark.parametrize(("threads", "budget"), [(1, 1_000), (2, 10_000), (4, 2**28)])
def test_threads_and_block_sizes_change_no_artifact(alone, threads, budget):
    """Statistics, mapping, filtered rows, thresholds, counts, pairs with chance, intervals and folds."""
    torch.set_num_threads(threads)
    assert [artifact.content_hash() for artifact in everything(budget)] == alone[0]


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "budget"), [pytest.param(1, 1, marks=pytest.mark.long), (2, 2**28), (4, 2**20)])
def test_threads_and_block_sizes_change_no_code(alone, threads, budget):
    """Ids, values, L0 and masses of encoded rows."""
    torch.set_num_threads(threads)
    assert_bit_equal(encoded(memory_budget=budget), alone[1])


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU: there is no CUDA")


@needs_cuda
def test_a_gpu_gives_the_same_code(alone):
    """Pre-activations are float64 sums in a fixed order, rounded once: the same on any device that has IEEE doubles."""
    assert_bit_equal(encoded(device="cuda"), alone[1])


@needs_cuda
def test_a_gpu_gives_the_same_artifacts(alone):
    """Sums included: they are added in sorted order on the CPU. Intervals are float64 products and may differ."""
    names = ("stats", "mapping", "filtered", "thresholds", "counts")
    for name, artifact, content in zip(names, everything(device="cuda"), alone[0], strict=False):
        assert artifact.content_hash() == content, name
