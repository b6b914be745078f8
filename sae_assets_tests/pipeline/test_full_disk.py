"""A disk that is really full: a small file system in memory, where one may be mounted (as root, on Linux).

The command ends with what could not be written, what was there stays whole, and with more room the same command
finishes; files are those of a home that nobody disturbed.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sae_assets.orchestration.instance import home as module
from sae_assets_tests.helpers.damage import files_of
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.helpers.swift import SHIPPED

pytestmark = pytest.mark.long
BLOCK, ROOM = 4096, 2**26
Disk = Callable[[Path, int], None]


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Puts a folder on a file system of so many bytes or, where it is on one, gives that so many."""
    mounted: list[Path] = []

    def sized(folder: Path, n_bytes: int) -> None:
        again = folder in mounted
        options = f"size={n_bytes},mode=755" if not again else f"remount,size={n_bytes}"
        contents = shutil.copytree(folder, folder.with_name(f"{folder.name}-copy")) if not again else None
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
        if done.returncode != 0:
            pytest.skip("no file system can be mounted here")
        if contents is not None:
            mounted.append(folder)
            shutil.copytree(contents, folder, dirs_exist_ok=True)

    if shutil.which("mount") is None:
        pytest.skip("no file system can be mounted here")
    yield sized
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def stored(places: Places) -> dict[str, bytes]:
    store = places["home"] / "store"
    return {str(path.relative_to(store)): path.read_bytes() for path in files_of(store)}


def blocks(folder: Path) -> int:
    """Bytes that the files below a folder take, in whole blocks, with a block for each file's own and a few more."""
    return sum(BLOCK * (2 + path.stat().st_size // BLOCK) for path in files_of(folder)) + 16 * BLOCK


def test_store_on_a_full_disk(made_home: Homes, tmp_path: Path, disk: Disk) -> None:
    """The file is named, the whole ones stay, and nothing half-written is left."""
    expected = stored(made_home(tmp_path / "whole"))
    places = made_home(tmp_path / "full", "labels")
    store = places["home"] / "store"
    before = stored(places)
    disk(store, blocks(store))
    result = invoke(places, "materialize", "-d", "small")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert "No space left on device" in result.output and str(store / "small") in result.output
    now = stored(places)
    assert {name: now[name] for name in before} == before and not [name for name in now if ".tmp-" in name]
    assert all(now[name] == expected[name] for name in now)
    assert invoke(places, "verify").exit_code == 0
    disk(store, ROOM)
    assert invoke(places, "materialize", "-d", "small").exit_code == 0
    assert stored(places) == expected


@pytest.mark.parametrize("n_blocks", [8, 40, 80])
def test_history_on_a_full_disk(
    small: Places, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, n_blocks: int
) -> None:
    """A new home with room for nothing, for a part of Dagster's tables, and for all of them and little more."""
    monkeypatch.setattr(module, "prepare", SHIPPED)
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.0)
    places = {**small, "home": tmp_path / "home"}
    places["home"].mkdir()
    disk(places["home"], n_blocks * BLOCK)
    result = invoke(places, "materialize", "-d", "small", "--to", "labels")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert "the disk is full" in result.output or "No space left on device" in result.output, result.output
    assert str(places["home"]) in result.output
    disk(places["home"], ROOM)
    result = invoke(places, "materialize", "-d", "small", "--to", "labels")
    assert result.exit_code == 0, result.output
    assert invoke(places, "verify").exit_code == 0
