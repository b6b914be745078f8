"""Chunk manifests on disk: ``<root>/<dataset>/chunks/<key>.json``, written once when a chunk is registered.

Each names its data set and carries the sha256 of what it says; those of earlier versions do neither.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from upath import UPath

from sae_assets.artifacts import SPLITS
from sae_assets.catalog.names import name_of
from sae_assets.chunks.chunking import Manifest, cut_chunks
from sae_assets.datasets.records import Record
from sae_assets.errors import NewerFileError, StoredFileError
from sae_assets.storage.address import Address
from sae_assets.storage.atomic import write_atomically, write_once
from sae_assets.storage.provenance import digest

FOLDER = "chunks"
SCHEMA_VERSION, HASH = 1, "sha256"
MENDED = "sae-assets verify --mend writes it anew where the chunk's files tell what it said"
REMOVED = ".removed"  # stands where a removed chunk's manifest was, so that its number is not given again


def _folder(root: UPath, dataset: str) -> UPath:
    return root.joinpath(*Address(dataset, FOLDER).parts()[:-1])


def manifest_path(root: UPath, dataset: str, key: str) -> UPath:
    """Return where one chunk's manifest lies."""
    Address(dataset, FOLDER, chunk=key).parts()
    return _folder(root, dataset) / f"{key}.json"


def read_manifests(root: UPath, dataset: str) -> list[Manifest]:
    """Return all registered chunks, by key.

    Raises:
        StoredFileError: a manifest that is not what this package writes.
    """
    return [read_manifest_file(path) for path in _manifest_files(root, dataset)]


def read_manifest(root: UPath, dataset: str, key: str) -> Manifest:
    """Return one chunk's manifest.

    Raises:
        StoredFileError: the chunk was never registered.
    """
    path = manifest_path(root, dataset, key)
    if not path.exists():
        raise StoredFileError(
            f"Chunk {key!r} of {dataset} is not registered (no {path}). Register chunks with the sensor "
            f"`{name_of(dataset, 'register_chunks')}` or `sae-assets register`, not by adding a partition by hand."
        )
    return read_manifest_file(path)


def read_manifest_file(path: UPath) -> Manifest:
    """Return the manifest in a file.

    Raises:
        NewerFileError: a newer version wrote it. StoredFileError: it is not what this package wrote there.
    """
    try:
        content = json.loads(path.read_bytes())
        if (version := content.get("schema_version", SCHEMA_VERSION)) != SCHEMA_VERSION:
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise NewerFileError(
                    f"The chunk manifest {path} has schema version {version}, this version of sae_assets reads "
                    f"{SCHEMA_VERSION}: a newer one wrote it. Read the home with that."
                )
            raise ValueError(f"schema version {version}, this version reads {SCHEMA_VERSION}")
        if content.get("dataset", path.parent.parent.name) != path.parent.parent.name:
            raise ValueError(f"it is of data set {content['dataset']!r}, and was put in another's place")
        if {"dataset", HASH} & {*content} and content.get(HASH) != _hash(content):
            raise ValueError("its content is not what its hash says")
        ids = content["example_ids"]
        if not isinstance(ids, list) or not ids or len({*ids}) < len(ids) or not all(isinstance(i, str) for i in ids):
            raise ValueError("example_ids must be a list of different names")
        if content["key"] != path.stem or not path.stem.isdecimal() or int(content["first_index"]) < 0:
            raise ValueError("key must be the file's name, a number, and first_index not negative")
        splits, hashes = content.get("splits"), content.get("content_hashes")
        if splits is not None and (len(splits) != len(ids) or not set(splits) <= set(SPLITS)):
            raise ValueError(f"splits must name one of {', '.join(SPLITS)} per example")
        if hashes is not None and len(hashes) != len(ids):
            raise ValueError("content_hashes must have one entry per example")
        regions = content.get("region_hashes")
        if regions is not None and (len(regions) != len(ids) or not all(isinstance(entry, dict) for entry in regions)):
            raise ValueError("region_hashes must have one entry per example, each by concept")
        if regions is None:  # an earlier version's hashes were of image and regions together: nothing to compare with
            hashes = None
        return Manifest(
            key=content["key"],
            first_index=int(content["first_index"]),
            example_ids=tuple(ids),
            splits=tuple(splits) if splits else None,
            content_hashes=tuple(hashes) if hashes else None,
            region_hashes=tuple(regions) if hashes else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoredFileError(f"The chunk manifest {path} is damaged ({error!r}).", [MENDED]) from None


def write_anew(root: UPath, dataset: str, manifest: Manifest) -> None:
    """Put a manifest in the place of one that is damaged or gone; :func:`register_chunks` never writes over one."""
    write_atomically(manifest_path(root, dataset, manifest.key), _content(manifest, dataset))


def _content(manifest: Manifest, dataset: str) -> bytes:
    """Return what stands in a manifest's file."""
    named = {name: value for name, value in asdict(manifest).items() if value is not None}
    content = {"schema_version": SCHEMA_VERSION, "dataset": dataset, **named}
    return json.dumps({**content, HASH: _hash(content)}, indent=1).encode()


def _hash(content: dict[str, Any]) -> str:
    """Return sha256 of all that a manifest says but its hash."""
    return digest({name: value for name, value in content.items() if name != HASH})


def register_chunks(
    root: UPath,
    dataset: str,
    records: Sequence[Record],
    chunk_size: int,
    *,
    hashes: Callable[[str], tuple[str, dict[str, str]]],
    keep_splits: bool = False,
    limit: int | None = None,
) -> list[Manifest]:
    """Write manifests for examples that no chunk holds yet; all registered chunks, old and new, are returned.

    Two processes that register at once never write the same chunk: the later one sees the other's and plans again.

    Args:
        records: examples that may be registered, in order; those that a chunk holds already are left alone.
        hashes: gives the hashes of an example by id, as it is now (content, regions by concept); kept with the chunk.
        limit: how many new chunks to register at most.
    """
    while True:
        manifests, fresh = chunks_to_be(root, dataset, records, chunk_size, keep_splits=keep_splits)
        fresh = fresh[:limit]
        for position, manifest in enumerate(fresh):
            contents, regions = zip(*map(hashes, manifest.example_ids), strict=True)
            hashed = replace(manifest, content_hashes=contents, region_hashes=regions)
            if not write_once(manifest_path(root, dataset, manifest.key), _content(hashed, dataset)):
                break
            fresh[position] = hashed
        else:
            return [*manifests, *fresh]


def chunks_to_be(
    root: UPath, dataset: str, records: Sequence[Record], chunk_size: int, *, keep_splits: bool = False
) -> tuple[list[Manifest], list[Manifest]]:
    """Return the registered chunks, and those that registering these records would add."""
    manifests = read_manifests(root, dataset)
    removed = removed_manifests(root, dataset)
    return manifests, cut_chunks(records, manifests, chunk_size, removed=removed, keep_splits=keep_splits)


def manifest_files(root: UPath, dataset: str) -> list[UPath]:
    """Return the manifests of registered chunks, and those of removed ones (ending in ``REMOVED``), by key."""
    folder = _folder(root, dataset)
    paths = folder.iterdir() if folder.exists() else ()
    return sorted((path for path in paths if path.suffix in (".json", REMOVED)), key=str)


def _manifest_files(root: UPath, dataset: str) -> list[UPath]:
    return [path for path in manifest_files(root, dataset) if path.suffix != REMOVED]


def registered_keys(root: UPath, dataset: str) -> set[str]:
    """Return keys of the registered chunks, from the names of their manifests alone."""
    return {path.stem for path in _manifest_files(root, dataset)}


def registered_since(root: UPath, dataset: str, when: float) -> set[str]:
    """Return keys of the chunks that were registered after a time in seconds since the epoch."""
    return {path.stem for path in _manifest_files(root, dataset) if path.stat().st_mtime > when}


def removed_manifests(root: UPath, dataset: str) -> list[Manifest]:
    """Return what removed chunks held: their numbers and positions are not given again.

    Raises:
        StoredFileError: as :func:`read_manifests`.
    """
    return [read_manifest_file(path) for path in manifest_files(root, dataset) if path.suffix == REMOVED]


def forget_numbers(root: UPath, dataset: str) -> None:
    """Let numbering begin anew, for a data set that is removed whole, history included."""
    folder = _folder(root, dataset)
    for path in [*folder.iterdir()] if folder.exists() else []:
        if path.suffix == REMOVED:
            path.unlink()


def remove_manifest(root: UPath, dataset: str, key: str) -> None:
    """Forget a registered chunk, but for its number: Dagster's history holds what was made under it."""
    path = manifest_path(root, dataset, key)
    write_atomically(path.with_suffix(REMOVED), path.read_bytes())
    path.unlink()
