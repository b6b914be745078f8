"""A manifest's examples as the data set describes them now, with the content hashes they were registered with."""

from typing import TYPE_CHECKING

from sae_assets.artifacts import Examples
from sae_assets.datasets.chunking import Manifest
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from sae_assets.datasets.reader import Reader


def _expect_all(manifest: Manifest, reader: "Reader") -> None:
    gone = [example for example in manifest.example_ids if example not in reader.by_id]
    if gone:
        raise DatasetError(
            f"Data set {reader.name!r}: chunk {manifest.key} was registered with {len(gone)} example(s) that "
            f"the data set no longer names. Put them back, or remove the chunk (sae-assets remove {reader.name} "
            f"--chunks {manifest.key}); a chunk never changes.",
            gone[:20],
        )


def registered_hashes(manifest: Manifest, reader: "Reader") -> dict[str, str]:
    """sha256 over the content of each example (image and masks, text and spans) when it was registered, by id.

    Raises:
        DatasetError: examples that the chunk was registered with and that are gone.
    """
    _expect_all(manifest, reader)
    if manifest.content_hashes is None:  # a manifest of an earlier version: what is there now counts
        return {example: reader.content_hash(example) for example in manifest.example_ids}
    return dict(zip(manifest.example_ids, manifest.content_hashes, strict=True))


def changes_since(manifest: Manifest, reader: "Reader") -> dict[str, str]:
    """What happened to each example that is no longer what was registered, by id: ``changed`` or ``vanished``."""
    if manifest.content_hashes is None:
        return {}
    found = {}
    for example, registered in zip(manifest.example_ids, manifest.content_hashes, strict=True):
        try:
            if example not in reader.by_id:
                found[example] = "vanished"
            elif reader.content_hash(example) != registered:
                found[example] = "changed"
        except (OSError, DatasetError):
            found[example] = "vanished"
    return found


def splits_of(manifest: Manifest, reader: "Reader") -> tuple[str, ...]:
    """Split of each example: as drawn when the chunk was registered, else as the data set says."""
    return manifest.splits or tuple(reader.by_id[example].split for example in manifest.example_ids)


def describe_chunk(manifest: Manifest, reader: "Reader") -> Examples:
    """The ``examples`` artifact of a chunk.

    Raises:
        DatasetError: as :func:`registered_hashes`.
    """
    import torch

    hashes = registered_hashes(manifest, reader)
    records = [reader.by_id[example] for example in manifest.example_ids]
    return Examples(
        concepts=tuple(reader.concepts),
        first_index=manifest.first_index,
        example_ids=manifest.example_ids,
        paths=tuple(record.path for record in records),
        file_hashes=tuple(hashes[record.example_id] for record in records),
        splits=splits_of(manifest, reader),
        labels=torch.tensor([record.labels for record in records], dtype=torch.bool).view(len(records), -1),
    )
