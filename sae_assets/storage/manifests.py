"""Chunk manifests on disk: ``<root>/<dataset>/chunks/<key>.json``, written once when a chunk is registered."""

import json

from upath import UPath

from sae_assets.datasets.chunking import Manifest, plan_chunks
from sae_assets.datasets.records import Record
from sae_assets.errors import StoredFileError
from sae_assets.storage.atomic import write_atomically
from sae_assets.storage.layout import Address

FOLDER = "chunks"


def _folder(root: UPath, dataset: str) -> UPath:
    return root.joinpath(*Address(dataset, FOLDER).parts()[:-1])


def read_manifests(root: UPath, dataset: str) -> list[Manifest]:
    """All registered chunks, by key.

    Raises:
        StoredFileError: a manifest that is not what this package writes.
    """
    folder = _folder(root, dataset)
    if not folder.exists():
        return []
    return [_read(path) for path in sorted(folder.iterdir(), key=str) if path.suffix == ".json"]


def read_manifest(root: UPath, dataset: str, key: str) -> Manifest:
    """One chunk's manifest.

    Raises:
        StoredFileError: the chunk was never registered.
    """
    Address(dataset, FOLDER, chunk=key).parts()
    path = _folder(root, dataset) / f"{key}.json"
    if not path.exists():
        raise StoredFileError(
            f"Chunk {key!r} of {dataset} is not registered (no {path}). Register chunks with the sensor "
            f"`register_{dataset}_chunks` or `sae-assets register`, not by adding a partition by hand."
        )
    return _read(path)


def _read(path: UPath) -> Manifest:
    try:
        content = json.loads(path.read_bytes())
        ids = content["example_ids"]
        if not isinstance(ids, list) or not ids or len({*ids}) < len(ids) or not all(isinstance(i, str) for i in ids):
            raise ValueError("example_ids must be a list of different names")
        if content["key"] != path.stem or not path.stem.isdecimal() or int(content["first_index"]) < 0:
            raise ValueError("key must be the file's name, a number, and first_index not negative")
        return Manifest(content["key"], int(content["first_index"]), tuple(ids))
    except (ValueError, KeyError, TypeError) as error:
        raise StoredFileError(f"The chunk manifest {path} is damaged ({error!r}).") from None


def register_chunks(root: UPath, dataset: str, records: list[Record], chunk_size: int) -> list[Manifest]:
    """Write manifests for examples that no chunk holds yet; all registered chunks, old and new, are returned."""
    known = read_manifests(root, dataset)
    fresh = plan_chunks(records, known, chunk_size)
    for manifest in fresh:
        content = {
            "key": manifest.key,
            "first_index": manifest.first_index,
            "example_ids": list(manifest.example_ids),
        }
        write_atomically(_folder(root, dataset) / f"{manifest.key}.json", json.dumps(content, indent=1).encode())
    return [*known, *fresh]
