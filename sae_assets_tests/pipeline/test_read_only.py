"""A home that may only be read: its files are read, what needs its history says why not, and nothing is changed."""

import shutil
from pathlib import Path

import pytest

from sae_assets.orchestration.instance import home as module
from sae_assets_tests.helpers.damage import files_of
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.helpers.permissions import read_only
from sae_assets_tests.helpers.swift import SHIPPED

pytestmark = pytest.mark.slow
LOOKS = [["show", "small", "clip-mini", "thresholds"], ["verify"], ["verify", "--mend"]]
WORK = [
    ["status", "-d", "small"],
    ["materialize", "-d", "small"],
    ["materialize", "-d", "small", "--dry-run"],
    ["close-chunk", "small"],
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    return made_home(tmp_path_factory.mktemp("read-only"))


def expect_refusal(places: Places, words: list[str], *said: str) -> None:
    """One sentence that names the folder and says what to do, and no traceback."""
    result = invoke(places, *words)
    assert result.exit_code == 1, result.output
    assert all(part in result.stderr for part in (str(places["home"]), *said)), result.stderr
    assert "Traceback" not in result.output and len(result.stderr.splitlines()) < 4


@pytest.mark.parametrize("moved", [False, True])
def test_home_that_may_only_be_read(made: Places, tmp_path: Path, moved: bool) -> None:
    """One that was moved too, whose history would have to be told its new place."""
    places = dict(made)
    if moved:
        places["home"] = shutil.copytree(made["home"], tmp_path / "moved")
    before = {path: path.read_bytes() for path in files_of(places["home"])}
    with read_only(places["home"]):
        with pytest.raises(PermissionError):
            (places["home"] / "store/small/new").write_text("")
        for words in LOOKS:
            result = invoke(places, *words)
            assert result.exit_code == 0, result.output
        for words in WORK:
            expect_refusal(places, words, "cannot be written: give it back its permissions", "sae-assets verify")
    assert {path: path.read_bytes() for path in files_of(places["home"])} == before


def test_store_that_may_only_be_read(made: Places, tmp_path: Path) -> None:
    """The history is there, so all can be looked at; what would write names the file that it could not."""
    places = {**made, "home": shutil.copytree(made["home"], tmp_path / "home")}
    with read_only(places["home"] / "store"):
        for words in [*LOOKS, ["status", "-d", "small"]]:
            assert invoke(places, *words).exit_code == 0
        result = invoke(places, "materialize", "-d", "small", "--from", "report", "--force")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert "Permission denied" in result.output and str(places["home"] / "store/small") in result.output


def test_place_where_no_home_can_be_made(small: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare", SHIPPED)
    folder = tmp_path / "closed"
    folder.mkdir()
    with read_only(folder):
        expect_refusal({**small, "home": folder / "home"}, ["status", "-d", "small"], "cannot be written")
    assert not (folder / "home").exists()


def test_disk_without_room_for_the_history(small: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: object, _content: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "prepare", SHIPPED)
    monkeypatch.setattr(module, "write_atomically", full)
    places = {**small, "home": tmp_path / "home-without-room"}
    expect_refusal(places, ["status", "-d", "small"], "the disk is full", "No space left on device")
