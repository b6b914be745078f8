"""Headers that are read without pyarrow: as pyarrow gives them, of every file there may be."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from sae_assets.errors import StoredFileError
from sae_assets.storage import footers, parquet
from sae_assets.storage.header import Header
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.storage.small import ADDRESS, SMALL, small


def written(folder: Path, kind: str) -> UPath:
    return ArtifactStore(str(folder)).write(ADDRESS, small(kind)).path


@pytest.fixture
def no_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No header is read by pyarrow."""

    def fail(path: UPath) -> Header:
        raise AssertionError(path)

    monkeypatch.setattr(parquet, "load_header", fail)


@pytest.mark.parametrize("kind", sorted(set(SMALL) - {"report"}))
def test_a_header_is_what_pyarrow_finds(tmp_path: Path, kind: str, no_arrow: None) -> None:
    path = written(tmp_path, kind)
    assert repr(footers.load_header(path)) == repr(parquet.load_footer(path)[0])  # NaN is in some


@pytest.mark.parametrize("length", [0, 1, 100, 2**14, 2**15, 2**21])
def test_headers_are_of_any_length(tmp_path: Path, length: int, no_arrow: None) -> None:
    """Of one, two, three and four bytes that say how long it is, and longer than what one read gets."""
    item = small("labels")
    item = replace(item, counts={"text": "é" * length})
    path = ArtifactStore(str(tmp_path)).write(ADDRESS, item).path
    assert footers.load_header(path).counts == {"text": "é" * length}


def test_a_text_of_the_table_is_not_taken_for_a_header(tmp_path: Path, no_arrow: None) -> None:
    """Statistics hold texts of the data as they are."""
    labels = small("labels").artifact
    name = footers.NAME.decode("latin-1")
    ids = tuple(f"{name}\x02{{}}{number}" for number in range(len(labels)))
    item = replace(small("labels"), artifact=replace(labels, example_ids=ids))
    item = replace(item, content_hash=item.artifact.content_hash())
    path = ArtifactStore(str(tmp_path)).write(ADDRESS, item).path
    assert footers.read_footer(path).count(footers.NAME) > 1
    assert footers.load_header(path).content_hash == item.content_hash


def test_a_file_without_a_seal_is_parsed_by_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else tells whether its footer is whole."""
    whole, path = Header.to_json, tmp_path / "made.parquet"
    monkeypatch.setattr(Header, "to_json", lambda self: whole(self).replace('"seal": "sha256", ', ""))
    header = parquet.load_header(written(tmp_path, "labels"))
    assert not header.sealed
    asked: list[UPath] = []
    monkeypatch.setattr(parquet, "load_header", lambda where: asked.append(where) or header)
    made = next(ArtifactStore(str(tmp_path)).files())
    assert footers.load_header(made) == header and asked == [made]
    pq.write_table(pa.table({"a": [1]}), path)
    monkeypatch.undo()
    with pytest.raises(StoredFileError, match="not written by sae_assets"):
        footers.load_header(UPath(path))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", footers.NAME, footers.NAME + b"\xff" * 9, b"nothing\x00\x00\x00PAR1"]
)
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "made.parquet"
    path.write_bytes(content)
    with pytest.raises(StoredFileError):
        footers.load_header(UPath(path))


def test_a_changed_header_is_refused(tmp_path: Path) -> None:
    """By the seal of the footer, also where it is still a header."""
    path = Path(str(written(tmp_path, "labels")))
    content = path.read_bytes()
    digest = json.loads(parquet.load_footer(UPath(path))[1].metadata[b"sae_assets"])["content_hash"].encode()
    path.write_bytes(content.replace(digest, b"0" * len(digest)))
    with pytest.raises(StoredFileError, match="its seal says"):
        footers.load_header(UPath(path))
