"""Nothing that a file holds can change unnoticed, whoever reads it and however little of it."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from sae_assets.errors import StoredFileError
from sae_assets.reading.files import columns_of
from sae_assets.storage import footers, html, parquet, pt, seal
from sae_assets.storage.address import Address
from sae_assets.storage.header import KEY
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.storage.small import ADDRESS, SMALL, small

FORMS = [
    ("sparse_activations", "parquet"),
    ("unit_stats", "parquet"),
    ("sparse_activations", "pt"),
    ("filtered_activations", "pt"),
    ("unit_mapping", "pt"),
    ("report", "html"),
]


def written(folder: Path, kind: str, form: str) -> tuple[ArtifactStore, Path]:
    store = ArtifactStore(str(folder), "pt" if form == "pt" else "parquet")
    return store, Path(str(store.write(ADDRESS, small(kind)).path))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_every_flipped_bit_is_refused(tmp_path: Path, kind: str, form: str) -> None:
    """One bit of every eleventh byte, front to end: derived columns, padding, statistics and zip entries among them."""
    store, path = written(tmp_path, kind, form)
    content = path.read_bytes()
    for place in range(0, len(content), 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(StoredFileError):
            store.read(ADDRESS)


@pytest.mark.slow
def test_every_flipped_bit_of_a_footer_is_refused_by_who_reads_a_header_alone(tmp_path: Path) -> None:
    store, path = written(tmp_path, "labels", "parquet")
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    digest = content.rindex(seal.FILE) + len(seal.FILE)  # of the file: its own seal, which a header says nothing of
    for place in {*range(footer, len(content), 5)} - {*range(digest, digest + 64)}:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with pytest.raises(StoredFileError):
            store.header(ADDRESS)


def test_pages_are_checked_where_a_part_of_a_file_is_read(tmp_path: Path) -> None:
    """A few row groups are read without the rest: whatever changes in front of the footer is refused or not read."""
    import numpy as np

    store, path = written(tmp_path, "sparse_activations", "parquet")
    content = path.read_bytes()
    rows = columns_of(store, ADDRESS, np.array([7, 9]))[1]
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    refused = 0
    for place in range(4, footer, 2):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            assert columns_of(store, ADDRESS, np.array([7, 9]))[1].equals(rows)
        except StoredFileError:
            refused += 1
    assert refused > 0.5 * (footer - 4) / 2


def test_others_read_sealed_files_as_before(tmp_path: Path) -> None:
    _, path = written(tmp_path, "sparse_activations", "pt")
    assert set(torch.load(path, weights_only=True)) == {"indices", "values", "format", "topk", KEY}
    assert torch.load(path, weights_only=True, mmap=True)["topk"] == 2
    _, path = written(tmp_path / "other", "sparse_activations", "parquet")
    assert pq.read_table(path).column_names[0] == "example_index"


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_a_file_is_checked_in_a_few_lines_by_anybody(tmp_path: Path, kind: str, form: str) -> None:
    """As ``docs/storage-format.md`` says."""
    _, path = written(tmp_path, kind, form)
    content = path.read_bytes()
    place = content.rindex(b"sae_assets_seal:") + len(b"sae_assets_seal:")
    zeroed = content[:place] + b"0" * 64 + content[place + 64 :]
    assert hashlib.sha256(zeroed).hexdigest().encode() == content[place : place + 64]


def test_data_that_look_like_a_seal_do_no_harm() -> None:
    mark = seal.blank(seal.FILE)
    page = bytearray(f"<p>{mark}</p> {mark} -->".encode())
    seal.seal(memoryview(page))
    seal.check(bytes(page), "page", sealed=True)
    assert page.startswith(f"<p>{mark}</p>".encode())


def test_file_larger_than_memory_is_sealed_where_it_lies(tmp_path: Path) -> None:
    """As the same bytes in memory are."""
    item, address = small("unit_rows"), Address("pictures", "unit_rows", "patch", "tiny")
    store = ArtifactStore(str(tmp_path))
    path = Path(str(store.write(address, item).path))
    seal.check(seal.mapped(str(path)), "file", sealed=True)
    whole = bytearray(path.read_bytes())
    whole[20] ^= 1
    with pytest.raises(StoredFileError, match="its bytes hash to"):
        seal.check(bytes(whole), "file", sealed=True)


def older(kind: str, form: str) -> bytes:
    """A file as earlier versions wrote it: no seal, and a header that tells of none."""
    module = {"parquet": parquet, "pt": pt, "html": html}[form]
    item = small(kind)
    from sae_assets.storage.header import Header

    class Older(Header):
        def to_json(self) -> str:
            content = json.loads(super().to_json())
            return json.dumps({name: value for name, value in content.items() if name != "seal"})

    whole = module.dump(item.artifact, lambda scalars: Older(kind, item.content_hash, scalars, item.provenance))
    assert seal.FILE in whole
    if form == "parquet":
        table = pq.read_table(io.BytesIO(whole))
        metadata = {KEY.encode(): table.schema.metadata[KEY.encode()]}
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), buffer)
        return buffer.getvalue()
    if form == "pt":
        return whole[: whole.rindex(seal.FILE) - 2] + bytes(2)
    return whole[: whole.rindex(b"<!-- " + seal.FILE)]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_files_of_earlier_versions_are_read_as_they_are(tmp_path: Path, kind: str, form: str) -> None:
    store, path = written(tmp_path, kind, form)
    path.write_bytes(older(kind, form))
    back = store.read(ADDRESS)
    assert back == small(kind) and not back.sealed and back.artifact == SMALL[kind]
    assert store.header(ADDRESS).content_hash == back.content_hash
    # Written again it is sealed, with the same content.
    store.write(ADDRESS, back)
    assert store.read(ADDRESS).sealed and store.read(ADDRESS) == back


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_seal_that_was_taken_off_is_missed(tmp_path: Path, kind: str, form: str) -> None:
    store, path = written(tmp_path, kind, form)
    content = path.read_bytes()
    path.write_bytes(content.replace(seal.FILE, b"another text   :").replace(seal.FOOTER, b"one more               "))
    with pytest.raises(StoredFileError):
        store.read(ADDRESS)


@pytest.mark.parametrize(
    "other",
    [
        Address("pictures", "sparse_activations", "patch", "tiny", "0001"),
        Address("pictures", "sparse_activations", "patch", "small", "0000"),
        Address("pictures", "sparse_activations", "cls", "tiny", "0000"),
        Address("photos", "sparse_activations", "patch", "tiny", "0000"),
        Address("pictures", "filtered_activations", "patch", "tiny", "0000"),
        Address("pictures", "examples", chunk="0000"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["parquet", "pt"])
def test_file_in_anothers_place_is_refused(tmp_path: Path, other: Address, form: str) -> None:
    store, path = written(tmp_path, "sparse_activations", form)
    place = tmp_path.joinpath(*other.parts()).with_suffix(f".{form}")
    place.parent.mkdir(parents=True, exist_ok=True)
    path.rename(place)
    for read in (store.read, store.header):
        with pytest.raises(StoredFileError, match="put in another's place") as caught:
            read(other)
        assert str(place) in str(caught.value) and str(ADDRESS) in str(caught.value)
    with pytest.raises(StoredFileError, match="put in another's place"):
        store.read_file(store.find(other))


def test_whether_a_file_is_of_a_content_is_told_without_parsing_it(tmp_path: Path, monkeypatch) -> None:
    """Of sealed Parquet; a changed footer is refused, and whatever else there is is told by the header."""
    store, path = written(tmp_path, "sparse_activations", "parquet")
    expected, content = store.header(ADDRESS).content_hash, path.read_bytes()
    parsed: list[object] = []
    load_header = footers.load_header
    monkeypatch.setattr(footers, "load_header", lambda file: parsed.append(file) or load_header(file))
    assert store.holds(ADDRESS, expected) and not parsed
    assert not store.holds(ADDRESS, None) and not store.holds(ADDRESS, "0" * 64) and len(parsed) == 2
    footer = content.rindex(b'"content_hash"')
    for place in range(footer, footer + 400, 9):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(StoredFileError):
            store.holds(ADDRESS, expected)
    path.unlink()
    assert store.holds(ADDRESS, None) and not store.holds(ADDRESS, expected)


def test_a_file_in_the_place_of_another_is_of_no_content(tmp_path: Path) -> None:
    store, path = written(tmp_path, "sparse_activations", "parquet")
    expected, other = store.header(ADDRESS).content_hash, replace(ADDRESS, model="other")
    moved = Path(str(path).replace(str(ADDRESS.model), "other"))
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(StoredFileError, match="put in another's place"):
        store.holds(other, expected)


def test_whether_a_pt_file_is_of_a_content(tmp_path: Path) -> None:
    store, _ = written(tmp_path, "sparse_activations", "pt")
    assert store.holds(ADDRESS, store.header(ADDRESS).content_hash) and not store.holds(ADDRESS, "0" * 64)
