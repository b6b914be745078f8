"""A look at a file without its artifact tells what the artifact would, and only of a file that is as it was written."""

from dataclasses import replace
from pathlib import Path

import pytest

from sae_assets.commands import show as command
from sae_assets.errors import StoredFileError
from sae_assets.storage import parquet
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.storage.small import ADDRESS, SMALL, small

COUNTS = {"units": 4, "density": 0.25, "located": True, "where": "rows", "undefined": float("inf")}


@pytest.mark.parametrize("kind", sorted(set(SMALL) - {"report"}))
def test_a_look_tells_what_the_artifact_does(tmp_path: Path, kind: str) -> None:
    store, item = ArtifactStore(str(tmp_path)), replace(small(kind), counts=COUNTS)
    store.write(ADDRESS, item)
    table, _ = parquet.to_table(store.read(ADDRESS).artifact)
    for n in (0, 1, 10**6):
        seen = store.glance(ADDRESS, n)
        assert seen is not None and seen.header.counts == COUNTS
        assert seen.n_rows == len(table)
        assert seen.head.to_pylist() == table[:n].to_pylist()
    assert store.read(ADDRESS).counts == COUNTS


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 3])
def test_every_flipped_bit_is_refused_by_a_look(tmp_path: Path, rows: int) -> None:
    """Also of rows that are not shown; what to do is said."""
    store = ArtifactStore(str(tmp_path))
    path = Path(str(store.write(ADDRESS, replace(small("labels"), counts=COUNTS)).path))
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(StoredFileError) as caught:
            store.glance(ADDRESS, rows)
        assert "Run: " in str(caught.value) or "Import it again" in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(StoredFileError):
        store.glance(ADDRESS, rows)


def test_a_look_at_another_address_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    path = Path(str(store.write(ADDRESS, replace(small("labels"), counts=COUNTS)).path))
    other = replace(ADDRESS, dataset="others")
    twin = tmp_path / Path(*other.parts()).parent / path.name
    twin.parent.mkdir(parents=True)
    twin.write_bytes(path.read_bytes())
    with pytest.raises(StoredFileError, match="another's place"):
        store.glance(other, 1)


@pytest.mark.parametrize(("kind", "form"), [("unit_mapping", "parquet"), ("unit_mapping", "pt"), ("report", "parquet")])
def test_what_only_the_artifact_can_tell(tmp_path: Path, kind: str, form: str) -> None:
    """Without figures in the header (an earlier version's file), of a ``.pt`` and of a page, the artifact is built."""
    address = Address("small", kind, "patch", "clip-mini")
    store, item = ArtifactStore(str(tmp_path), form), small(kind, address)
    store.write(address, item)
    assert store.glance(address, 2) is None
    seen = command._artifact_in(store, address, 2)
    table, _ = parquet.to_table(item.artifact)
    assert seen.n_rows == len(table) and seen.head.equals(table[:2])
    assert seen.header.counts and seen.header.provenance == item.provenance
