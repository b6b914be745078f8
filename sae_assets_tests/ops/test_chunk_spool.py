"""Chunks that are read once come back as they were, as often as they are asked for."""

import gc

from hypothesis import given
from hypothesis import strategies as st

from sae_assets.ops.chunk_spool import ChunkSpool
from sae_assets.ops.row_chunks import RowChunk
from sae_assets_tests.strategies import PROPERTY, chunkings, random_world, worlds


@PROPERTY
@given(worlds(), st.data())
def test_chunks_come_back_as_they_were(world, data):
    """Every field of them, the second time too; what they came from is gone through once."""
    parts = [world.take(part) for part in data.draw(chunkings(len(world.lengths)))]
    chunks = [RowChunk(part.sparse(), part.ground_truth(), part.splits) for part in parts]
    spool = ChunkSpool(iter(chunks))
    for _ in range(2):
        again = list(spool)
        assert len(again) == len(chunks)
        for one, other in zip(again, chunks, strict=True):
            assert (one.activations, one.truth, one.splits) == (other.activations, other.truth, other.splits)


def test_a_chunk_is_not_held(monkeypatch, tmp_path):
    """Neither those that were put away nor those that were given back; and no file is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    alive: list[int] = []

    def made():
        for _ in range(5):
            gc.collect()
            alive.append(sum(isinstance(each, RowChunk) for each in gc.get_objects()))
            yield RowChunk(world.sparse(), world.ground_truth(), world.splits)

    world = random_world(0)
    spool = ChunkSpool(made())
    for _ in spool:
        gc.collect()
        alive.append(sum(isinstance(each, RowChunk) for each in gc.get_objects()))
    assert max(alive) <= 2
    assert not [*tmp_path.iterdir()]
