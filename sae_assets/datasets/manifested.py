"""A manifest's examples as the data set describes them now, with the content hashes they were registered with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sae_assets.artifacts import Examples
from sae_assets.datasets.chunking import Manifest
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from sae_assets.datasets.reader import Reader

WHAT_TO_DO = (
    "Restore the files: a chunk never changes. If the new contents are right, remove the chunk (sae-assets remove "
    "{dataset} --chunks {chunk} --yes), which lets its examples be registered anew."
)


def _expect_all(manifest: Manifest, reader: "Reader") -> None:
    gone = [example for example in manifest.example_ids if example not in reader.by_id]
    if gone:
        raise DatasetError(
            f"Data set {reader.name!r}: chunk {manifest.key} was registered with {len(gone)} example(s) that "
            f"the data set no longer names. Put them back, or remove the chunk (sae-assets remove {reader.name} "
            f"--chunks {manifest.key}); a chunk never changes.",
            gone[:20],
        )


def registered_hashes(manifest: Manifest, reader: "Reader") -> dict[str, tuple[str, Mapping[str, str]]]:
    """Content hash and region hashes by concept of each example when it was registered, by id.

    Raises:
        DatasetError: examples that the chunk was registered with and that are gone.
    """
    _expect_all(manifest, reader)
    if manifest.content_hashes is None:  # a manifest of an earlier version: what is there now counts
        return {example: reader.hashes(example) for example in manifest.example_ids}
    registered = zip(manifest.content_hashes, manifest.region_hashes or (), strict=True)
    return dict(zip(manifest.example_ids, registered, strict=True))


def changes_since(manifest: Manifest, reader: "Reader", *, regions: bool = True) -> dict[str, str]:
    """What happened to each example that is no longer what was registered, by id, in words.

    Labels may be corrected and concepts added: masks and spans are compared of those concepts that were true when the
    chunk was registered and are true now.

    Args:
        regions: look at masks and spans too, not at images and texts alone.

    Raises:
        OSError: a file is there and cannot be read.
    """
    found = {}
    pinned = zip(manifest.content_hashes or (), manifest.region_hashes or (), strict=True)
    for example, (content, where) in zip(manifest.example_ids, pinned, strict=manifest.content_hashes is not None):
        try:
            if example not in reader.by_id:
                found[example] = "vanished from the table"
            elif reader.content_hash(example) != content:
                found[example] = "changed"
            elif regions:
                now = reader.region_hashes(example)
                moved = [concept for concept, each in where.items() if now.get(concept, each) != each]
                if moved:
                    found[example] = f"changed where it shows {', '.join(moved)}"
        except (FileNotFoundError, NotADirectoryError, DatasetError):
            found[example] = "vanished"
    return found


def expect_contents(manifest: Manifest, reader: "Reader", *, regions: bool = True) -> None:
    """Refuse to read a chunk whose images or texts (masks or spans) are no longer what was registered.

    Stages that open an example's files call this first, so that no result is made from other contents, whoever asked
    for it and whatever became of the check of ``examples``.

    Raises:
        DatasetError: naming every example, its file and what happened to it. OSError: as :func:`changes_since`.
    """
    changes = changes_since(manifest, reader, regions=regions)
    if changes:
        paths = {example: reader.by_id[example].path for example in changes if example in reader.by_id}
        raise DatasetError(
            f"Data set {reader.name!r}, chunk {manifest.key}: {len(changes)} of {len(manifest.example_ids)} examples "
            f"are not what was registered. {WHAT_TO_DO.format(dataset=reader.name, chunk=manifest.key)}",
            [
                f"{example} ({paths[example]}) {what}" if example in paths else f"{example} {what}"
                for example, what in list(changes.items())[:20]
            ],
        )


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
        file_hashes=tuple(hashes[record.example_id][0] for record in records),
        splits=splits_of(manifest, reader),
        labels=torch.tensor([record.labels for record in records], dtype=torch.bool).view(len(records), -1),
    )
