"""Activations by unit are the columns of the dense matrix, whatever the chunks and however much is held."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sae_assets.artifacts.unit_rows
from sae_assets.artifacts import SparseActivations
from sae_assets.artifacts.unit_rows import UnitRows
from sae_assets.errors import ArtifactError
from sae_assets.ops import scratch
from sae_assets.ops import unit_rows as op
from sae_assets_tests.reference.unit_rows import entries_of
from sae_assets_tests.strategies import PROPERTY, World, chunkings, random_world, worlds


def chunks_of(world: World, parts: list) -> list[SparseActivations]:
    starts = np.cumsum([0, *map(len, parts)])
    return [
        replace(world.take(part).sparse(), first_example=int(first))
        for part, first in zip(parts, starts[:-1], strict=True)
    ]


@PROPERTY
@given(worlds(), st.data())
def test_units_have_their_columns(world: World, data: st.DataObject) -> None:
    chunks = chunks_of(world, data.draw(chunkings(len(world.lengths), shuffled=False)))
    got, digest = op.sort_by_unit(chunks, world.n_units)
    assert got.n_rows == len(world.activations) and digest == op.rows_digest(got)
    for unit in range(world.n_units):
        run = slice(*got.unit_offsets[unit : unit + 2].tolist())
        columns = (got.examples[run].tolist(), got.positions[run].tolist(), got.values[run].tolist())
        assert list(zip(*columns, strict=True)) == entries_of(world.activations, world.example_of_row, unit)


def test_what_is_mapped_from_a_file_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Result, digest and invariants with a few entries in memory and with all of them."""
    world = random_world(0, n_examples=9, n_units=7)
    chunks = chunks_of(world, [range(4), range(4, 9)])
    expected, digest = op.sort_by_unit(chunks, 7)
    monkeypatch.setattr(scratch, "IN_MEMORY", 2)
    for module in (op, sae_assets.artifacts.unit_rows):
        monkeypatch.setattr(module, "BLOCK", 3)
    got, mapped_digest = op.sort_by_unit(chunks, 7)
    assert got == expected and mapped_digest == digest == op.rows_digest(got)
    assert len(scratch.scratch(5, torch.float32)) == 5


@pytest.mark.parametrize("change", ["value", "unit", "position", "missing", "swapped"])
def test_the_digest_sees_every_change(change: str) -> None:
    unit, example, position = torch.tensor([0, 1, 1]), torch.tensor([3, 3, 4]), torch.tensor([0, 5, 0])
    value = torch.tensor([1.0, 2.0, 3.0])
    digest = op.entries_digest(unit, example, position, value)
    order = torch.tensor([2, 0, 1])
    assert op.entries_digest(unit[order], example[order], position[order], value[order]) == digest
    if change == "value":
        value = value.nextafter(torch.tensor(9.0))
    if change == "unit":
        unit = unit + 1
    if change == "position":
        position = position.roll(1)
    if change == "swapped":
        example, position = position, example
    keep = slice(0, 2 if change == "missing" else 3)
    assert op.entries_digest(unit[keep], example[keep], position[keep], value[keep]) != digest


def test_other_chunks_are_refused() -> None:
    """Of another width, or not the same when they are read again."""
    world = random_world(1, n_examples=4, n_units=5)
    whole, few = world.sparse(), world.take([0]).sparse()
    with pytest.raises(ArtifactError, match="5 units, expected 6"):
        op.sort_by_unit([whole], 6)

    class Changing:
        def __init__(self, *passes: SparseActivations) -> None:
            self.passes = list(passes)

        def __iter__(self):
            return iter([self.passes.pop(0)])

    for passes in ((whole, few), (few, whole)):
        with pytest.raises(ArtifactError, match="others than when"):
            op.sort_by_unit(Changing(*passes), 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.tensor([1.0, 0.0, 1.0])}, "finite and > 0"),
        ({"values": torch.tensor([1.0, torch.inf, 1.0])}, "finite and > 0"),
        ({"examples": torch.tensor([1, 0, 0], dtype=torch.int32)}, "must ascend"),
        ({"positions": torch.tensor([1, 1, 0], dtype=torch.int32)}, "must ascend"),
        ({"positions": torch.tensor([-1, 1, 0], dtype=torch.int32)}, "not be negative"),
        ({"unit_offsets": torch.tensor([0, 2])}, "ends at 2"),
        ({"n_rows": 1}, "more entries than the 1 rows"),
        ({"values": torch.ones(2)}, "shape"),
    ],
)
def test_invariants(change: dict, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sae_assets.artifacts.unit_rows, "BLOCK", 1)
    fields = {
        "unit_offsets": torch.tensor([0, 2, 3]), "examples": torch.tensor([0, 0, 0], dtype=torch.int32),
        "positions": torch.tensor([0, 1, 0], dtype=torch.int32), "values": torch.ones(3), "n_rows": 2,
    }  # fmt: skip
    UnitRows(**fields)
    with pytest.raises(ArtifactError, match=message):
        UnitRows(**{**fields, **change})
