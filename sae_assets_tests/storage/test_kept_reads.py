"""What a store keeps of the chunks that it read: only while their files stay as they were, and up to so many bytes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from sae_assets.errors import StoredFileError
from sae_assets.orchestration.resources import StoreResource
from sae_assets.storage.address import Address
from sae_assets.storage.kept_reads import COARSEST
from sae_assets.storage.store import ArtifactStore, Stored
from sae_assets_tests.storage.small import small

ROOM = 2**20


def address(chunk: str) -> Address:
    return Address("pictures", "sparse_activations", "patch", "tiny", chunk)


def age(path: UPath, nanoseconds: int = 2 * COARSEST) -> None:
    """Set the time of change of a file back."""
    stat = Path(path.path).stat()
    os.utime(path.path, ns=(stat.st_atime_ns, stat.st_mtime_ns - nanoseconds))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., ArtifactStore]:
    """A store of some room with chunks 0000 and 0001, both written a while ago."""

    def make(kept_bytes: int) -> ArtifactStore:
        store = ArtifactStore(str(tmp_path), kept_bytes=kept_bytes)
        for chunk in ("0000", "0001"):
            age(store.write(address(chunk), small("sparse_activations", address(chunk))).path)
        return store

    return make


def test_a_chunk_is_read_once_while_its_file_stays(written: Callable[..., ArtifactStore]) -> None:
    store = written(ROOM)
    first = store.read(address("0000"))
    assert store.read(address("0000")) is first
    assert store.read(address("0001")) is not first
    assert first == small("sparse_activations", address("0000"))


def test_without_room_nothing_is_kept(written: Callable[..., ArtifactStore]) -> None:
    store = written(0)
    assert store.read(address("0000")) is not store.read(address("0000"))


def test_what_was_kept_first_stays_where_there_is_no_room_for_more(written: Callable[..., ArtifactStore]) -> None:
    artifact = small("sparse_activations", address("0000")).artifact
    tensors = (artifact.example_offsets, artifact.row_offsets, artifact.unit_ids, artifact.values, artifact.l0)
    store = written(sum(each.nbytes for each in tensors))
    first, second = store.read(address("0000")), store.read(address("0001"))
    assert store.read(address("0000")) is first and store.read(address("0001")) is not second


def test_a_file_that_was_written_anew_is_read_anew_and_takes_the_place_of_the_older(
    written: Callable[..., ArtifactStore],
) -> None:
    artifact = small("sparse_activations", address("0000"))
    store = written(ROOM)
    first = store.read(address("0000"))
    age(store.write(address("0000"), artifact).path)
    second = store.read(address("0000"))
    assert second is not first and store.read(address("0000")) is second


def test_a_file_that_is_damaged_in_its_place_is_refused(written: Callable[..., ArtifactStore]) -> None:
    """Though it is as large as before."""
    store = written(ROOM)
    store.read(address("0000"))
    path = store.written(address("0000")).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(StoredFileError):
        store.read(address("0000"))


def test_a_removed_file_is_missing(written: Callable[..., ArtifactStore]) -> None:
    store = written(ROOM)
    store.read(address("0000"))
    store.written(address("0000")).path.unlink()
    with pytest.raises(StoredFileError, match="has not been materialized"):
        store.read(address("0000"))


def test_a_check_reads_the_file_itself(written: Callable[..., ArtifactStore]) -> None:
    store = written(ROOM)
    first = store.read(address("0000"))
    assert store.read(address("0000"), hashed=True) is not first
    assert store.read_file(store.written(address("0000")).path) is not first


def test_what_changed_just_now_is_not_kept(written: Callable[..., ArtifactStore]) -> None:
    """It could change again within the same tick of the file system's clock."""
    store = written(ROOM)
    path = store.written(address("0000")).path
    os.utime(path.path, ns=(time.time_ns(), time.time_ns()))
    assert store.read(address("0000")) is not store.read(address("0000"))
    age(path)
    assert store.read(address("0000")) is store.read(address("0000"))


def test_artifacts_of_a_model_are_not_kept(tmp_path: Path) -> None:
    of_model = Address("pictures", "thresholds", "patch", "tiny")
    store = ArtifactStore(str(tmp_path), kept_bytes=ROOM)
    age(store.write(of_model, small("thresholds", of_model)).path)
    assert store.read(of_model) is not store.read(of_model)


def test_a_resource_says_how_much_is_kept(written: Callable[..., ArtifactStore]) -> None:
    root = str(written(0).root)

    def same(kept_mb: int) -> bool:
        store = StoreResource(root=root, kept_mb=kept_mb).store
        first: Stored = store.read(address("0000"))
        return store.read(address("0000")) is first

    assert same(1) and not same(0)
