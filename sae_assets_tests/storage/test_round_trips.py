"""What is written is read back: every kind, in every format, on disk and in memory."""

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae_assets.artifacts import Artifact, GroundTruth, Labels, SparseActivations, UnitStats, offsets_of
from sae_assets.errors import StoredFileError
from sae_assets.ops.rounding import to_significant
from sae_assets.reading.by_unit import ByUnit
from sae_assets.storage import html, parquet, pt
from sae_assets.storage.address import Address
from sae_assets.storage.header import KEY, Header
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets.storage.tables import kinds, table_of
from sae_assets_tests.storage.small import ADDRESS, SMALL, provenance, small
from sae_assets_tests.storage.strategies import KINDS

pytestmark = pytest.mark.slow

thorough = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FORMS = [(kind, "html" if kind in html.KINDS else "parquet") for kind in KINDS] + [(kind, "pt") for kind in pt.KINDS]
NUMBERS = itertools.count()


def memory_store(file_format: str = "parquet") -> ArtifactStore:
    return ArtifactStore(f"memory://round-trips-{next(NUMBERS)}", file_format)


def through_a_file(artifact: Artifact, file_format: str) -> Artifact:
    """Write, read and verify; the provenance and the content hash come back too."""
    # Pages are HTML whatever is chosen for tables.
    chosen = "parquet" if file_format == "html" else file_format
    store, item = memory_store(chosen), stored(artifact, provenance(stage=artifact.kind))
    address = dataclasses.replace(ADDRESS, stage=artifact.kind)
    written = store.write(address, item)
    assert written.path.suffix == f".{file_format}" and written.n_bytes == len(written.path.read_bytes())
    back = store.read(address)
    assert back == item
    assert back.content_hash == artifact.content_hash()
    for field in dataclasses.fields(artifact):  # type: ignore[arg-type]
        before, after = getattr(artifact, field.name), getattr(back.artifact, field.name)
        if isinstance(before, torch.Tensor):
            assert after.dtype == before.dtype
            assert torch.equal(after.nan_to_num(nan=-7.0), before.nan_to_num(nan=-7.0)), field.name
            if before.is_floating_point():
                assert torch.equal(after.isnan(), before.isnan())
        elif isinstance(before, float) and before != before:
            assert after != after
        else:
            assert (after, type(after)) == (before, type(before)), field.name
    return back.artifact


def test_every_kind_has_a_small_one_and_a_strategy() -> None:
    """A new kind of artifact comes with both, or nothing below would see it."""
    assert set(SMALL) == set(KINDS) == set(kinds())


@pytest.mark.parametrize("kind", kinds())
def test_every_column_is_described(kind: str) -> None:
    """And nothing is that is no column: the sentences stand in the UI beside the columns."""
    table = table_of(kind)
    columns, _ = table.encode(small(kind).artifact)
    assert {name.split(":")[0] for name in columns.column_names} == set(table.COLUMNS)


@pytest.mark.parametrize("kind", ["sparse_activations", "filtered_activations"])
def test_of_a_chunk_only_what_is_decoded_is_parsed(kind: str) -> None:
    """Whoever asks for the table has all of its columns."""
    item = small(kind)
    content = parquet.dump(item.artifact, lambda scalars: Header(kind, item.content_hash, scalars, item.provenance))
    _, decoded = parquet.load_table(content, "here", decoded=True)
    assert set(decoded.column_names) == set(table_of(kind).READ) == set(table_of(kind).COLUMNS) - {"position"}
    assert "position" in parquet.load_table(content, "here")[1].column_names
    assert parquet.load(content, "here")[0] == item.artifact


@pytest.mark.parametrize(("group", "sizes"), [(1, [1, 2]), (3, [2, 1]), (2**16, [3])])
def test_activations_by_unit_are_read_by_groups(
    tmp_path: Path, group: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many units a row group has, and however many Arrow arrays; a file that says something else is damaged."""
    table, store = table_of("unit_rows"), ArtifactStore(str(tmp_path))
    monkeypatch.setattr(table, "GROUP", group)
    monkeypatch.setattr(table, "PART", group)
    address = dataclasses.replace(ADDRESS, stage="unit_rows")
    item = small("unit_rows", address)
    path = store.write(address, item).path
    assert store.read(address) == item
    groups = pq.ParquetFile(str(path)).metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == sizes
    assert {groups.schema.column(place).max_definition_level for place in (2, 3, 4)} == {1}, "a level for nulls is read"
    by_unit, offsets = ByUnit(path, address), item.artifact.unit_offsets.tolist()
    for unit, (start, stop) in enumerate(itertools.pairwise(offsets)):
        columns = (item.artifact.examples, item.artifact.positions, item.artifact.values)
        assert [each.tolist() for each in by_unit.rows(unit)] == [each[start:stop].tolist() for each in columns]
    for column, values in (
        ("n_rows", [2, 1, 2]),
        ("n_rows", [2, 0, -3]),
        ("values", [[1.5, 2.5], [], [0.5, 1.0, 3.0]]),
    ):
        whole = pq.read_table(str(path))
        place = whole.column_names.index(column)
        field = whole.schema.field(place)
        changed = whole.set_column(place, field, pa.array(values, field.type))
        unsealed = changed.schema.metadata[KEY.encode()].replace(b'"seal": "sha256", ', b"")  # as of an earlier version
        changed = changed.replace_schema_metadata({KEY: unsealed})
        pq.write_table(changed, str(path), row_group_size=2)
        with pytest.raises(StoredFileError, match=r"does not hold what its header says|content hash"):
            store.read(address)
        store.write(address, item)


@pytest.mark.parametrize(("kind", "file_format"), FORMS)
def test_small_artifacts_round_trip(kind: str, file_format: str) -> None:
    """The hand-written one of each kind, with nulls, infinities, empty rows and examples without rows."""
    through_a_file(SMALL[kind], file_format)


@pytest.mark.parametrize("file_format", ["parquet", "pt"])
def test_activations_of_the_version_before_have_no_fit(file_format: str) -> None:
    """They are whole: their content hash is the one that was written then."""
    earlier = dataclasses.replace(SMALL["sparse_activations"], fit=None)
    assert earlier.content_hash() == "e9ed01b73ee52542bb9d3acf8a528b8241a584f452edd5ab0a7ebcf6c56df4dd"
    store = memory_store(file_format)
    store.write(ADDRESS, stored(earlier, provenance()))
    assert "fit" not in store.header(ADDRESS).scalars
    assert store.read(ADDRESS).artifact == earlier


@pytest.mark.parametrize("file_format", ["parquet", "pt"])
def test_activations_of_16_bits_say_so(file_format: str) -> None:
    """In the header too; what others read is float32 as ever."""
    whole = SMALL["sparse_activations"]
    halves = dataclasses.replace(whole, values=to_significant(whole.values), stored_values="float16")
    assert through_a_file(halves, file_format).values.dtype == torch.float32
    store = memory_store(file_format)
    store.write(ADDRESS, stored(halves, provenance()))
    assert store.header(ADDRESS).scalars["stored_values"] == "float16"


@pytest.mark.parametrize(("kind", "file_format"), FORMS)
def test_random_artifacts_round_trip(kind: str, file_format: str) -> None:
    """A dozen random ones of each kind, in each format: columns that lose what is empty or single show in fewer."""

    @settings(thorough, max_examples=12)
    @given(KINDS[kind]())
    def check(artifact: Artifact) -> None:
        through_a_file(artifact, file_format)

    check()


@pytest.mark.parametrize("kind", pt.KINDS)
def test_both_formats_give_the_same_hash(kind: str) -> None:
    """A file's content hash names its content, not its format: the other format reads back to the same hash.

    So does each random artifact above.
    """
    artifact, hashes = SMALL[kind], set()
    for file_format in ("parquet", "pt"):
        store = memory_store(file_format)
        store.write(ADDRESS, stored(artifact, provenance()))
        hashes |= {store.read(ADDRESS).content_hash, store.header(ADDRESS).content_hash}
    assert hashes == {artifact.content_hash()}


@pytest.mark.parametrize(("kind", "file_format"), FORMS)
def test_header_alone_says_the_same(kind: str, file_format: str) -> None:
    """The header that is read without the data is the one that is read with it."""
    store, item = memory_store("parquet" if file_format == "html" else file_format), small(kind)
    written = store.write(ADDRESS, item)
    header = store.header(ADDRESS)
    assert (header.kind, header.content_hash, header.provenance) == (kind, item.content_hash, item.provenance)
    assert store.size(ADDRESS) == written.n_bytes == len(written.path.read_bytes())


@pytest.mark.parametrize("file_format", ["parquet", "pt"])
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0], [2, 0], [0, 2]])
def test_activations_without_rows_or_entries(lengths: list[int], file_format: str) -> None:
    """No example, no row, no entry: still the same artifact."""
    n = sum(lengths)
    artifact = SparseActivations(
        first_example=5,
        example_offsets=offsets_of(torch.tensor(lengths, dtype=torch.int64)),
        row_offsets=torch.zeros(n + 1, dtype=torch.int64),
        unit_ids=torch.zeros(0, dtype=torch.int32),
        values=torch.zeros(0),
        n_units=3,
        l0=torch.zeros(n, dtype=torch.int32),
        k_stored=None,
        total_mass=0.0,
        dropped_mass=0.0,
    )
    through_a_file(artifact, file_format)


def test_truth_without_concepts_or_positives() -> None:
    """No concept at all, and none that is true."""
    for concepts in ((), ("red",)):
        through_a_file(
            GroundTruth(
                concepts=concepts,
                first_example=0,
                example_offsets=torch.tensor([0, 2]),
                row_offsets=torch.zeros(3, dtype=torch.int64),
                concept_ids=torch.zeros(0, dtype=torch.int32),
            ),
            "parquet",
        )


def test_truth_without_pixels_has_no_such_columns() -> None:
    """Of texts, of labels that are located nowhere, and of files of the version before, whose hash it keeps."""
    plain = dataclasses.replace(
        SMALL["ground_truth"], patch_pixels=None, cover_offsets=None, cover_ids=None, cover_pixels=None
    )
    assert plain.content_hash() == "82248d606bfa5653b8dad9e4d2adc94fb50b0b0f687e551c1bd7640bd1a3074c"
    assert through_a_file(plain, "parquet") == plain
    assert table_of("ground_truth").encode(plain)[0].column_names == ["example_index", "position", "concepts"]


def test_statistics_of_no_rows() -> None:
    """Statistics over no rows at all are an artifact like any other; every figure is null."""
    empty = torch.full((2,), torch.nan, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    through_a_file(UnitStats(0, zero.long(), zero, zero, empty, empty, empty), "parquet")


def test_concepts_named_like_columns() -> None:
    """A concept may be called as a column is: labels have their own prefix."""
    small = SMALL["labels"]
    assert isinstance(small, Labels)
    through_a_file(dataclasses.replace(small, concepts=("split", "path")), "parquet")


def test_examples_of_an_earlier_version_are_named_as_such() -> None:
    """They held splits and labels as well: to be made again, and not damaged."""
    item = small("examples")
    table, scalars = parquet.to_table(item.artifact)
    older = Header("examples", "ab" * 32, {"first_index": 7, "concepts": ["red"]}, item.provenance)
    assert "concepts" not in scalars
    with pytest.raises(StoredFileError, match=r"of an earlier version, .*Materialize it again"):
        parquet.decode(older, table, "0000.parquet")


def test_scalars_that_look_like_the_headers_own_marks() -> None:
    """Provenance may hold any plain values, also mappings that look like a stored infinity."""
    store = memory_store()
    config = {"float": "inf", "list": [{"float": "nan"}], "none": None, "text": "ü\n\"'"}
    item = stored(SMALL["examples"], provenance(config=config))
    store.write(ADDRESS, item)
    assert store.read(ADDRESS).provenance.config == config


@pytest.mark.parametrize("root", ["file", "memory", "file-url"])
@pytest.mark.parametrize("file_format", ["parquet", "pt"])
def test_every_kind_of_place(tmp_path: Path, root: str, file_format: str) -> None:
    """A folder, a file URL and an object store in memory: the same files at the same addresses."""
    place = {
        "file": str(tmp_path / "store"),
        "memory": f"memory://place-{next(NUMBERS)}",
        "file-url": (tmp_path / "store").as_uri(),
    }[root]
    store = ArtifactStore(place, file_format)
    assert list(store.files()) == []
    of_no_model = ("examples", "labels")
    addresses = {
        kind: Address("pictures", kind, *((None, None) if kind in of_no_model else ("patch", "m"))) for kind in SMALL
    }
    for kind, address in addresses.items():
        assert store.find(address) is None
        store.write(address, small(kind, address))
    for kind, address in addresses.items():
        assert store.read(address) == small(kind, address)
        found = store.find(address)
        assert found is not None
        assert store.read_file(found) == small(kind, address)
    names = ["/".join(path.parts[-len(address.parts()) :]) for path, address in
             zip(store.files(), sorted(addresses.values(), key=lambda a: a.parts()), strict=True)]  # fmt: skip
    extension = {kind: file_format if kind in pt.KINDS else "parquet" for kind in SMALL} | dict.fromkeys(
        html.KINDS, "html"
    )
    expected = {"/".join(address.parts()) + f".{extension[kind]}" for kind, address in addresses.items()}
    assert set(names) == expected


@thorough
@given(st.data())
def test_writing_is_deterministic(data: st.DataObject) -> None:
    """The same artifact and provenance give the same bytes, in either format."""
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    item = stored(data.draw(KINDS[kind]()), provenance())
    for file_format in ("parquet", "pt"):
        first, second = memory_store(file_format), memory_store(file_format)
        assert first.write(ADDRESS, item).path.read_bytes() == second.write(ADDRESS, item).path.read_bytes()


def test_other_format_replaces_the_file(tmp_path: Path) -> None:
    """After a change of format there is one file at an address, the new one, and it is what is read."""
    old, new = small("sparse_activations"), stored(SMALL["sparse_activations"], provenance(code_version="2"))
    for first, second in (("parquet", "pt"), ("pt", "parquet")):
        root = str(tmp_path / first)
        ArtifactStore(root, first).write(ADDRESS, old)
        written = ArtifactStore(root, second).write(ADDRESS, new)
        assert list(ArtifactStore(root).files()) == [written.path]
        assert ArtifactStore(root, first).read(ADDRESS) == new


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts the threads that Linux lists")
def test_reading_starts_no_thread(tmp_path: Path) -> None:
    """One of Arrow's threads at work when the interpreter ends aborts the process, after all is done."""
    store, by_unit = ArtifactStore(str(tmp_path)), dataclasses.replace(ADDRESS, stage="unit_rows")
    items = {ADDRESS: small("sparse_activations"), by_unit: small("unit_rows", by_unit)}
    files = [store.write(address, item).path for address, item in items.items()]
    script = f"""
import os, sys, numpy, pyarrow.parquet, torch
from upath import UPath
from sae_assets.reading.by_unit import ByUnit
from sae_assets.reading.files import columns_of
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
store, rows, units = ArtifactStore(sys.argv[1]), *map(UPath, sys.argv[2:])
before = len(os.listdir("/proc/self/task"))
store.read_file(rows), store.read_file(units), ByUnit(units, {by_unit!r}).rows(0)
columns_of(store, {ADDRESS!r}, numpy.array([{SMALL["sparse_activations"].first_example}], "int32"))
print(len(os.listdir("/proc/self/task")) - before)
"""
    command = [sys.executable, "-c", script, str(tmp_path), *map(str, files)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "0\n"
