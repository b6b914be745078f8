"""Finding a checkpoint: local paths, the local cache, and no network unless it is asked for."""

import hashlib
import socket
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from sae_assets.catalog import Sae
from sae_assets.errors import CheckpointError
from sae_assets.saes.files import cached_hub_file, file_hash, locate_sae

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


def put_in_cache(cache: Path, commit: str = COMMIT, reference: str = "main") -> Path:
    """The hub file as the hub's client leaves it."""
    file = cache / "models--someone--saes/snapshots" / commit / "folder/sae.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    (cache / "models--someone--saes/refs").mkdir(exist_ok=True)
    (cache / "models--someone--saes/refs" / reference).write_text(commit)
    return file


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
