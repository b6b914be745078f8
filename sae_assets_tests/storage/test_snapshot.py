"""A snapshot answers as the store does at the time it is first asked, and lists each folder once."""

import os
from pathlib import Path

from upath import UPath

from sae_assets.storage.address import Address
from sae_assets.storage.snapshot import StoreSnapshot
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.storage.small import small


def address(chunk: str, stage: str = "sparse_activations") -> Address:
    return Address("pictures", stage, "patch", "tiny", chunk)


def test_it_finds_and_reads_what_the_store_does(tmp_path: Path) -> None:
    for file_format, chunk in (("parquet", "0000"), ("pt", "0001")):
        ArtifactStore(str(tmp_path), file_format).write(address(chunk), small("sparse_activations", address(chunk)))
    (tmp_path / "pictures/patch/tiny/sparse_activations/.tmp-0002.parquet").write_bytes(b"half")
    store = ArtifactStore(str(tmp_path))
    seen = StoreSnapshot(store)
    for chunk in ("0000", "0001", "0002"):
        assert seen.find(address(chunk)) == store.find(address(chunk))
    assert seen.find(address("0000", "ground_truth")) is None
    assert seen.header(address("0001")) == store.header(address("0001"))


def test_the_later_of_two_formats_counts(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    store.write(address("0000"), small("sparse_activations"))
    path = store.find(address("0000"))
    assert path is not None
    ArtifactStore(str(tmp_path), "pt").write(address("0000"), small("sparse_activations"))
    path.write_bytes(b"the older one, left by a killed run")
    newer = tmp_path / "pictures/patch/tiny/sparse_activations/0000.pt"
    later = path.stat().st_mtime + 10
    os.utime(newer, (later, later))
    assert StoreSnapshot(store).find(address("0000")) == store.find(address("0000")) == UPath(newer)


def test_each_folder_is_listed_once_and_each_header_read_once(tmp_path: Path, monkeypatch) -> None:
    store = ArtifactStore(str(tmp_path))
    store.write(address("0000"), small("sparse_activations"))
    listed: list[str] = []
    iterdir = type(UPath(tmp_path)).iterdir
    monkeypatch.setattr(type(UPath(tmp_path)), "iterdir", lambda self: listed.append(self.name) or iterdir(self))
    seen = StoreSnapshot(store)
    for _ in range(3):
        seen.find(address("0000"))
        seen.find(address("0001"))
        assert seen.header(address("0000")) is seen.header(address("0000"))
    assert listed == ["sparse_activations"]
    store.write(address("0001"), small("sparse_activations"))
    assert seen.find(address("0001")) is None  # as it was
