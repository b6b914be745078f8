"""Chunks side by side: their order, the one read ahead and no further, and errors in their turn."""

import weakref
from threading import Event
from types import SimpleNamespace

import pytest

from sae_assets.storage.ahead import chunk_by_chunk

KEYS = ("0000", "0001", "0002", "0003")
SOON = 10  # seconds after which a test that waits for a read has failed


class Artifact:
    def __init__(self, name):
        self.name = name


class Chunks(dict):
    """Readers that note what is read, and which artifacts are still held."""

    def __init__(self, stage, damaged=()):
        super().__init__(dict.fromkeys(KEYS))
        self.stage, self.damaged = stage, damaged
        self.read, self.alive = {key: Event() for key in KEYS}, weakref.WeakSet()

    def __getitem__(self, key):
        if key in self.damaged:
            raise ValueError(f"{key} is damaged")
        artifact = Artifact(f"{self.stage} {key}")
        self.alive.add(artifact)
        self.read[key].set()
        return SimpleNamespace(artifact=artifact)


def test_chunks_come_side_by_side_and_in_order():
    names = [tuple(part.name for part in parts) for parts in chunk_by_chunk(Chunks("a"), Chunks("b"))]
    assert names == [(f"a {key}", f"b {key}") for key in KEYS]


def test_the_next_chunk_is_read_while_one_is_worked_on_and_no_further_one():
    chunks = Chunks("a")
    for number, (artifact,) in enumerate(chunk_by_chunk(chunks)):
        if number + 1 < len(KEYS):
            assert chunks.read[KEYS[number + 1]].wait(SOON)
        assert not any(chunks.read[key].is_set() for key in KEYS[number + 2 :])
        assert len(chunks.alive) <= 2
        del artifact


def test_what_is_wrong_with_a_chunk_is_said_in_its_turn():
    seen = []
    with pytest.raises(ValueError, match="0002 is damaged"):
        for (artifact,) in chunk_by_chunk(Chunks("a", damaged=("0002",))):
            seen.append(artifact.name)
    assert seen == ["a 0000", "a 0001"]


def test_who_stops_early_waits_for_the_one_that_is_read_and_reads_no_other():
    chunks = Chunks("a")
    going = chunk_by_chunk(chunks)
    next(going)
    going.close()
    assert not any(chunks.read[key].is_set() for key in KEYS[2:])
