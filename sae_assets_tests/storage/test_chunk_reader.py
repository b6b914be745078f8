"""Many chunks as a mapping: read one at a time when asked for, gaps known beforehand."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from upath import UPath

from sae_assets.errors import MissingChunksError, StoredFileError
from sae_assets.orchestration.io_manager import ArtifactIOManager
from sae_assets.orchestration.resources import StoreResource
from sae_assets.storage.address import Address
from sae_assets.storage.chunk_reader import ChunkReader
from sae_assets.storage.header import Header
from sae_assets.storage.store import ArtifactStore, Stored
from sae_assets_tests.storage.small import small


def address(chunk: str) -> Address:
    return Address("pictures", "sparse_activations", "patch", "tiny", chunk)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store with chunks 0000, 0001 and 0003."""
    store = ArtifactStore(str(tmp_path))
    for chunk in ("0000", "0001", "0003"):
        store.write(address(chunk), small("sparse_activations", address(chunk)))
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose whole content was read."""
    names: list[str] = []
    read_bytes = UPath.read_bytes

    def noted(self: UPath) -> bytes:
        names.append(self.name)
        return read_bytes(self)

    for kind in {UPath, type(UPath("/"))}:
        monkeypatch.setattr(kind, "read_bytes", noted)
    return names


def reader(store: ArtifactStore, *chunks: str) -> ChunkReader:
    return ChunkReader(store, {chunk: address(chunk) for chunk in chunks})


def test_reads_happen_when_asked_for(store: ArtifactStore, reads: list[str]) -> None:
    """Keys, length, gaps and completeness need no read; each access is one read of one file, and nothing is kept."""
    chunks = reader(store, "0001", "0000", "0003")
    assert list(chunks) == list(chunks.keys()) == ["0000", "0001", "0003"]
    assert len(chunks) == 3
    assert chunks.complete() is chunks
    assert list(chunks.only(["0003"])) == ["0003"]
    assert reads == []
    assert chunks["0001"] == small("sparse_activations", address("0001"))
    assert reads == ["0001.parquet"]
    walk = iter(chunks.items())
    next(walk)
    assert reads == ["0001.parquet", "0000.parquet"]
    next(walk)
    assert reads[2:] == ["0001.parquet"]


def test_asking_whether_a_chunk_is_there_reads_nothing(store: ArtifactStore, reads: list[str]) -> None:
    """``in`` looks at keys."""
    chunks = reader(store, "0000", "0002")
    assert "0000" in chunks
    assert "0002" not in chunks
    assert reads == []


def test_header_reads_no_data(store: ArtifactStore, reads: list[str]) -> None:
    """A Parquet file's header comes from its footer."""
    assert reader(store, "0000").header("0000").content_hash == small("sparse_activations").content_hash
    assert reads == []


def test_what_is_read_is_taken_by_its_seal_and_no_byte_of_it_can_change(store: ArtifactStore) -> None:
    """Its checks computed the content hash from the same bytes."""
    path = Path(str(store.find(address("0000"))))
    content = path.read_bytes()
    for place in range(4, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(StoredFileError):
            reader(store, "0000")["0000"]
    other = replace(small("sparse_activations", address("0000")), content_hash="0" * 64)
    store.write(address("0000"), other)
    assert reader(store, "0000")["0000"].artifact == store.read(address("0000")).artifact == other.artifact
    with pytest.raises(StoredFileError, match="content hash"):
        store.read(address("0000"), hashed=True)
    with pytest.raises(StoredFileError, match="content hash"):
        store.read_file(UPath(path))


def test_what_a_run_takes_as_input_is_taken_by_its_seal(store: ArtifactStore) -> None:
    """As aggregates take chunks: its own checks computed the content hash."""
    other = replace(small("sparse_activations", address("0000")), content_hash="0" * 64)
    store.write(address("0000"), other)
    manager = ArtifactIOManager(artifact_store=StoreResource(root=str(store.root)))
    partitions = dg.MultiPartitionsDefinition(
        {"chunk": dg.StaticPartitionsDefinition(["0000"]), "model": dg.StaticPartitionsDefinition(["tiny"])}
    )
    key = dg.MultiPartitionKey({"chunk": "0000", "model": "tiny"})
    context = dg.build_input_context(
        asset_key=dg.AssetKey(["pictures", "patch", "sparse_activations"]),
        asset_partitions_def=partitions,
        asset_partition_key_range=dg.PartitionKeyRange(key, key),
        partition_key=key,
    )
    loaded = manager.load_input(context)
    assert isinstance(loaded, Stored)
    assert loaded.artifact == other.artifact


def test_a_chunk_without_a_seal_is_hashed(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Header.to_json
    monkeypatch.setattr("sae_assets.storage.seal.FILE", b"sae_assets_none:")
    monkeypatch.setattr("sae_assets.storage.seal.FOOTER", b"sae_assets_null:")
    monkeypatch.setattr(Header, "to_json", lambda self: whole(self).replace('"seal": "sha256", ', ""))
    store.write(address("0000"), replace(small("sparse_activations", address("0000")), content_hash="0" * 64))
    monkeypatch.undo()
    with pytest.raises(StoredFileError, match="content hash"):
        reader(store, "0000")["0000"]


def test_missing_chunks_are_listed_and_left_out(store: ArtifactStore) -> None:
    """Registered but not materialized: in ``missing``, in order, and not in the mapping."""
    chunks = reader(store, "0004", "0002", "0000")
    assert list(chunks.missing) == ["0002", "0004"]
    assert list(chunks) == ["0000"]
    with pytest.raises(KeyError):
        chunks["0002"]


def test_complete_names_what_is_missing(store: ArtifactStore) -> None:
    """How many of how many, of which stage, which ones, and both remedies."""
    with pytest.raises(MissingChunksError) as caught:
        reader(store, "0000", "0001", "0002", "0004").complete()
    assert str(caught.value) == (
        "2 of 4 registered chunks of sparse_activations are not materialized: 0002, 0004. Materialize them first "
        "(sae-assets materialize -d pictures -m tiny --token-kind patch --to sparse_activations), or set "
        "`allow_missing_chunks: true`."
    )


def test_complete_shortens_long_lists(store: ArtifactStore) -> None:
    """Ten keys are shown, more are hinted at."""
    with pytest.raises(MissingChunksError, match=r"15 of 15 .*: 0100, .*, 0109 …\. Mat"):
        reader(store, *(f"{number:04d}" for number in range(100, 115))).complete()


def test_gaps_may_be_allowed(store: ArtifactStore) -> None:
    """With gaps allowed, one chunk is enough."""
    chunks = reader(store, "0000", "0002")
    assert chunks.complete(allow_missing=True) is chunks


def test_gaps_allowed_but_nothing_there(store: ArtifactStore) -> None:
    """Without any chunk there is nothing to aggregate; allowing gaps is not advised to someone who did."""
    with pytest.raises(MissingChunksError, match="2 of 2 registered chunks") as caught:
        reader(store, "0002", "0004").complete(allow_missing=True)
    assert "allow_missing_chunks" not in str(caught.value)


def test_no_chunk_registered(store: ArtifactStore) -> None:
    """No chunk at all: said so, in a whole sentence, with what to do."""
    with pytest.raises(MissingChunksError, match=r"No chunk .*is registered") as caught:
        reader(store).complete()
    assert "Register and materialize chunks first" in str(caught.value)
    assert "  " not in str(caught.value)


def test_only_these_chunks(store: ArtifactStore) -> None:
    """A choice is a reader of its own; the others' gaps do not matter to it."""
    chunks = reader(store, "0000", "0001", "0002").only(["0001"])
    assert list(chunks) == ["0001"]
    assert chunks["0001"] == small("sparse_activations", address("0001"))


def test_only_names_chunks_that_are_not_there(store: ArtifactStore) -> None:
    """A chosen chunk that is registered but not materialized is named."""
    with pytest.raises(MissingChunksError, match=r"1 of 2 .* not materialized: 0002"):
        reader(store, "0000", "0002").only(["0000", "0002"])


def test_only_names_chunks_that_are_not_registered(store: ArtifactStore) -> None:
    """A chosen chunk that nobody registered is named too, not raised as a bare key."""
    with pytest.raises(MissingChunksError, match="0009"):
        reader(store, "0000").only(["0009"])


def test_errors_are_lookup_errors(store: ArtifactStore) -> None:
    """``except LookupError`` works."""
    with pytest.raises(LookupError):
        reader(store, "0002").complete()
