"""Chunks partition the examples, and what is registered never changes, in memory and on disk."""

import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from sae_assets.chunks import manifests
from sae_assets.chunks.chunking import Manifest, chunk_key, cut_chunks
from sae_assets.chunks.manifests import read_manifest, read_manifests, register_chunks
from sae_assets.datasets.records import Record
from sae_assets.errors import DatasetError, StoredFileError

thorough = settings(max_examples=60, deadline=None, database=None, derandomize=True)
names = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), unique=True, max_size=40)
sizes = st.integers(1, 12)


def records(ids: list[str]) -> list[Record]:
    return [Record(name, f"images/{name}.png", "cal", ()) for name in ids]


def hashed(name: str) -> str:
    return f"hash of {name}"


def register(root: UPath, dataset: str, examples: list[Record], size: int) -> list[Manifest]:
    return register_chunks(root, dataset, examples, size, hashes=lambda name: (hashed(name), {"wing": hashed("w")}))


def held(chunks: list[Manifest]) -> list[str]:
    return [example for chunk in chunks for example in chunk.example_ids]


@st.composite
def growing(draw: st.DrawFn) -> list[list[str]]:
    """A data set at several moments: examples are added anywhere, also in the middle; some may go."""
    everything = draw(names)
    moments = []
    for _ in range(draw(st.integers(1, 4))):
        kept = draw(st.sets(st.sampled_from(everything))) if everything else set()
        moments.append([name for name in draw(st.permutations(everything)) if name in kept])
    return moments


@thorough
@given(names, sizes)
def test_chunks_partition_the_examples(ids: list[str], size: int) -> None:
    """Every example is in one chunk, in order; only the last chunk may be short; positions follow each other."""
    chunks = cut_chunks(records(ids), [], size)
    assert held(chunks) == ids
    assert all(len(chunk.example_ids) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk.example_ids) <= size for chunk in chunks)
    assert [chunk.first_index for chunk in chunks] == [size * place for place in range(len(chunks))]
    assert [chunk.key for chunk in chunks] == [f"{place:04d}" for place in range(len(chunks))]


@thorough
@given(growing(), st.lists(sizes, min_size=4, max_size=4))
def test_registered_chunks_never_change(moments: list[list[str]], chunk_sizes: list[int]) -> None:
    """However examples come and go, new chunks hold new examples only, under new, ascending keys and positions."""
    registered: list[Manifest] = []
    for ids, size in zip(moments, chunk_sizes, strict=False):
        before = list(registered)
        fresh = cut_chunks(records(ids), before, size)
        assert before == registered
        assert held(fresh) == [name for name in ids if name not in set(held(registered))]
        registered += fresh
        everything = held(registered)
        assert len(set(everything)) == len(everything)
        assert set(ids) <= set(everything)
        keys = [chunk.key for chunk in registered]
        assert keys == sorted(keys) == [chunk_key(place) for place in range(len(keys))]
        position = 0
        for chunk in registered:
            assert chunk.first_index == position
            position += len(chunk.example_ids)


@thorough
@given(names, sizes, sizes)
def test_planning_again_plans_nothing(ids: list[str], size: int, other: int) -> None:
    """Once all examples are held, there is nothing to plan, whatever the chunk size is now."""
    assert cut_chunks(records(ids), cut_chunks(records(ids), [], size), other) == []


def test_short_last_chunk_is_not_extended() -> None:
    """Three examples in chunks of two; a fourth one opens a chunk of its own."""
    first = cut_chunks(records(["a", "b", "c"]), [], 2)
    assert first == [Manifest("0000", 0, ("a", "b")), Manifest("0001", 2, ("c",))]
    assert cut_chunks(records(["a", "new", "b", "c"]), first, 2) == [Manifest("0002", 3, ("new",))]


def test_numbers_go_on_after_the_highest_key() -> None:
    """A gap in the keys is not filled: a number is never used again."""
    assert cut_chunks(records(["z"]), [Manifest("0007", 0, ("a",))], 2) == [Manifest("0008", 1, ("z",))]


@pytest.mark.parametrize("number", [0, 1, 9, 99, 998, 999, 9998])
def test_keys_sort_as_numbers_do(number: int) -> None:
    """The key after a key comes after it in the order of strings, which is the order of every listing."""
    assert chunk_key(number) < chunk_key(number + 1)


def test_more_chunks_than_digits_hold() -> None:
    """Ten thousand and one chunks: keys still sort as numbers do, or the plan is refused with what to change."""
    ids = records([f"{number}" for number in range(10_001)])
    try:
        keys = [chunk.key for chunk in cut_chunks(ids, [], 1)]
    except DatasetError as error:
        assert "chunk_size" in str(error)
    else:
        assert keys == sorted(keys)


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """An empty store, on disk and in memory."""
    return UPath(tmp_path / "store") if request.param == "file" else UPath(f"memory://{tmp_path.name}-{os.getpid()}")


def contents(root: UPath) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "pictures/chunks").iterdir()}


def test_registering_twice_writes_nothing_new(root: UPath) -> None:
    """The second time finds the same chunks and touches no file."""
    first = register(root, "pictures", records(list("abcde")), 2)
    before = contents(root)
    assert sorted(before) == ["0000.json", "0001.json", "0002.json"]
    assert register(root, "pictures", records(list("abcde")), 2) == first
    assert register(root, "pictures", records(list("abcde")), 3) == first
    assert contents(root) == before
    assert read_manifests(root, "pictures") == first


def test_new_examples_leave_old_manifests_byte_by_byte(root: UPath) -> None:
    """Examples inserted at the front and in the middle go to new files."""
    register(root, "pictures", records(list("abc")), 2)
    before = contents(root)
    after = register(root, "pictures", records(list("xaybc")), 2)
    assert [chunk.example_ids for chunk in after] == [("a", "b"), ("c",), ("x", "y")]
    assert {name: content for name, content in contents(root).items() if name in before} == before
    assert read_manifest(root, "pictures", "0002") == Manifest(
        "0002", 3, ("x", "y"), content_hashes=(hashed("x"), hashed("y")), region_hashes=({"wing": hashed("w")},) * 2
    )


def test_data_sets_do_not_share_chunks(root: UPath) -> None:
    """The same examples under another name are registered on their own."""
    register(root, "pictures", records(list("ab")), 2)
    assert read_manifests(root, "others") == []
    assert len(register(root, "others", records(list("ab")), 1)) == 2
    assert len(read_manifests(root, "pictures")) == 1


def test_interrupted_registration_is_taken_up(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed between two manifests leaves sound ones; the next run registers the rest."""
    write, done = manifests.write_once, []

    def fails_second(path: UPath, content: bytes) -> bool:
        if done:
            raise KeyboardInterrupt
        done.append(path)
        return write(path, content)

    monkeypatch.setattr(manifests, "write_once", fails_second)
    with pytest.raises(KeyboardInterrupt):
        register(root, "pictures", records(list("abcde")), 2)
    monkeypatch.undo()
    assert [chunk.key for chunk in read_manifests(root, "pictures")] == ["0000"]
    assert [chunk.example_ids for chunk in register(root, "pictures", records(list("abcde")), 2)] == [
        ("a", "b"),
        ("c", "d"),
        ("e",),
    ]


def test_temporary_files_are_no_manifests(root: UPath) -> None:
    """What a killed run left under a temporary name is not read."""
    register(root, "pictures", records(list("ab")), 2)
    (root / "pictures/chunks/.tmp-1234").write_bytes(b"half a manif")
    assert len(read_manifests(root, "pictures")) == 1


def test_unregistered_chunk_says_how_to_register(root: UPath) -> None:
    """A partition added by hand has no manifest: the message says what to do instead."""
    with pytest.raises(StoredFileError, match=r"Chunk '0004' of pictures is not registered") as caught:
        read_manifest(root, "pictures", "0004")
    assert "sae-assets register" in str(caught.value)


@pytest.mark.parametrize("key", ["../0000", "a/b", "..", "0000\n"])
def test_unsafe_chunk_keys_are_refused(root: UPath, key: str) -> None:
    """A key from outside never becomes a path."""
    with pytest.raises(StoredFileError, match="not a plain name"):
        read_manifest(root, "pictures", key)


SOUND = {"key": "0000", "first_index": 0, "example_ids": ["a", "b"]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"3",
        json.dumps({**SOUND, "first_index": "first"}).encode(),
        json.dumps({**SOUND, "first_index": None}).encode(),
        json.dumps({**SOUND, "example_ids": None}).encode(),
        *(json.dumps({k: SOUND[k] for k in SOUND if k != missing}).encode() for missing in SOUND),
    ],
)
def test_damaged_manifest_is_named(root: UPath, content: bytes) -> None:
    """A manifest that is no JSON, or lacks something, is refused with its path, by every way of reading it."""
    register(root, "pictures", records(list("ab")), 2)
    path = root / "pictures/chunks/0000.json"
    path.write_bytes(content)
    for read in (
        lambda: read_manifest(root, "pictures", "0000"),
        lambda: read_manifests(root, "pictures"),
        lambda: register(root, "pictures", records(list("abc")), 2),
    ):
        with pytest.raises(StoredFileError, match="is damaged") as caught:
            read()
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"key": "0001"},
        {"key": "first"},
        {"key": 0},
        {"first_index": -1},
        {"example_ids": []},
        {"example_ids": "ab"},
        {"example_ids": [1, 2]},
        {"example_ids": ["a", "a"]},
    ],
)
def test_manifest_with_impossible_values_is_damaged(root: UPath, change: dict) -> None:
    """Another key than the file's name, no examples, or ids that are no list of different names."""
    register(root, "pictures", records(list("ab")), 2)
    (root / "pictures/chunks/0000.json").write_text(json.dumps({**SOUND, **change}))
    with pytest.raises(StoredFileError, match="is damaged"):
        register(root, "pictures", records(list("abc")), 2)
