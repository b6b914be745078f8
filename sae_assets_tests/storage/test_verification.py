"""A reader verifies: damaged, foreign and newer files are refused, and never taken for data."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sae_assets.errors import StoredFileError
from sae_assets.storage import columns, html
from sae_assets.storage.header import KEY, SCHEMA_VERSION, read_header
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, Stored
from sae_assets_tests.storage.small import ADDRESS, SMALL, provenance, small

pytestmark = pytest.mark.slow

FORMS = [(kind, "parquet") for kind in SMALL] + [
    (kind, "pt") for kind in ("sparse_activations", "filtered_activations", "unit_mapping")
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], tuple[ArtifactStore, Path]]:
    """Write the small artifact of a kind; the store and the file."""

    def chosen(kind: str, file_format: str) -> tuple[ArtifactStore, Path]:
        store = ArtifactStore(str(tmp_path / "store"), file_format)
        return store, Path(str(store.write(ADDRESS, small(kind)).path))

    return chosen


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged numbers must be refused before memory is sized by them; here that would be an assertion error."""
    bincount = torch.bincount

    def guarded(index: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        assert not len(index) or int(index.max()) < 10**6, "a damaged number sizes an allocation"
        return bincount(index, *arguments, **named)

    monkeypatch.setattr(columns.torch, "bincount", guarded)


def damaged_at(content: bytes, place: int, mask: int) -> bytes:
    return content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def outcome(store: ArtifactStore, original: Stored) -> str:
    """Refused, the same content, or what went wrong."""
    try:
        back = store.read(ADDRESS)
    except StoredFileError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:60]}"
    return "same" if back.artifact == original.artifact else "other content"


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(("kind", "file_format"), FORMS)
def test_flipped_bytes_are_refused_or_harmless(write: Callable, kind: str, file_format: str) -> None:
    """A flipped byte anywhere, front to end: a stored-file error, or the very same content; nothing else."""
    store, path = write(kind, file_format)
    content, original = path.read_bytes(), store.read(ADDRESS)
    outcomes: dict[str, int] = {}
    for number, place in enumerate([*range(8), *range(8, len(content), len(content) // 90)]):
        path.write_bytes(damaged_at(content, place, (0x01, 0xFF, 0x40)[number % 3]))
        outcomes.setdefault(outcome(store, original), place)
    assert set(outcomes) <= {"refused", "same"}, f"first place of each: {outcomes}"
    assert "refused" in outcomes


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(("kind", "file_format"), FORMS)
def test_truncated_files_are_refused(write: Callable, kind: str, file_format: str) -> None:
    """A file cut off anywhere is refused, with its path and what to do."""
    store, path = write(kind, file_format)
    content = path.read_bytes()
    for length in [0, 1, 4, 8, *range(9, len(content), len(content) // 20), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(StoredFileError, match=r"again|Run: sae-assets materialize") as caught:
            store.read(ADDRESS)
        assert str(path) in str(caught.value)


def rewritten(path: Path, change: Callable[[dict[str, pa.Array], dict[str, Any]], None]) -> None:
    """Change columns or header of a Parquet file, and write it back as sound Parquet."""
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[KEY.encode()])
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    change(columns, header)
    pq.write_table(pa.table(columns).replace_schema_metadata({KEY: json.dumps(header)}), path)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("kind", "column", "values"),
    [
        ("sparse_activations", "values", pa.array([[3.0, 0.75], [], [2.0]], pa.list_(pa.float32()))),
        ("sparse_activations", "values", pa.array([[3.0, float("nan")], [], [2.0]], pa.list_(pa.float32()))),
        ("sparse_activations", "values", pa.array([[3.0, None], [], [2.0]], pa.list_(pa.float32()))),
        ("sparse_activations", "values", pa.array([3.0, 0.5, 2.0])),
        ("sparse_activations", "values", pa.array([{"a": 1}] * 3)),
        ("sparse_activations", "unit_ids", pa.array([[4, 4], [], [0]], pa.list_(pa.int32()))),
        ("sparse_activations", "unit_ids", pa.array([[4, 6], [], [0]], pa.list_(pa.int32()))),
        ("sparse_activations", "unit_ids", pa.array([[4, -1], [], [0]], pa.list_(pa.int32()))),
        ("sparse_activations", "unit_ids", pa.array([[4, None], [], [0]], pa.list_(pa.int32()))),
        ("sparse_activations", "example_index", pa.array([7, 7, 2**31 - 1], pa.int32())),
        ("sparse_activations", "example_index", pa.array([7, 7, 0], pa.int32())),
        ("sparse_activations", "example_index", pa.array([7, 9, 9], pa.int32())),
        ("sparse_activations", "example_index", pa.array([7, None, 9], pa.int32())),
        ("sparse_activations", "l0", pa.array([3, 1, 1], pa.int32())),
        ("sparse_activations", "l0", pa.array([3, None, 1], pa.int32())),
        ("ground_truth", "concepts", pa.array([["color::red"], ["color::red"], []])),
        ("ground_truth", "concepts", pa.array([["color::red", "unknown"], [], ["shape, round"]])),
        ("ground_truth", "concepts", pa.array([["color::red", None], [], ["shape, round"]])),
        ("labels", "split", pa.array(["train", "cal", "cal"])),
        ("labels", "split", pa.array(["train", "cal", "val"])),
        ("labels", "split", pa.array(["train", "cal", None])),
        ("labels", "region_hashes", pa.array(["{}", None, "{}"])),
        ("labels", "label:color::red", pa.array([True, True, True])),
        ("examples", "example_id", pa.array(["a", "b", "b"])),
        ("examples", "path", pa.array(["images/a.png", "images/b.png", "images/c.png"])),
        ("examples", "file_hash", pa.array(["0" * 64, "1" * 64, None])),
        ("unit_stats", "n_active", pa.array([3, 0, 11])),
        ("unit_stats", "n_active", pa.array([3, None, 10])),
        ("unit_stats", "sum", pa.array([6.0, 0.0, 20.5])),
        ("unit_stats", "p99", pa.array([2.98, 1.0, 4.5])),
        ("unit_mapping", "reason", pa.array(["kept", "dead", "rare", "dead", "over_target"])),
        ("unit_mapping", "reason", pa.array(["kept", "dead", "rare", "lost", "over_target"])),
        ("unit_mapping", "reason", pa.array(["kept", "dead", "rare", None, "over_target"])),
        ("thresholds", "threshold", pa.array([2.0, 1.0, None, None, 3.0, 3.0, 0.5, 0.25, 2.5, 1.5, 8.0, 4.5])),
        ("thresholds", "threshold", pa.array(["high"] * 12)),
        ("detection_stats", "cal_tp", pa.array([1, 5, 0, 0, 0, 2, 1, 1], pa.int32())),
        ("detection_stats", "valid", pa.array([True] * 8)),
        ("best_pairs", "unit_id", pa.array([3, 4], pa.int32())),
        ("best_pairs", "cal_tp", pa.array([4, None])),
    ],
)
def test_sound_parquet_with_other_values_is_refused(write: Callable, kind: str, column: str, values: pa.Array) -> None:
    """A column that someone changed is refused, whatever the new values are; warnings and crashes are no refusal."""
    store, path = write(kind, "parquet")
    rewritten(path, lambda columns, header: columns.update({column: values}))
    with pytest.raises(StoredFileError) as caught:
        store.read(ADDRESS)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("values", pa.array([[3.0, 0.5], None, [2.0]], pa.list_(pa.float32()))),
        ("values", pa.array([[3.0], [0.5], [2.0]], pa.list_(pa.float32()))),
        ("values", pa.array([[3.0, 0.5], [], [2.0]], pa.list_(pa.float64()))),
        ("example_index", pa.array([9, 7, 7], pa.int32())),
        ("position", pa.array([1, 0, 0], pa.int32())),
        ("l0", pa.array(["3", "0", "1"])),
    ],
)
def test_other_forms_of_the_same_values_do_no_harm(write: Callable, column: str, values: pa.Array) -> None:
    """A column in another form, from which the same artifact follows, is refused or read as that artifact."""
    store, path = write("sparse_activations", "parquet")
    original = store.read(ADDRESS)
    rewritten(path, lambda columns, header: columns.update({column: values}))
    assert outcome(store, original) in ("refused", "same")


@pytest.mark.parametrize("kind", [kind for kind in SMALL if kind not in html.KINDS])
def test_each_missing_column_that_matters_is_refused(write: Callable, kind: str) -> None:
    """Without any one column the file is refused, or reads as before because the column is derived from others."""
    store, path = write(kind, "parquet")
    content, original = path.read_bytes(), store.read(ADDRESS)
    outcomes = {}
    for name in pq.read_schema(path).names:
        path.write_bytes(content)
        rewritten(path, lambda columns, header, name=name: columns.pop(name))
        outcomes[name] = outcome(store, original)
    assert set(outcomes.values()) <= {"refused", "same"}, outcomes
    assert "refused" in outcomes.values()


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": "0" * 64},
        {"kind": "unit_stats"},
        {"kind": "ground_truth"},
        {"kind": "something"},
        {"kind": None},
        {"kind": ["sparse_activations"]},
        {"scalars": {}},
        {"scalars": []},
        {"scalars": None},
    ],
)
def test_header_that_does_not_fit_the_columns(write: Callable, change: dict) -> None:
    """A header of another kind, hash or scalars over sound columns is refused, in both formats."""
    for file_format in ("parquet", "pt"):
        store, path = write("sparse_activations", file_format)
        with_header(path, lambda header: {**header, **change})
        with pytest.raises(StoredFileError):
            store.read(ADDRESS)


def with_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Replace a file's header and nothing else."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        text = json.dumps(change(json.loads(table.schema.metadata[KEY.encode()])))
        pq.write_table(table.replace_schema_metadata({KEY: text}), path)
    else:
        content = torch.load(path, weights_only=True)
        content[KEY]["header"] = json.dumps(change(json.loads(content[KEY]["header"])))
        torch.save(content, path)


@pytest.mark.parametrize("file_format", ["parquet", "pt"])
@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None])
def test_other_schema_version(write: Callable, file_format: str, version: Any) -> None:
    """A file of another schema version says which one it has, which one is read, and what to do."""
    store, path = write("sparse_activations", file_format)
    with_header(path, lambda header: {**header, "schema_version": version})
    for read in (store.read, store.header):
        with pytest.raises(StoredFileError, match=f"has schema version {version}") as caught:
            read(ADDRESS)
        assert f"reads {SCHEMA_VERSION}. Materialize it again" in str(caught.value)
        assert str(path) in str(caught.value)


def test_newer_version_is_named_before_its_contents_are_looked_at() -> None:
    """A newer header may have any keys: its version is what is said."""
    with pytest.raises(StoredFileError, match="has schema version 2"):
        read_header(json.dumps({"schema_version": 2, "new": "keys"}), "file")


def plain_parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), buffer)
    return buffer.getvalue()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Custom:
    """A class that no checkpoint needs."""


FOREIGN = {
    "nothing": b"",
    "text": b"hello world\n",
    "zeros": bytes(100),
    "magic-only": b"PAR1PAR1",
    "zip": b"PK\x03\x04",
    "parquet": plain_parquet(),
    "tensor": saved(torch.zeros(3)),
    "dictionary": saved({"indices": torch.zeros(1)}),
    "list": saved([1]),
    "none": saved(None),
    "key-text": saved({KEY: "header"}),
    "key-none": saved({KEY: None}),
    "key-empty": saved({KEY: {}}),
    "key-tensor": saved({KEY: torch.zeros(2)}),
    "header-number": saved({KEY: {"header": 3}}),
    "header-dictionary": saved({KEY: {"header": {}}}),
    "class": saved({KEY: Custom()}),
}


@pytest.mark.parametrize("file_format", ["parquet", "pt"])
@pytest.mark.parametrize("name", list(FOREIGN))
def test_files_of_something_else(write: Callable, file_format: str, name: str) -> None:
    """Whatever lies at an address and is not ours is refused by its path, by every way of reading it."""
    store, path = write("sparse_activations", file_format)
    path.write_bytes(FOREIGN[name])
    for read in (store.read, store.header):
        with pytest.raises(StoredFileError) as caught:
            read(ADDRESS)
        assert str(path) in str(caught.value)


def header_text(**changes: Any) -> str:
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": "examples",
        "content_hash": "0" * 64,
        "scalars": {},
        "provenance": provenance().to_json(),
    }
    return json.dumps({**content, **changes})


def test_a_sound_header_is_read() -> None:
    """What the damaged ones below are made from is sound."""
    header = read_header(header_text(scalars={"a": {"float": "inf"}, "b": [{"float": "nan"}]}), "file")
    assert header.provenance == provenance()
    assert header.scalars["a"] == float("inf") and header.scalars["b"][0] != header.scalars["b"][0]


def test_no_header_at_all() -> None:
    """A file without header was written by someone else."""
    with pytest.raises(StoredFileError, match="file was not written by sae_assets"):
        read_header(None, "file")


DAMAGED: list[str | bytes] = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"text"',
    "{}",
    b"\xff\xfe{}",
    '{"schema_version": 1}',
    header_text(provenance=None),
    header_text(provenance=[]),
    header_text(provenance="text"),
    header_text(provenance={}),
    header_text(provenance={**provenance().to_json(), "more": 1}),
    header_text(provenance={key: value for key, value in provenance().to_json().items() if key != "fingerprint"}),
    header_text(provenance={**provenance().to_json(), "fingerprint": "0" * 64}),
    header_text(provenance={**provenance().to_json(), "model": "another"}),
    header_text(provenance={**provenance().to_json(), "config": {"k_stored": 3}}),
    header_text(scalars={"a": {"float": "seven"}}),
]


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_headers(text: str | bytes) -> None:
    """Whatever stands where the header should be, the file is named and the remedy too."""
    with pytest.raises(StoredFileError, match=r"^file has a damaged header .*Materialize it again\.$"):
        read_header(text, "file")


@pytest.mark.parametrize("key", ["kind", "content_hash", "scalars", "provenance"])
def test_header_without_a_key(key: str) -> None:
    """Each key of the header is needed, and the missing one is named."""
    content = json.loads(header_text())
    del content[key]
    with pytest.raises(StoredFileError, match=f"damaged header .*{key}"):
        read_header(json.dumps(content), "file")


def test_missing_file_says_it_was_not_materialized(tmp_path: Path) -> None:
    """Nothing at an address: the address, and the path that was looked at."""
    store = ArtifactStore(str(tmp_path))
    for read in (store.read, store.header, store.size):
        with pytest.raises(StoredFileError, match=r"^pictures/patch/tiny/sparse_activations/0000 has not been mat"):
            read(ADDRESS)


def test_errors_are_os_errors(tmp_path: Path) -> None:
    """``except OSError`` works."""
    with pytest.raises(OSError):
        ArtifactStore(str(tmp_path)).read(ADDRESS)


def test_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    """A format that does not exist is refused when the store is opened."""
    with pytest.raises(StoredFileError, match=r"Unknown format 'csv'; expected one of parquet, pt"):
        ArtifactStore(str(tmp_path), "csv")


def test_published_part_of_a_pt_file_is_verified_too(write: Callable) -> None:
    """Other tools read ``kept_units`` and ``unit_id_to_new_idx``: they must say what our own part says."""
    changes = {"kept_units": torch.tensor([0, 4]), "unit_id_to_new_idx": {0: 1, 3: 0}, "n_filtered": 7}
    for key, value in changes.items():
        store, path = write("unit_mapping", "pt")
        content = torch.load(path, weights_only=True)
        torch.save({**content, key: value}, path)
        with pytest.raises(StoredFileError):
            store.read(ADDRESS)


def test_provenance_from_the_file_is_the_one_that_was_written(write: Callable) -> None:
    """Nothing of the provenance is lost or changed in type on the way."""
    for file_format in ("parquet", "pt"):
        store, _ = write("sparse_activations", file_format)
        back = store.read(ADDRESS).provenance
        assert isinstance(back, Provenance)
        assert back == provenance()
        assert back.fingerprint == provenance().fingerprint
