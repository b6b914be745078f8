"""Where checkpoint files lie: a local path, or a hub repository's file in the local cache, fetched only when used."""

import hashlib
from functools import cache
from pathlib import Path

from sae_assets.catalog import Sae
from sae_assets.errors import CheckpointError


def cached_hub_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """The hub file in the local cache, or None; never touches the network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, file, revision=revision)
    except HFValidationError:  # no repository can have this name; a download says so
        return None
    return Path(found) if isinstance(found, str) else None


def locate_sae(sae: Sae, *, download: bool) -> Path | None:
    """The checkpoint file; None if it is only on the hub and ``download`` is false.

    Raises:
        CheckpointError: a local path that does not exist, or a download that failed.
    """
    if sae.path is not None:
        if not sae.path.exists():
            raise CheckpointError(f"SAE checkpoint {sae.path} does not exist. Correct `sae.path` in the catalog.")
        return sae.path
    assert sae.repo and sae.file
    found = cached_hub_file(sae.repo, sae.file, sae.revision)
    if found or not download:
        return found
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(sae.repo, sae.file, revision=sae.revision))
    except Exception as error:  # the hub client raises many kinds; all mean that the file could not be had
        raise CheckpointError(
            f"SAE checkpoint {sae.file} of hub repository {sae.repo} could not be fetched ({type(error).__name__}: "
            f"{error}). Without network, download it elsewhere and set `sae: {{format: {sae.format}, path: …}}`."
        ) from error


def file_hash(path: Path) -> str:
    """sha256 of a file, remembered per process while size and time of change stay the same."""
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash(path: Path, _size: int, _mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
