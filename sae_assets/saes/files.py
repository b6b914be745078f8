"""Checkpoint files lie at a local path, or are a hub repository's in the local cache, fetched only when used.

Nothing here reads weights or needs torch: the command line asks for places and hashes of checkpoints that it will not
open. Which of Gemma Scope's ``average_l0_*`` is meant is decided in ``average_l0``.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NoReturn

from sae_assets.catalog import Sae
from sae_assets.catalog.registry import SaeFormat, formats
from sae_assets.errors import CheckpointError
from sae_assets.saes.average_l0 import PLACEHOLDER, cached_l0, choose_l0, listed_l0, local_l0


def cached_hub_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """Return the hub file in the local cache, or None; never touches the network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        location = try_to_load_from_cache(repo, file, revision=revision)
    except HFValidationError:  # no repository can have this name; a download says so
        return None
    return Path(location) if isinstance(location, str) else None


def locate_sae(sae: Sae, *, download: bool) -> Path | None:
    """Return the checkpoint: a file, or the folder of a format that is one; None if it is only on the hub.

    Args:
        download: fetch what is not in the cache, and ask the hub which ``average_l0_*`` there are.

    Raises:
        CheckpointError: a local path that does not exist or holds no such checkpoint, an ``average_l0`` that is not
            there (the message lists those that are), or a download that failed.
    """
    return _local(sae, sae.path) if sae.path is not None else _hub(sae, download)


def _local(sae: Sae, path: Path) -> Path:
    if not path.exists():
        raise CheckpointError(f"SAE checkpoint {path} does not exist. Correct `sae.path` in the catalog.")
    kind = formats()[sae.format]
    if path.is_file():
        if path.name in kind.files:
            path = path.parent
        elif kind.files and not _is_single(path, kind):
            raise CheckpointError(
                f"SAE checkpoint {path} is a file, but format {sae.format} is a folder with {' and '.join(kind.files)}"
                f"{f', or a {kind.single}' if kind.single else ''}. Correct `sae.path` in the catalog."
            )
    if kind.by_l0:
        path = _of_one_l0(sae, path, kind)
    return path / kind.single if kind.single and (path / kind.single).is_file() else path


def _is_single(path: Path | PurePosixPath, kind: SaeFormat) -> bool:
    """Return whether a file stands in place of the format's folder: told by its ending, for it may be called
    otherwise."""
    return kind.single is not None and path.suffix == PurePosixPath(kind.single).suffix


def _of_one_l0(sae: Sae, path: Path, kind: SaeFormat) -> Path:
    """Return the folder or file of the average L0 that the catalog means, which may be the path itself."""
    if path.is_dir() and not any((path / name).is_file() for name in (kind.single, *kind.files[1:]) if name):
        return path / f"average_l0_{choose_l0(sae.average_l0, local_l0(path), path)}"
    named = (path.parent if path.is_file() else path).name
    if isinstance(sae.average_l0, int) and named.startswith("average_l0_") and named[11:] != str(sae.average_l0):
        raise CheckpointError(
            f"`sae.average_l0` is {sae.average_l0}, but `sae.path` {path} is {named} already. Give the folder "
            "above it, or leave `average_l0` out."
        )
    return path


def _hub(sae: Sae, download: bool) -> Path | None:
    assert sae.repo and sae.file
    file, kind = PurePosixPath(sae.file), formats()[sae.format]
    if kind.single and file.name.startswith("average_l0_"):
        file /= kind.single
    if PLACEHOLDER in sae.file:
        l0 = _hub_l0(sae, sae.repo, str(file), download)
        if l0 is None:
            return None
        file = PurePosixPath(str(file).replace(PLACEHOLDER, str(l0)))
    elif isinstance(sae.average_l0, int) and f"average_l0_{sae.average_l0}" not in file.parts:
        raise CheckpointError(
            f"`sae.average_l0` is {sae.average_l0}, but `sae.file` {sae.file} has no {PLACEHOLDER} to put it in."
        )
    if not kind.files or _is_single(file, kind):
        paths = _fetch(sae, [str(file)], download)
        return paths[0] if paths else None
    folder = file.parent if file.name in kind.files else file
    paths = _fetch(sae, [str(folder / name) for name in kind.files], download)
    return paths[0].parent if paths else None


def _hub_l0(sae: Sae, repo: str, file: str, download: bool) -> int | None:
    """Choose from the hub's own list if it is available, else from the cache, so that a fetched file is found offline.

    An ``average_l0`` that the catalog names needs no list.
    """
    if isinstance(sae.average_l0, int):
        return sae.average_l0
    cached = cached_l0(repo, file, sae.revision)
    if not download:
        return choose_l0(sae.average_l0, cached, repo) if cached else None
    try:
        numbers = listed_l0(repo, file, sae.revision)
    except Exception as error:  # the hub client raises many kinds; all mean that there is no list
        if cached:
            return choose_l0(sae.average_l0, cached, repo)
        _cannot_be_fetched(sae, file, error)
    return choose_l0(sae.average_l0, numbers, f"{file} of hub repository {repo}")


def _fetch(sae: Sae, files: Sequence[str], download: bool) -> list[Path] | None:
    """Return all files from the cache, or those that are missing from the hub; None if some are missing and stay so."""
    from huggingface_hub import hf_hub_download

    assert sae.repo
    paths = [cached_hub_file(sae.repo, file, sae.revision) for file in files]
    if not download and None in paths:
        return None
    for position, file in enumerate(files):
        if paths[position] is None:
            try:
                paths[position] = Path(hf_hub_download(sae.repo, file, revision=sae.revision))
            except Exception as error:  # the hub client raises many kinds; all mean that the file could not be had
                _cannot_be_fetched(sae, file, error)
    return [path for path in paths if path is not None]


def _cannot_be_fetched(sae: Sae, file: str, error: Exception) -> NoReturn:
    raise CheckpointError(
        f"SAE checkpoint {file} of hub repository {sae.repo} could not be fetched ({type(error).__name__}: {error}). "
        f"Without network, download it elsewhere and set `sae: {{format: {sae.format}, path: …}}`."
    ) from error


def sae_hash(path: Path) -> str:
    """Return identity of a checkpoint as :func:`locate_sae` gives it: the file's sha256, or one over a folder's files.

    In a folder, only the files that its format names count, so that a note beside them changes nothing.

    Raises:
        CheckpointError: a folder without any of them.
    """
    if not path.is_dir():
        return file_hash(path)
    names = sorted({name for kind in formats().values() for name in kind.files if (path / name).is_file()})
    if not names:
        raise CheckpointError(f"SAE checkpoint {path} is a folder without the files of any known format.")
    lines = "".join(f"{name} {file_hash(path / name)}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file, remembered per process while size and time of change stay the same."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash(path: Path, _size: int, _mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
