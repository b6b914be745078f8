"""Control inputs against dense loops, however the chunk is cut into batches and blocks."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.ops.control_inputs import Collector
from sae_assets.ops.pooling import MAXIMUM, Pooling
from sae_assets.ops.random_saes import random_encoder
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder
from sae_assets_tests.reference import pooling as reference

pytestmark = pytest.mark.slow

D, N, SEEDS = 7, 30, 3
LENGTHS = (4, 0, 1, 9, 3, 0, 6)
IDS = tuple(f"text {number}" for number in range(len(LENGTHS)))
OFFSETS = torch.tensor([0, *LENGTHS]).cumsum(0)


def rows() -> torch.Tensor:
    return torch.randn(sum(LENGTHS), D, generator=torch.Generator().manual_seed(0))


def random_saes(budget: int = 2**28) -> list[Encoder]:
    weight = torch.randn(D, N, generator=torch.Generator().manual_seed(1))
    encoder = TopKEncoder(weight, 4, bias=torch.full((N,), 0.1), memory_budget=budget)
    return [random_encoder(encoder, seed) for seed in range(SEEDS)]


def collected(
    cuts: Sequence[int] = (), most: int = 10, budget: int = 2**28, poolings: Sequence[Pooling] = (MAXIMUM,)
) -> Collector:
    collector, x = Collector(random_saes(budget), most, D, N, poolings), rows()
    for start, stop in pairwise([0, *cuts, len(IDS)]):
        parts = [x[OFFSETS[number] : OFFSETS[number + 1]] for number in range(start, stop)]
        collector.add(IDS[start:stop], parts, LENGTHS[start:stop])
    return collector


def smallest_hashes(pairs: Sequence[tuple[str, int]], most: int) -> list[int]:
    """Which of these (example, row) are sampled, by place in the list."""

    def digest(place: int) -> bytes:
        example, row = pairs[place]
        return hashlib.blake2b(f"{example}\0{row}".encode(), digest_size=7).digest()

    return sorted(sorted(range(len(pairs)), key=digest)[:most])


def dense_code(sae: Encoder, x: torch.Tensor) -> torch.Tensor:
    """The code of every row, by the published formula in float64."""
    values = (x.double() - sae.shift) @ sae.columns.double().T + sae.bias
    best = values.topk(4, dim=1)
    return torch.zeros_like(values).scatter(1, best.indices, best.values.clamp(min=0))


def dense_scores(sae: Encoder, x: torch.Tensor) -> torch.Tensor:
    """Largest value of each unit over rows."""
    return dense_code(sae, x).amax(0)


def test_everything_is_what_a_loop_finds() -> None:
    found, x = collected().result(40, OFFSETS), rows()
    assert (found.first_example, found.n_seeds, found.n_units, found.d_model) == (40, SEEDS, N, D)
    pairs = [(example, row) for example, length in zip(IDS, LENGTHS, strict=True) for row in range(length)]
    sample = smallest_hashes(pairs, 10)
    assert found.row_ids.tolist() == sample and torch.equal(found.row_embeddings, x[sample])
    run = 0
    for sae in random_saes():
        for number in range(len(IDS)):
            part = x[OFFSETS[number] : OFFSETS[number + 1]]
            scores = slice(*found.random_offsets[run : run + 2].tolist())
            expected = dense_scores(sae, part) if len(part) else torch.zeros(N)
            units = expected.nonzero().flatten()
            assert found.random_units[scores].tolist() == units.tolist()
            torch.testing.assert_close(
                found.random_values[scores].double(), expected[units].double(), rtol=1e-6, atol=0
            )
            mean = part.double().mean(0).float() if len(part) else torch.zeros(D)
            assert torch.equal(found.mean_embeddings[number], mean)
            assert torch.equal(found.max_embeddings[number], part.amax(0) if len(part) else torch.zeros(D))
            run += 1
    assert run == len(found.random_offsets) - 1
    run = 0
    for sae in random_saes():
        for values in dense_code(sae, x[sample]):
            part = slice(*found.row_random_offsets[run : run + 2].tolist())
            units = values.nonzero().flatten()
            assert found.row_random_units[part].tolist() == units.tolist()
            torch.testing.assert_close(found.row_random_values[part].double(), values[units], rtol=1e-6, atol=0)
            run += 1
    assert run == len(found.row_random_offsets) - 1


@pytest.mark.parametrize("pooling", [Pooling("mean"), Pooling("topk_mean", 3), Pooling("last")], ids=lambda p: p.label)
def test_random_saes_are_pooled_as_units_are(pooling: Pooling) -> None:
    """Densely, for every way but the maximum, which is there beside it; however the chunk is cut."""
    both = collected(poolings=(MAXIMUM, pooling))
    found = both.result(40, OFFSETS, pooling)
    assert found.pooling == pooling.label and both.result(40, OFFSETS) == collected().result(40, OFFSETS)
    lengths, run = np.array(LENGTHS), 0
    for sae in random_saes():
        expected = reference.pooled(dense_code(sae, rows()).numpy(), lengths, pooling.name, pooling.k)
        for scores in expected:
            part = slice(*found.random_offsets[run : run + 2].tolist())
            units = scores.nonzero()[0]
            assert found.random_units[part].tolist() == units.tolist()
            np.testing.assert_allclose(found.random_values[part], scores[units], rtol=1e-5)
            run += 1
    for cuts, budget in (((1, 2, 3, 4, 5, 6), 2**28), ((3,), 1)):
        assert collected(cuts, budget=budget, poolings=(pooling,)).result(40, OFFSETS, pooling) == found


@pytest.mark.parametrize(("cuts", "budget", "most"), [
    pytest.param(*cut, most, marks=pytest.mark.long if cut[1] < 2**28 and most < 10 else ())
    for cut in (((1, 2, 3, 4, 5, 6), 2**28), ((3,), 1), ((2, 6), 2000)) for most in (1, 5, 10, 100)
])  # fmt: skip
def test_batches_and_blocks_change_nothing(cuts: tuple[int, ...], budget: int, most: int) -> None:
    whole = collected(most=most)
    cut = collected(cuts, most, budget)
    assert cut.result(0, OFFSETS) == whole.result(0, OFFSETS)
    assert cut.result_of_pooled(0) == whole.result_of_pooled(0)
    assert len(whole.result(0, OFFSETS).row_ids) == min(most, sum(LENGTHS))


def test_a_pooled_row_is_the_mean_of_its_rows() -> None:
    """One row per example, its embedding the mean; examples without rows are in no sample; the rest is the same."""
    collector = collected(most=100)
    of_rows, pooled = collector.result(0, OFFSETS), collector.result_of_pooled(0)
    assert pooled.example_offsets.tolist() == list(range(len(IDS) + 1))
    there = [number for number, length in enumerate(LENGTHS) if length]
    assert pooled.row_ids.tolist() == there and torch.equal(pooled.row_embeddings, pooled.mean_embeddings[there])
    for name in ("mean_embeddings", "max_embeddings", "random_offsets", "random_units", "random_values"):
        assert torch.equal(getattr(pooled, name), getattr(of_rows, name)), name
    assert pooled.row_random_offsets is None and len(of_rows.row_random_units)


def test_rows_that_stand_for_nothing_are_counted_and_in_no_sample() -> None:
    collector = Collector([], 10, D, N)
    collector.add(("a", "b"), [rows()[:0], rows()[:1]], (1, 1))
    found: ControlInputs = collector.result(0, torch.tensor([0, 1, 2]))
    assert found.row_ids.tolist() == [1] and found.n_seeds == 0 and found.random_offsets.tolist() == [0]
    assert not bool(found.mean_embeddings[0].any())


def test_the_sample_is_spread_over_the_chunk() -> None:
    """Of 40 examples with 50 rows each, 200 sampled rows: chi square over examples below its 99.9 % point (72.1)."""
    collector = Collector([], 200, 1, N)
    for number in range(40):
        collector.add((f"image {number}",), [torch.zeros(50, 1)], (50,))
    found = collector.result(0, torch.arange(41) * 50)
    per_example = torch.bincount(found.row_ids // 50, minlength=40).double()
    assert float(((per_example - 5) ** 2 / 5).sum()) < 72.1
