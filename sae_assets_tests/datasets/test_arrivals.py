"""Which newly arrived examples may be registered: settled ones, full chunks first, the tail when it is due."""

import os
from pathlib import Path

import pytest
from upath import UPath

from sae_assets.chunks.arrivals import arrived, changed, table_changed
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import (
    changed_contents,
    changed_regions,
    describe_examples,
    describe_labels,
    examples_hash,
    expect_contents,
    labels_hash,
)
from sae_assets.chunks.manifests import read_manifest, read_manifests, register_chunks, remove_manifest
from sae_assets.datasets import open_dataset
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.clevr_folder import ClevrFolder

RULES = {"settle_seconds": 10, "close_after_seconds": 100}


@pytest.fixture
def growing(tmp_path: Path) -> ClevrFolder:
    folder = ClevrFolder(tmp_path / "pictures")
    for number in range(5):
        folder.add(f"e{number}")
    return folder.write()


def look(
    folder: ClevrFolder, after: float, registered: tuple[str, ...] = (), close_tail: bool = False, **rules: object
):
    """What is ready so many seconds after the newest file changed; ids, unsettled, tail."""
    entry = folder.entry(chunk_size=2, arrivals={**RULES, **rules})
    reader = open_dataset(entry)
    newest = max(table_changed(reader.root), *(changed(reader.root / record.path) for record in reader.records))
    found = arrived(reader, entry, registered, newest + after, close_tail=close_tail)
    return [record.example_id for record in found.ready], found.unsettled, found.tail


def test_files_still_being_written_wait(growing):
    assert look(growing, 1) == ([], 5, 0)


def test_full_chunks_are_ready_and_the_tail_waits(growing):
    assert look(growing, 50) == (["e0", "e1", "e2", "e3"], 0, 1)


def test_tail_is_due_after_its_time(growing):
    assert look(growing, 100) == (["e0", "e1", "e2", "e3", "e4"], 0, 0)


def test_tail_may_be_left_to_a_person(growing):
    assert look(growing, 1e9, close_after_seconds=None)[2] == 1
    assert look(growing, 0, close_tail=True, close_after_seconds=None) == (["e0", "e1", "e2", "e3", "e4"], 0, 0)


def test_registered_examples_are_not_looked_at_again(growing):
    assert look(growing, 50, ("e0", "e1")) == (["e2", "e3"], 0, 1)
    assert look(growing, 50, ("e0", "e1", "e2", "e3", "e4")) == ([], 0, 0)


def test_order_is_kept_behind_an_unsettled_example(growing):
    """An image that is still being written holds back what comes after it, and a tail in front of it does not close."""
    image = growing.root / "images" / "e3.png"
    later = changed(image) + 1000
    os.utime(image, (later, later))
    entry = growing.entry(chunk_size=2, arrivals=RULES)
    found = arrived(open_dataset(entry), entry, (), later + 1, close_tail=False)
    assert ([record.example_id for record in found.ready], found.unsettled, found.tail) == (["e0", "e1"], 2, 1)


def test_row_whose_file_is_not_there_yet_waits_and_says_so(growing):
    """Tables are often written before their images; what comes after such a row waits with it."""
    image = growing.root / "images" / "e3.png"
    content = image.read_bytes()
    image.unlink()
    entry = growing.entry(chunk_size=2, arrivals=RULES)
    reader = open_dataset(entry)
    now = table_changed(growing.root) + 50
    found = arrived(reader, entry, (), now, close_tail=False)
    assert ([record.example_id for record in found.ready], found.unsettled, found.tail) == (["e0", "e1"], 2, 1)
    assert "file 'images/e3.png' does not exist" in found.missing
    late = arrived(reader, entry, (), table_changed(growing.root) + 101, close_tail=False)
    assert ([record.example_id for record in late.ready], late.unsettled, late.tail) == (["e0", "e1", "e2"], 2, 0)
    # A registered one that vanishes keeps no new one waiting.
    assert [record.example_id for record in arrived(reader, entry, ("e3",), now, close_tail=False).ready] == [
        "e0", "e1", "e2", "e4",
    ]  # fmt: skip
    image.write_bytes(content)
    assert not arrived(reader, entry, (), changed(image) + 50, close_tail=False).missing


def test_last_row_of_a_table_just_written_waits(growing):
    """It may be half a row; rows before it are whole."""
    table = growing.root / "metadata.csv"
    later = changed(table) + 1000
    os.utime(table, (later, later))
    entry = growing.entry(chunk_size=1, arrivals=RULES)
    found = arrived(open_dataset(entry), entry, (), later + 1, close_tail=False)
    assert ([record.example_id for record in found.ready], found.unsettled) == (["e0", "e1", "e2", "e3"], 1)


def register(folder: ClevrFolder, root: UPath, **more: object):
    reader = open_dataset(folder.entry())
    return reader, register_chunks(root, "pictures", reader.records, 2, hashes=reader.hashes, **more)


def test_manifest_keeps_the_contents_hashes(growing, tmp_path):
    reader, manifests = register(growing, UPath(tmp_path / "store"))
    assert [manifest.example_ids for manifest in manifests] == [("e0", "e1"), ("e2", "e3"), ("e4",)]
    assert manifests[0].content_hashes == tuple(reader.content_hash(example) for example in ("e0", "e1"))
    assert manifests[0].region_hashes == tuple(reader.region_hashes(example) for example in ("e0", "e1"))
    assert read_manifests(UPath(tmp_path / "store"), "pictures") == manifests


def test_limit_is_the_most_new_chunks(growing, tmp_path):
    root = UPath(tmp_path / "store")
    assert len(register(growing, root, limit=1)[1]) == 1
    assert len(register(growing, root, limit=1)[1]) == 2
    assert [m.first_index for m in register(growing, root)[1]] == [0, 2, 4]


def test_two_that_register_at_once_never_write_one_chunk(growing, tmp_path):
    """While the first hashes, a second one registers everything: the first sees it and plans again."""
    root = UPath(tmp_path / "store")
    reader = open_dataset(growing.entry())
    calls = []

    def hash_and_be_overtaken(example: str) -> str:
        calls.append(example)
        if len(calls) == 1:
            register(growing, root)
        return reader.hashes(example)

    manifests = register_chunks(root, "pictures", reader.records, 3, hashes=hash_and_be_overtaken)
    held = [example for manifest in manifests for example in manifest.example_ids]
    assert held == ["e0", "e1", "e2", "e3", "e4"] and manifests == read_manifests(root, "pictures")


def test_changed_and_vanished_examples_are_named(growing, tmp_path):
    reader, manifests = register(growing, UPath(tmp_path / "store"))
    assert changed_contents(manifests[0], reader) == changed_regions(manifests[0], reader) == {}
    before = describe_examples(manifests[0], reader)
    (growing.root / "images" / "e0.png").write_bytes(b"other")
    (growing.root / "masks" / "e1.png").write_bytes(b"other")
    (growing.root / "images" / "e2.png").unlink()
    assert changed_contents(manifests[0], reader) == {"e0": "changed"}
    assert changed_regions(manifests[0], reader) == {"e1": "changed where it shows color::red"}
    assert changed_contents(manifests[1], reader) == {"e2": "vanished"}
    # What was registered stays what it was.
    assert describe_examples(manifests[0], reader) == before


def test_files_are_not_read_for_another_contents(growing, tmp_path):
    """What the stages call before they open anything: which examples, which files, what to do."""
    reader, manifests = register(growing, UPath(tmp_path / "store"))
    chunks = [describe_examples(manifest, reader) for manifest in manifests]
    labels = [describe_labels(manifest, reader) for manifest in manifests]
    expect_contents(chunks[0], "0000", reader, labels[0])
    (growing.root / "images" / "e0.png").write_bytes(b"other")
    (growing.root / "masks" / "e1.png").write_bytes(b"other")
    with pytest.raises(DatasetError, match=r"(?s)1 of 2 examples .*remove pictures --chunks 0000 --yes") as caught:
        expect_contents(chunks[0], "0000", reader)
    assert caught.value.problems == ("e0 (images/e0.png) changed",)
    with pytest.raises(DatasetError) as caught:
        expect_contents(chunks[0], "0000", reader, labels[0])
    assert caught.value.problems == (
        "e0 (images/e0.png) changed", "e1 (images/e1.png) changed where it shows color::red",
    )  # fmt: skip
    expect_contents(chunks[1], "0001", reader, labels[1])


def test_a_mask_that_goes_is_a_change(growing, tmp_path):
    """Truth would silently be taken from the colours instead."""
    reader, manifests = register(growing, UPath(tmp_path / "store"))
    (growing.root / "masks" / "e0.png").unlink()
    assert changed_regions(manifests[0], reader) == {"e0": "changed where it shows color::red"}


def test_concepts_may_be_added_and_labels_corrected(growing, tmp_path):
    """Neither is another content: masks are compared of what was true then and is true now."""
    _, manifests = register(growing, UPath(tmp_path / "store"))
    growing.write([{**row, "color::red": 1 - row["color::red"], "color::blue": 1} for row in growing.rows])
    reader = open_dataset(growing.entry())
    assert [changed_regions(manifest, reader) for manifest in manifests] == [{}, {}, {}]
    fewer = open_dataset(growing.entry(concepts=["color::blue"]))
    assert [changed_regions(manifest, fewer) for manifest in manifests] == [{}, {}, {}]
    # From the next `labels` on, the masks of what became true are fixed as well.
    chunk, labels = describe_examples(manifests[0], reader), describe_labels(manifests[0], reader)
    expect_contents(chunk, "0000", reader, labels)
    (growing.root / "masks" / "e0.png").write_bytes(b"other")
    with pytest.raises(DatasetError, match=r"e0 .* changed where it shows color::blue"):
        expect_contents(chunk, "0000", reader, labels)


def test_only_labels_follow_a_correction(growing, tmp_path):
    """What is encoded depends on `examples`: neither labels, splits, concepts nor masks change anything in it."""
    _, manifests = register(growing, UPath(tmp_path / "store"))
    reader = open_dataset(growing.entry())
    split = next(row["split"] for row in growing.rows)
    growing.write(
        [{**row, "color::red": 1 - row["color::red"], "split": "cal" if split != "cal" else "test"}
         for row in growing.rows]
    )  # fmt: skip
    other = open_dataset(growing.entry(concepts=["color::blue", "color::red"]))
    made = [(examples_hash(manifests[0], each), describe_examples(manifests[0], each)) for each in (reader, other)]
    assert made[0] == made[1]
    assert labels_hash(manifests[0], reader) != labels_hash(manifests[0], other)
    assert describe_labels(manifests[0], reader) != describe_labels(manifests[0], other)


def test_manifest_of_an_earlier_version_follows_the_files(growing, tmp_path):
    """Nothing was registered to compare with: what `labels` saw counts, and another mask makes other labels."""
    reader = open_dataset(growing.entry())
    manifest = Manifest("0000", 0, ("e0", "e1"))
    chunk, before = describe_examples(manifest, reader), describe_labels(manifest, reader)
    (growing.root / "masks" / "e0.png").write_bytes(b"other")
    assert describe_labels(manifest, reader) != before and describe_examples(manifest, reader) == chunk
    assert changed_contents(manifest, reader) == changed_regions(manifest, reader) == {}
    with pytest.raises(DatasetError, match="changed where it shows"):
        expect_contents(chunk, "0000", reader, before)


def test_example_that_the_table_no_longer_names(growing, tmp_path):
    _, manifests = register(growing, UPath(tmp_path / "store"))
    growing.write(growing.rows[1:])
    reader = open_dataset(growing.entry())
    gone = {"e0": "vanished from the table, or its row is wrong"}
    assert changed_contents(manifests[0], reader) == changed_regions(manifests[0], reader) == gone
    with pytest.raises(DatasetError, match=r"(?s)no longer names.*remove pictures --chunks 0000.*e0"):
        describe_examples(manifests[0], reader)


def test_removed_chunk_registers_its_examples_anew(growing, tmp_path):
    root = UPath(tmp_path / "store")
    register(growing, root)
    remove_manifest(root, "pictures", "0001")
    manifests = register(growing, root)[1]
    assert [(manifest.key, manifest.example_ids) for manifest in manifests] == [
        ("0000", ("e0", "e1")), ("0002", ("e4",)), ("0003", ("e2", "e3")),
    ]  # fmt: skip
    assert read_manifest(root, "pictures", "0003").first_index == 5  # no position is given twice
    # Nor a number, where the last chunk goes: Dagster's history holds what was made under it.
    remove_manifest(root, "pictures", "0003")
    assert [manifest.key for manifest in register(growing, root)[1]] == ["0000", "0002", "0004"]
    assert read_manifest(root, "pictures", "0004").first_index == 7
