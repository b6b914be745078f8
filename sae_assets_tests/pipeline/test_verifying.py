"""``verify`` finds whatever is not as it was made, with and without Dagster's record, and ``--mend`` mends it."""

import json
import os
import re
import shlex
import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sae_assets.chunks.manifests import read_manifests
from sae_assets.cli import app
from sae_assets.commands.session import open_session
from sae_assets.commands.verifying import verify
from sae_assets.storage.atomic import TEMPORARY_PREFIX
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.fuzz import as_pt, fuzz
from sae_assets_tests.helpers.damage import files_of, without_hash
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.planned import all_states
from sae_assets_tests.processes import ended, half_written_by

pytestmark = pytest.mark.slow
N_DAMAGES = 200  # `make fuzz` does 2,000


@pytest.fixture
def made(tmp_path: Path, made_home: Homes) -> Places:
    return made_home(tmp_path)


def store_of(places: Places) -> Path:
    return places["home"] / "store"


def found_by(places: Places, *arguments: str) -> tuple[int, dict]:
    result = invoke(places, "verify", "--json", *arguments)
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("file_format", ["parquet", pytest.param("pt", marks=pytest.mark.long)])
def test_random_damages_are_noticed(made: Places, file_format: str) -> None:
    """Bits, bytes, digits, truncations, swaps and deletions, in files and manifests: none of them is silent."""
    if file_format == "pt":
        as_pt(made)
        assert sum(path.suffix == ".pt" for path in files_of(store_of(made))) > 4
    tried, silent = fuzz(made, N_DAMAGES // 2, seed=7)
    assert silent == [] and tried.total() > 0.4 * N_DAMAGES and len(tried) >= 9


def address_of(item):
    from dataclasses import fields

    from sae_assets.storage.address import Address

    return Address(**{part.name: getattr(item.provenance, part.name) for part in fields(Address)})


def test_everything_is_read_and_compared(made: Places) -> None:
    code, found = found_by(made)
    n_files = sum(path.suffix in (".parquet", ".html") for path in files_of(store_of(made)))
    assert (code, found["files"], found["manifests"]) == (0, n_files, 2)
    assert not any(found[name] for name in ("damaged", "orphans", "not_compared", "unsealed", "leftovers"))


def test_whole_file_of_another_time_is_not_what_dagster_recorded(made: Places) -> None:
    """A file of a backup: its seal and its place are right, and its content is not what was recorded."""
    store = ArtifactStore(str(store_of(made)))
    (path,) = store_of(made).glob("small/patch/clip-mini/unit_stats/all.parquet")
    item = store.read_file(store.find(address_of(store.read_file(path))))  # type: ignore[arg-type]
    from dataclasses import replace

    from sae_assets.storage.store import stored

    older = replace(item.artifact, total=item.artifact.total * 2)
    store.write(address_of(item), stored(older, item.provenance))
    code, found = found_by(made)
    assert code == 1 and list(found["damaged"]) == [str(path)]
    assert "is whole, but not what Dagster recorded" in found["damaged"][str(path)]
    assert found_by(made, "--mend")[0] == 0
    assert store.read_file(path) == item  # type: ignore[arg-type]


def test_repair_makes_damaged_and_missing_files_again_and_nothing_else(made: Places) -> None:
    store = store_of(made)
    victims = [store / "small/patch/clip-mini" / name for name in (
        "sparse_activations/0001.parquet", "thresholds/all.parquet", "report/all.html",
    )]  # fmt: skip
    before = {path: path.read_bytes() for path in files_of(store)}
    times = {path: path.stat().st_mtime_ns for path in before}
    victims[0].write_bytes(before[victims[0]][:-100])
    victims[1].unlink()
    victims[2].write_bytes(before[victims[2]].replace(b"<p", b"<b", 1))
    code, found = found_by(made)
    assert code == 1 and set(found["damaged"]) == {str(path) for path in victims}
    said = invoke(made, "verify")
    assert said.exit_code == 1 and "--mend" in said.stdout and all(str(path) in said.stderr for path in victims)
    code, found = found_by(made, "--mend")
    assert code == 0 and found["damaged"] == {} and found["runs"] == 3
    assert {path: path.read_bytes() for path in files_of(store)} == before
    assert {path for path in before if path.stat().st_mtime_ns != times[path]} == set(victims)
    with open_session(made["home"], made["catalog"]) as session:
        assert all_states(session) == {"current"}


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_manifest_that_changed_or_vanished_is_written_anew(made: Places, what: str) -> None:
    """From the chunk's examples and labels, byte by byte as it was, so that nothing is stale; others say what to do."""
    path = store_of(made) / "small/chunks/0000.json"
    content = path.read_text()
    if what == "changed":
        path.write_text(content.replace('"first_index": 0', '"first_index": 6'))
        result = invoke(made, "status", "-d", "small")
        assert result.exit_code == 1 and "--mend writes it anew" in result.stderr and str(path) in result.stderr
        result = invoke(made, "remove", "small", "--chunks", "0", "--yes")
        assert result.exit_code == 1 and "is damaged" in result.stderr and path.exists()
    else:
        path.unlink()
    code, found = found_by(made)
    said = "its content is not what its hash says" if what == "changed" else "is not there, though the chunk was made"
    assert code == 1 and list(found["damaged"]) == [str(path)] and said in found["damaged"][str(path)]
    assert "--mend" in invoke(made, "verify").stdout
    code, found = found_by(made, "--mend")
    assert (code, found["damaged"], found["runs"]) == (0, {}, 0) and path.read_text() == content
    with open_session(made["home"], made["catalog"]) as session:
        assert all_states(session) == {"current"}


def test_manifest_of_a_newer_version_is_named_and_left(made: Places) -> None:
    """It is not called damaged, and `--mend` writes no older one in its place."""
    path = store_of(made) / "small/chunks/0000.json"
    newer = path.read_text().replace('"schema_version": 1', '"schema_version": 2')
    path.write_text(newer)
    result = invoke(made, "status", "-d", "small")
    assert result.exit_code == 1 and "schema version 2" in result.stderr and "damaged" not in result.stderr
    for options in ((), ("--mend",)):
        code, found = found_by(made, *options)
        assert code == 1 and "a newer one wrote it" in found["damaged"][str(path)] and path.read_text() == newer


def test_manifest_of_which_no_file_tells_is_left(made: Places) -> None:
    """Its labels are damaged too, or it is in another's place: it comes from a backup or not at all."""
    path = store_of(made) / "small/chunks/0000.json"
    content = path.read_text()
    path.unlink()
    (store_of(made) / "small/labels/0000.parquet").write_bytes(b"")
    code, found = found_by(made, "--mend")
    assert code == 1 and "restore it from a backup" in found["damaged"][str(path)] and not path.exists()
    other = store_of(made) / "other/chunks/0000.json"
    other.parent.mkdir(parents=True)
    other.write_text(content)
    code, found = found_by(made)
    assert "of data set 'small', and was put in another's place" in found["damaged"][str(other)]


def test_manifests_and_files_of_earlier_versions_are_read_and_files_sealed(made: Places) -> None:
    from sae_assets.storage.header import Header

    with open_session(made["home"], made["catalog"]) as session:
        manifests = read_manifests(session.store.root, "small")
        for path in store_of(made).glob("small/chunks/*.json"):
            without_hash(path)
        assert read_manifests(session.store.root, "small") == manifests
    store = ArtifactStore(str(store_of(made)))
    items = [store.read_file(path) for path in store.files() if path.suffix == ".parquet"]
    whole = Header.to_json
    with pytest.MonkeyPatch.context() as patch:  # a header that tells of no seal, and no seal
        patch.setattr("sae_assets.storage.seal.FILE", b"sae_assets_none:")
        patch.setattr("sae_assets.storage.seal.FOOTER", b"sae_assets_null:")
        patch.setattr(Header, "to_json", lambda self: whole(self).replace('"seal": "sha256", ', ""))
        for item in items:
            store.write(address_of(item), item)
    code, found = found_by(made)
    assert (code, found["damaged"]) == (0, {}) and len(found["unsealed"]) > 10
    assert "of an earlier version" in invoke(made, "verify").stdout
    code, found = found_by(made, "--mend")
    assert (code, found["unsealed"], found["damaged"], found["runs"]) == (0, [], {}, 0)


@pytest.mark.parametrize("what", ["empty", "mistyped"])
def test_home_with_nothing_in_it_is_an_error(tmp_path: Path, small: Places, what: str) -> None:
    home = tmp_path / "home-of-nobody"
    if what == "empty":
        (home / "store").mkdir(parents=True)
    result = invoke({**small, "home": home}, "verify")
    assert result.exit_code == 1 and "nothing to verify" in result.stderr and str(home) in result.stderr
    assert home.exists() is (what == "empty"), "looking made a home"


def test_temporary_files_of_killed_commands_are_named_and_removed(made: Places) -> None:
    folder = store_of(made) / "small/patch/clip-mini/thresholds"
    dead, mine = folder / half_written_by(ended()), folder / half_written_by(os.getpid())
    old, young = folder / f"{TEMPORARY_PREFIX}0123abcd", folder / f"{TEMPORARY_PREFIX}4567abcd"
    for path in (dead, old, mine, young):
        path.write_bytes(b"half a file")
    os.utime(old, (1, 1))
    assert set(found_by(made)[1]["leftovers"]) == {str(dead), str(old)}
    assert found_by(made, "--repair")[1]["leftovers"] == []  # as the option was called
    assert not dead.exists() and not old.exists() and mine.exists() and young.exists()


def damage_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def lock_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("BEGIN EXCLUSIVE")


@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_verify_and_show_need_no_history(made: Places, what: str) -> None:
    folder = made["home"] / "dagster"
    if what == "gone":
        shutil.rmtree(folder)
    else:
        for path in folder.rglob("*.db"):
            damage_database(path)
    code, found = found_by(made)
    assert code == 0 and found["damaged"] == {} and str(folder) in found["not_compared"]
    assert invoke(made, "show", "small", "clip-mini", "thresholds").exit_code == 0
    if what == "damaged":
        result = invoke(made, "status", "-d", "small")
        assert result.exit_code == 1 and str(folder) in result.stderr and "is damaged" in result.stderr
        assert len(result.stderr.splitlines()) < 5 and "Traceback" not in result.output
    else:
        assert not folder.exists(), "looking made a history"


def test_chunk_that_was_added_by_hand_blocks_nothing_is_named_and_can_be_taken_off(made: Places) -> None:
    with open_session(made["home"], made["catalog"]) as session:
        session.instance.add_dynamic_partitions("small_chunks", ["0009"])
        assert session.materialize(["small"])[0] == 0
        assert session.materialize(["small"], first="unit_stats", last="unit_stats", force=True)[0] == 1
    code, found = found_by(made)
    assert (code, found["orphans"]) == (0, {"small": ["0009"]})
    advised = re.search(r"sae-assets remove (.*)", invoke(made, "verify").stdout)
    assert advised is not None and str(made["home"]) in advised[1]
    result = CliRunner().invoke(app, ["remove", *shlex.split(advised[1])])
    assert result.exit_code == 0 and "from Dagster's list of chunks: 0009." in result.stdout
    assert found_by(made)[1]["orphans"] == {}


def test_chunks_added_by_hand_under_any_name_can_be_taken_off(made: Places) -> None:
    """The UI's dialog takes any text; the registered chunks stay."""
    names = ["bad name", "../x", "a,b", "x; touch y", "--yes", "12", "\x1b[2J"]
    with open_session(made["home"], made["catalog"]) as session:
        session.instance.add_dynamic_partitions("small_chunks", names)
    assert found_by(made)[1]["orphans"] == {"small": sorted(names)}
    assert "\x1b" not in invoke(made, "verify").stdout
    assert invoke(made, "status", "-d", "small").exit_code == 0
    assert invoke(made, "remove", "small", "--unregistered").exit_code == 0  # shows, and takes nothing off
    assert found_by(made)[1]["orphans"] == {"small": sorted(names)}
    assert invoke(made, "remove", "small", "--unregistered", "--yes").exit_code == 0
    code, found = found_by(made)
    assert (code, found["orphans"], found["damaged"]) == (0, {}, {})


def test_files_that_are_written_in_the_other_format_meanwhile(made: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were listed as Parquet and are ``.pt`` when they are read, or were removed: nothing is damaged."""
    store = ArtifactStore(str(store_of(made)))
    listed = [*store.files()]
    as_pt(made)
    now = [*store.files()]
    gone = next(path for path in listed if path.parent.name == "report")
    gone.rename(gone.with_name("away"))
    monkeypatch.setattr(ArtifactStore, "files", lambda self, folder=None: iter([*listed, *now]))
    with open_session(made["home"], made["catalog"]) as session:
        verified = verify(store, session.catalog, None)
    assert verified.damaged == {} and verified.files == len(listed) - 1
