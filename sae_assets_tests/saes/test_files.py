"""Finding a checkpoint: local paths, the local cache, and no network unless it is asked for."""

import hashlib
import socket
from pathlib import Path, PurePosixPath

import huggingface_hub
import huggingface_hub.constants
import pytest

from sae_assets.catalog import Sae
from sae_assets.errors import CheckpointError
from sae_assets.saes.files import cached_hub_file, file_hash, locate_sae, sae_hash

HUB = Sae(format="clipscope", repo="someone/saes", file="folder/sae.pt")
COMMIT = "0123456789012345678901234567890123456789"


@pytest.fixture(autouse=True)
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to reach a network, none of which succeeds; names are not looked up either."""
    tried: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        tried.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_in_cache(cache: Path, commit: str = COMMIT, reference: str = "main", file: str = "folder/sae.pt") -> Path:
    """A hub file as the hub's client leaves it."""
    path = cache / "models--someone--saes/snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    (cache / "models--someone--saes/refs").mkdir(exist_ok=True)
    (cache / "models--someone--saes/refs" / reference).write_text(commit)
    return path


def test_local_path_is_itself(tmp_path: Path) -> None:
    """A local file is given back whether or not downloads are allowed."""
    path = tmp_path / "sae.pt"
    path.write_bytes(b"x")
    for download in (False, True):
        assert locate_sae(Sae(format="clipscope", path=path), download=download) == path


@pytest.mark.parametrize("download", [False, True])
def test_missing_local_path_names_the_key(tmp_path: Path, download: bool) -> None:
    """A path that is not there: the path and the catalog's key."""
    path = tmp_path / "nowhere.pt"
    with pytest.raises(CheckpointError, match=r"`sae\.path`") as caught:
        locate_sae(Sae(format="clipscope", path=path), download=download)
    assert str(path) in str(caught.value)


def test_without_download_a_hub_entry_is_none_and_nothing_is_reached(attempts: list[object]) -> None:
    """A file that is only on the hub: None, and no socket is ever opened."""
    assert locate_sae(HUB, download=False) is None
    assert cached_hub_file("someone/saes", "folder/sae.pt") is None
    assert attempts == []


@pytest.mark.parametrize("download", [False, True])
def test_cached_hub_file_is_found_without_network(cache: Path, attempts: list[object], download: bool) -> None:
    """A file that was fetched before is found, also when downloads are allowed, without asking the hub."""
    file = put_in_cache(cache)
    assert locate_sae(HUB, download=download) == file
    assert attempts == []


def test_only_the_named_revision_is_taken(cache: Path) -> None:
    """Another revision in the cache is another file."""
    put_in_cache(cache, reference="v1")
    assert locate_sae(HUB, download=False) is None
    assert locate_sae(HUB.model_copy(update={"revision": "v1"}), download=False) is not None
    assert locate_sae(HUB.model_copy(update={"revision": COMMIT}), download=False) is not None


@pytest.mark.parametrize(
    "failure", [OSError("no route to host"), ValueError("bad token"), RuntimeError("LocalEntryNotFound")]
)
def test_failed_download_says_what_to_set(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    """Whatever the hub's client raises becomes one error: file, repository, cause, and the local alternative."""

    def fails(*_: object, **__: object) -> str:
        raise failure

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails)
    with pytest.raises(CheckpointError) as caught:
        locate_sae(HUB, download=True)
    message = str(caught.value)
    for part in ("folder/sae.pt", "someone/saes", type(failure).__name__, str(failure)):
        assert part in message
    assert "Without network" in message and "sae: {format: clipscope, path: …}" in message
    assert caught.value.__cause__ is failure


def test_real_client_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own client, told to stay offline, ends in the same error."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="Without network"):
        locate_sae(HUB, download=True)


def test_download_asks_for_the_named_file_and_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Repository, file and revision reach the hub's client as the catalog has them."""
    asked = []

    def gives(*arguments: object, **named: object) -> str:
        asked.append((arguments, named))
        return str(tmp_path / "fetched.pt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gives)
    assert locate_sae(HUB.model_copy(update={"revision": "v1"}), download=True) == tmp_path / "fetched.pt"
    assert asked == [(("someone/saes", "folder/sae.pt"), {"revision": "v1"})]


@pytest.mark.parametrize("repo", ["a/b/c", "a b/c", "..", "http://hub/someone/saes"])
def test_repository_that_is_no_name_is_a_checkpoint_error(repo: str) -> None:
    """A name that the hub's client refuses: None without download, and a clear error with it."""
    sae = HUB.model_copy(update={"repo": repo})
    assert locate_sae(sae, download=False) is None
    with pytest.raises(CheckpointError):
        locate_sae(sae, download=True)


def test_hash_is_the_files_own(tmp_path: Path) -> None:
    """sha256 of the content, and a changed file has another."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert file_hash(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert file_hash(path) == hashlib.sha256(b"three").hexdigest()


def test_hash_of_a_folder_is_over_the_formats_files(tmp_path: Path) -> None:
    """Settings and weights count, by name and content; a note beside them does not."""
    (tmp_path / "cfg.json").write_text("{}")
    (tmp_path / "sae.safetensors").write_bytes(b"weights")
    first = sae_hash(tmp_path)
    lines = f"cfg.json {file_hash(tmp_path / 'cfg.json')}\nsae.safetensors {file_hash(tmp_path / 'sae.safetensors')}\n"
    assert first == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "README.md").write_text("note")
    assert sae_hash(tmp_path) == first
    (tmp_path / "cfg.json").write_text('{"k": 1}')
    second = sae_hash(tmp_path)
    (tmp_path / "sae.safetensors").rename(tmp_path / "sae_weights.safetensors")
    assert len({first, second, sae_hash(tmp_path)}) == 3


def test_hash_of_a_file_is_the_files_own(tmp_path: Path) -> None:
    """Checkpoints that are one file keep the hash that they had before there were folders."""
    (tmp_path / "sae.pt").write_bytes(b"weights")
    assert sae_hash(tmp_path / "sae.pt") == file_hash(tmp_path / "sae.pt")


def test_a_folder_of_no_format_has_no_hash(tmp_path: Path) -> None:
    """An empty identity would be the same for all such folders."""
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="without the files of any known format"):
        sae_hash(tmp_path)


@pytest.mark.parametrize(("kind", "weights"), [("saelens", "sae_weights.safetensors"), ("sparsify", "sae.safetensors")])
def test_folders_and_files_in_them(tmp_path: Path, kind: str, weights: str) -> None:
    """The folder, or either of its files, is the folder; another file is refused by name."""
    (tmp_path / "cfg.json").write_text("{}")
    (tmp_path / weights).write_bytes(b"")
    for path in (tmp_path, tmp_path / weights, tmp_path / "cfg.json"):
        assert locate_sae(Sae(format=kind, path=path), download=False) == tmp_path
    (tmp_path / "sae.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=rf"sae\.pt is a file, but format {kind} is a folder with cfg\.json and"):
        locate_sae(Sae(format=kind, path=tmp_path / "sae.pt"), download=False)


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("saelens", ("cfg.json", "sae_weights.safetensors")),
        ("sparsify", ("cfg.json", "sae.safetensors")),
        ("gemmascope", ("config.json", "params.safetensors")),
    ],
)
@pytest.mark.parametrize("folder", ["resid_post/layer_3", "."])
def test_hub_folders_are_fetched_whole(
    cache: Path, monkeypatch: pytest.MonkeyPatch, attempts: list[object], kind: str, files: tuple[str, str], folder: str
) -> None:
    """Only the format's files, only those that are missing, and none of them without leave to download."""
    asked: list[str] = []

    def gives(_repo: str, file: str, *, revision: str | None) -> str:
        asked.append(file)
        return str(put_in_cache(cache, file=file))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gives)
    for spelt in (folder, str(PurePosixPath(folder) / files[0]), str(PurePosixPath(folder) / files[1])):
        sae = HUB.model_copy(update={"format": kind, "file": spelt})
        assert (locate_sae(sae, download=False) is None) == (spelt == folder)
        found = locate_sae(sae, download=True)
        assert found == cache / "models--someone--saes/snapshots" / COMMIT / folder
        assert asked == [str(PurePosixPath(folder) / name) for name in files]  # once, not for every spelling
        assert locate_sae(sae, download=False) == found
    (found / files[0]).unlink()
    assert locate_sae(sae, download=False) is None
    locate_sae(sae, download=True)
    assert asked[2:] == [str(PurePosixPath(folder) / files[0])]
    assert attempts == []
