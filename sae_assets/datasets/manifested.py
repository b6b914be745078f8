"""A manifest's examples as the data set describes them now, with a hash of each example's files."""

import hashlib
from typing import TYPE_CHECKING

from sae_assets.artifacts import Examples
from sae_assets.datasets.chunking import Manifest
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from sae_assets.datasets.clevr import ClevrReader


def hash_files(manifest: Manifest, reader: "ClevrReader") -> dict[str, str]:
    """sha256 over the files of each example (image and mask), by id.

    Raises:
        DatasetError: examples that the chunk was registered with and that are gone.
    """
    gone = [example for example in manifest.example_ids if example not in reader.by_id]
    if gone:
        raise DatasetError(
            f"Data set {reader.name!r}: chunk {manifest.key} was registered with {len(gone)} example(s) that "
            "metadata.csv no longer names. Put them back; a chunk never changes.",
            gone[:20],
        )
    hashes = {}
    for example in manifest.example_ids:
        digest = hashlib.sha256()
        for path in reader.files(reader.by_id[example].path):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        hashes[example] = digest.hexdigest()
    return hashes


def describe_chunk(manifest: Manifest, reader: "ClevrReader") -> Examples:
    """The ``examples`` artifact of a chunk.

    Raises:
        DatasetError: as :func:`hash_files`.
    """
    import torch

    hashes = hash_files(manifest, reader)
    records = [reader.by_id[example] for example in manifest.example_ids]
    return Examples(
        concepts=tuple(reader.concepts),
        first_index=manifest.first_index,
        example_ids=manifest.example_ids,
        paths=tuple(record.path for record in records),
        file_hashes=tuple(hashes[record.example_id] for record in records),
        splits=tuple(record.split for record in records),
        labels=torch.tensor([record.labels for record in records], dtype=torch.bool).view(len(records), -1),
    )
