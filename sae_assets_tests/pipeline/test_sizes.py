"""How large a chunk's files will be over other numbers of examples, against files that were made of so many."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sae_assets.artifacts import Artifact, GroundTruth, offsets_of
from sae_assets.commands.sizes import sized
from sae_assets.ops.control_inputs import Collector
from sae_assets.ops.random_saes import random_encoder
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets.pipeline.forecast import Cost
from sae_assets.storage.parquet import column_bytes
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.storage.small import ADDRESS, provenance, small

ROWS, WIDTH, UNITS, SEEDS, MOST = 50, 16, 64, 3, 5_000


def control_inputs(examples: int) -> Artifact:
    """Of random rows; from 100 examples on not all are sampled."""
    generator = torch.Generator().manual_seed(0)
    encoder = TopKEncoder(torch.randn(WIDTH, UNITS, generator=generator), 4, memory_budget=2**28)
    collector = Collector([random_encoder(encoder, seed) for seed in range(SEEDS)], MOST, WIDTH, UNITS)
    rows = torch.randn(examples, ROWS, WIDTH, generator=generator)
    collector.add([f"{number}" for number in range(examples)], [*rows], [ROWS] * examples)
    return collector.result(0, torch.arange(examples + 1) * ROWS)


def ground_truth(examples: int) -> Artifact:
    true = torch.rand(examples * ROWS, generator=torch.Generator().manual_seed(0)) < 0.3
    return GroundTruth(
        concepts=("red",),
        first_example=0,
        example_offsets=torch.arange(examples + 1) * ROWS,
        row_offsets=offsets_of(true.long()),
        concept_ids=torch.zeros(int(true.sum()), dtype=torch.int32),
    )


@pytest.mark.parametrize("made", [control_inputs, ground_truth])
@pytest.mark.parametrize("examples", [60, 150])
def test_a_file_is_as_large_as_foretold_of_fewer_or_more_examples(made: Any, examples: int, tmp_path: Path) -> None:
    """Of a third and of four times as many, whether the sample of rows is full or not."""
    store, dataset = ArtifactStore(str(tmp_path)), dataset_with(MOST)
    path = store.write(ADDRESS, stored(made(examples), provenance())).path
    few, many = sized(made(examples), path, examples, [4 * examples, 70, examples // 3], dataset)
    assert (few.examples, many.examples) == (examples // 3, 4 * examples)
    for cost in (few, many):
        real = store.write(ADDRESS, stored(made(cost.examples), provenance())).n_bytes
        assert cost.n_bytes == pytest.approx(real, rel=0.15)
        assert cost.rows == pytest.approx(cost.examples * (1 if made is control_inputs else ROWS))


def test_a_file_of_torch_is_taken_to_grow(tmp_path: Path) -> None:
    item = small("sparse_activations")
    written = ArtifactStore(str(tmp_path), "pt").write(ADDRESS, item)
    expected = [Cost(6, 6, 2 * written.n_bytes)]
    assert sized(item.artifact, written.path, 3, [6], dataset_with(MOST)) == expected


def test_bytes_of_columns_are_those_of_the_file_without_what_stands_around_them(tmp_path: Path) -> None:
    written = ArtifactStore(str(tmp_path)).write(ADDRESS, small("sparse_activations"))
    columns = column_bytes(written.path)
    assert set(columns) == {"example_index", "position", "unit_ids", "values", "l0"}
    content = Path(str(written.path)).read_bytes()
    footer = int.from_bytes(content[-8:-4], "little")
    assert sum(columns.values()) == len(content) - footer - 12  # four letters, footer, its length, four letters


def dataset_with(rows_per_chunk: int) -> Any:
    return SimpleNamespace(controls=SimpleNamespace(rows_per_chunk=rows_per_chunk))
