"""Writes happen whole or not at all, and what a killed run leaves is never taken for data."""

import builtins
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from sae_assets.storage import atomic
from sae_assets.storage.address import Address
from sae_assets.storage.atomic import TEMPORARY_PREFIX, remove_leftovers, write_atomically
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.processes import ended, half_written_by
from sae_assets_tests.storage.small import ADDRESS, SMALL, provenance, small

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


class HalfWritten:
    """A file that takes half of what it is given, then fails."""

    def __init__(self, file: Any, failure: BaseException):
        self._file, self._failure = file, failure

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        raise self._failure


def fail_at(step: str, failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one step of writing fail; all others stay what they are."""

    def fails(*_: object) -> None:
        raise failure

    if step == "write":

        def half(*arguments: Any) -> HalfWritten:
            return HalfWritten(builtins.open(*arguments), failure)

        monkeypatch.setattr(atomic, "open", half, raising=False)
    else:
        monkeypatch.setattr(atomic.os, step, fails)


FAILURES = [NO_SPACE, PermissionError("denied"), KeyboardInterrupt(), SystemExit(1), MemoryError()]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("existing", [True, False])
def test_failure_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException, existing: bool
) -> None:
    """Whatever fails and wherever: the old file is byte by byte as before, and no temporary file stays."""
    folder = tmp_path / "deep/folder"
    path = UPath(folder / "file.parquet")
    if existing:
        write_atomically(path, b"old content")
    with monkeypatch.context() as patched:
        fail_at(step, failure, patched)
        with pytest.raises(type(failure)):
            write_atomically(path, b"new content")
    assert sorted(entry.name for entry in folder.iterdir()) == (["file.parquet"] if existing else [])
    if existing:
        assert path.read_bytes() == b"old content"


def test_writes_make_folders_and_replace(tmp_path: Path) -> None:
    """Folders appear as needed; the second content replaces the first."""
    path = UPath(tmp_path / "a/b/file")
    for content in (b"one", b"", b"three" * 100_000):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in (tmp_path / "a/b").iterdir()] == ["file"]


def test_the_file_appears_in_one_step_and_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is flushed to disk before the rename, and the folder after it."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder to disk" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content to disk")
        fsync(descriptor)

    def noted_replace(source: str, target: str) -> None:
        assert Path(source).parent == Path(target).parent
        assert Path(source).name.startswith(TEMPORARY_PREFIX)
        assert Path(source).read_bytes() == b"content"
        assert not Path(target).exists()
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(atomic.os, "replace", noted_replace)
    write_atomically(UPath(tmp_path / "file"), b"content")
    assert steps == ["content to disk", "rename", "folder to disk"]


def test_writers_do_not_share_temporary_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers of the same file at the same time each have a temporary file of their own."""
    seen: list[str] = []
    replace = os.replace
    monkeypatch.setattr(atomic.os, "replace", lambda a, b: (seen.append(a), replace(a, b)))
    for _ in range(2):
        write_atomically(UPath(tmp_path / "file"), b"x")
    assert len(set(seen)) == 2


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file where a folder should be: the system's own error, and the file is untouched."""
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(OSError):
        write_atomically(UPath(tmp_path / "taken/file"), b"x")
    assert (tmp_path / "taken").read_bytes() == b"mine"


def test_object_stores_get_one_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on a disk: one call with the finished bytes, at the final name."""
    path = UPath("memory://atomic/folder/file.parquet")
    calls: list[tuple[str, bytes]] = []
    upload = type(path.fs).pipe_file

    def noted(self: Any, name: str, content: bytes, *arguments: Any, **named: Any) -> Any:
        calls.append((name, content))
        return upload(self, name, content, *arguments, **named)

    monkeypatch.setattr(type(path.fs), "pipe_file", noted)
    write_atomically(path, b"content")
    assert calls == [(path.path, b"content")]
    assert path.read_bytes() == b"content"


def test_failed_upload_leaves_the_old_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that fails leaves what was there."""
    path = UPath("memory://atomic/failed/file.parquet")
    write_atomically(path, b"old")

    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("lost")

    with monkeypatch.context() as patched:
        patched.setattr(type(path.fs), "pipe_file", fails)
        with pytest.raises(ConnectionError):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_only_what_nobody_writes_any_more_is_left_over(tmp_path: Path) -> None:
    """A process that ended without being waited for writes no more, nor does one whose number a later one has."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        names = {pid: half_written_by(pid) for pid in (os.getpid(), process.pid)}
        for folder in ("now", "before"):
            (tmp_path / folder).mkdir()
            for name in names.values():
                (tmp_path / folder / name).touch()
        os.utime(tmp_path / "before" / names[os.getpid()], (1, 1))
        remove_leftovers(UPath(tmp_path))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob(".*")] == [Path("now", names[os.getpid()])]


def test_leftovers_that_may_not_be_removed_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tidies up has other work to do."""
    left = tmp_path / half_written_by(ended())
    left.touch()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        remove_leftovers(UPath(tmp_path))
    assert left.exists()
    remove_leftovers(UPath(tmp_path))
    assert not left.exists()


@pytest.mark.parametrize("place", [lambda folder: str(folder), lambda folder: f"memory://leftovers-{folder.name}"])
def test_leftovers_are_never_listed(tmp_path: Path, place: Callable[[Path], str]) -> None:
    """Temporary files of killed runs, with any ending, are neither listed nor found at an address."""
    store = ArtifactStore(place(tmp_path))
    written = store.write(ADDRESS, small("sparse_activations"))
    for name in (f"{TEMPORARY_PREFIX}1234", f"{TEMPORARY_PREFIX}1234.parquet", f"{TEMPORARY_PREFIX}0000.pt"):
        (written.path.parent / name).write_bytes(written.path.read_bytes())
    (written.path.parent / "notes.txt").write_bytes(b"x")
    assert [path.name for path in store.files()] == ["0000.parquet"]
    assert store.find(Address("pictures", "sparse_activations", "patch", "tiny", "1234")) is None


@pytest.mark.parametrize("file_format", ["parquet", "pt"])
def test_failed_rewrite_keeps_the_old_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    """A store whose disk fills up while an artifact is replaced still has the old one, also in another format."""
    old, new = small("sparse_activations"), stored(SMALL["sparse_activations"], provenance(code_version="2"))
    ArtifactStore(str(tmp_path)).write(ADDRESS, old)
    with monkeypatch.context() as patched:
        fail_at("replace", NO_SPACE, patched)
        with pytest.raises(OSError, match="No space"):
            ArtifactStore(str(tmp_path), file_format).write(ADDRESS, new)
    store = ArtifactStore(str(tmp_path), file_format)
    assert store.read(ADDRESS) == old
    assert len(list(store.files())) == 1


def test_nothing_is_written_when_encoding_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that cannot be encoded leaves no file and no folder."""
    from sae_assets.storage import parquet

    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(parquet, "to_table", fails)
    with pytest.raises(MemoryError):
        ArtifactStore(str(tmp_path / "store")).write(ADDRESS, small("examples"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_errors_name_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The system's own say "No space left on device" and no more, or a temporary name."""
    path = tmp_path / "file.parquet"
    for error in (OSError(errno.ENOSPC, "No space left"), OSError(errno.EROFS, "Read-only", f"{TEMPORARY_PREFIX}1")):
        with monkeypatch.context() as patched:
            fail_at(step, error, patched)
            with pytest.raises(OSError) as caught:
                write_atomically(UPath(path), b"new")
        assert str(caught.value) == f"[Errno {error.errno}] {error.strerror}: '{path}'"


@pytest.mark.parametrize("reader", [ArtifactStore.read, ArtifactStore.header])
@pytest.mark.parametrize("snapshot", [False, True])
def test_reader_finds_a_file_that_is_written_in_another_format_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable, snapshot: bool
) -> None:
    """The old file is found, and gone when it is opened."""
    from sae_assets.storage import footers, parquet
    from sae_assets.storage.snapshot import StoreSnapshot

    item = small("sparse_activations")
    store = ArtifactStore(str(tmp_path))
    store.write(ADDRESS, item)
    reading = StoreSnapshot(store) if snapshot else store
    for module, name in ((parquet, "load_file"), (footers, "load_header")):
        whole = getattr(module, name)

        def late(path: UPath, whole: Callable = whole) -> Any:
            ArtifactStore(str(tmp_path), "pt").write(ADDRESS, item)
            return whole(path)

        monkeypatch.setattr(module, name, late)
    assert reader(reading, ADDRESS).content_hash == item.content_hash
    assert [path.suffix for path in store.files()] == [".pt"]


def test_find_does_not_miss_a_file_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked for as Parquet before it is written, and as .pt after that was removed."""
    item = small("sparse_activations")
    ArtifactStore(str(tmp_path), "pt").write(ADDRESS, item)
    exists, first = UPath.exists, [True]

    def late(path: Any, **named: Any) -> bool:
        if first and path.suffix == ".pt":
            first.clear()
            ArtifactStore(str(tmp_path)).write(ADDRESS, item)
        return exists(path, **named)

    monkeypatch.setattr(type(UPath(tmp_path)), "exists", late)
    found = ArtifactStore(str(tmp_path)).find(ADDRESS)
    assert found is not None and found.suffix == ".parquet"
