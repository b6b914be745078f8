"""A manifest's examples as the data set describes them now, with the content hashes they were registered with.

Contents (images and texts) belong to ``examples``, regions (masks and spans) and what they locate to ``labels``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from sae_assets.artifacts import Examples, Labels
from sae_assets.chunks.chunking import Manifest
from sae_assets.errors import DatasetError
from sae_assets.storage.provenance import digest

if TYPE_CHECKING:
    from sae_assets.datasets.reader import Reader

T = TypeVar("T")
WHAT_TO_DO = (
    "Restore the files: a chunk never changes. If the new contents are right, remove the chunk (sae-assets remove "
    "{dataset} --chunks {chunk} --yes), which lets its examples be registered anew."
)


def _expect_all(manifest: Manifest, reader: "Reader") -> None:
    gone = [example for example in manifest.example_ids if example not in reader.by_id]
    if gone:
        raise DatasetError(
            f"Data set {reader.name!r}: chunk {manifest.key} was registered with {len(gone)} example(s) that "
            f"the data set no longer names, or names wrongly (sae-assets inspect {reader.name}). Put them back, or "
            f"remove the chunk (sae-assets remove {reader.name} --chunks {manifest.key} --yes); a chunk never changes.",
            gone[:20],
        )


def registered_contents(manifest: Manifest, reader: "Reader") -> tuple[str, ...]:
    """Return content hash of each example when it was registered, in the manifest's order.

    Raises:
        DatasetError: examples that the chunk was registered with are gone.
    """
    _expect_all(manifest, reader)
    if manifest.content_hashes is None:  # a manifest of an earlier version: what is there now counts
        return tuple(reader.content_hash(example) for example in manifest.example_ids)
    return manifest.content_hashes


def registered_regions(manifest: Manifest, reader: "Reader") -> tuple[Mapping[str, str], ...]:
    """Return region hashes by concept of each example when it was registered, in the manifest's order.

    Raises:
        DatasetError: as :func:`registered_contents`.
    """
    _expect_all(manifest, reader)
    if manifest.region_hashes is None:
        return tuple(reader.region_hashes(example) for example in manifest.example_ids)
    return manifest.region_hashes


def changed_contents(manifest: Manifest, reader: "Reader") -> dict[str, str]:
    """Return what happened to each example whose image or text is no longer what was registered, by id, in words.

    Raises:
        OSError: a file is there and cannot be read.
    """
    return _changes(manifest.example_ids, manifest.content_hashes, _content_change, reader)


def changed_regions(manifest: Manifest, reader: "Reader") -> dict[str, str]:
    """Return what happened to each example whose masks or spans are no longer what was registered, by id, in words.

    Labels may be corrected and concepts added: masks and spans are compared of those concepts that were true when the
    chunk was registered and are true now.

    Raises:
        OSError: a file is there and cannot be read.
    """
    return _changes(manifest.example_ids, manifest.region_hashes, _region_change, reader)


def expect_contents(chunk: Examples, key: str, reader: "Reader", labels: Labels | None = None) -> None:
    """Refuse to read images or texts that are not those of the chunk's ``examples``.

    Stages that open an example's files call this first, so that no result is made from other contents, whoever asked
    for it and whatever became of the checks of ``examples`` and ``labels``.

    Args:
        labels: of the same chunk, where masks or spans are read too: they must be those of ``labels``.

    Raises:
        DatasetError: contents differ; every example is named with its file and what happened to it.
        OSError: as :func:`changed_contents`.
    """
    changes = {}
    if labels is not None:
        regions = [json.loads(hashes) for hashes in labels.region_hashes]
        changes = _changes(labels.example_ids, regions, _region_change, reader)
    changes |= _changes(chunk.example_ids, chunk.file_hashes, _content_change, reader)
    if changes:
        lines = [
            f"{example} ({path}) {changes[example]}"
            for example, path in zip(chunk.example_ids, chunk.paths, strict=True)
            if example in changes
        ]
        raise DatasetError(
            f"Data set {reader.name!r}: {len(changes)} of {len(chunk)} examples of chunk {key} are not what was "
            f"registered. {WHAT_TO_DO.format(dataset=reader.name, chunk=key)}",
            lines[:20],
        )


def _content_change(reader: "Reader", example: str, content: str) -> str:
    return "" if reader.content_hash(example) == content else "changed"


def _region_change(reader: "Reader", example: str, regions: Mapping[str, str]) -> str:
    now = reader.region_hashes(example) if regions else {}
    moved = [concept for concept, region_hash in regions.items() if concept in now and now[concept] != region_hash]
    return f"changed where it shows {', '.join(moved)}" if moved else ""


def _changes(
    ids: Sequence[str], registered: Sequence[T] | None, look: Callable[["Reader", str, T], str], reader: "Reader"
) -> dict[str, str]:
    """Return what ``look`` says of each example that is not as registered (None: an earlier version registered
    nothing)."""
    changes = {}
    for example, was in zip(ids, registered, strict=True) if registered is not None else ():
        try:
            gone = "" if example in reader.by_id else "vanished from the table, or its row is wrong"
            what = gone or look(reader, example, was)
        except (FileNotFoundError, NotADirectoryError):
            what = "vanished"
        except DatasetError as error:
            what = f"cannot be read: {error}".splitlines()[0]
        if what:
            changes[example] = what
    return changes


def splits_of(manifest: Manifest, reader: "Reader") -> tuple[str, ...]:
    """Split of each example: as drawn when the chunk was registered, else as the data set says."""
    return manifest.splits or tuple(reader.by_id[example].split for example in manifest.example_ids)


def _regions(reader: "Reader", example: str, pinned: Mapping[str, str]) -> str:
    """Return region hashes of the concepts that are true now, as JSON: as registered, or as they are for later
    concepts."""
    true = reader.true_concepts(example)
    now = {} if set(true) <= set(pinned) else reader.region_hashes(example)
    regions = {concept: pinned[concept] if concept in pinned else now[concept] for concept in true}
    return json.dumps(regions, sort_keys=True, ensure_ascii=False)


def describe_examples(manifest: Manifest, reader: "Reader") -> Examples:
    """Return the ``examples`` artifact of a chunk.

    Raises:
        DatasetError: as :func:`registered_contents`.
    """
    contents = registered_contents(manifest, reader)
    return Examples(
        first_index=manifest.first_index,
        example_ids=manifest.example_ids,
        paths=tuple(reader.by_id[example].path for example in manifest.example_ids),
        file_hashes=contents,
    )


def describe_labels(manifest: Manifest, reader: "Reader") -> Labels:
    """Return the ``labels`` artifact of a chunk.

    Raises:
        DatasetError: as :func:`registered_contents`, or masks and spans that cannot be read.
    """
    import torch

    pinned = zip(manifest.example_ids, registered_regions(manifest, reader), strict=True)
    regions = tuple(_regions(reader, example, hashes) for example, hashes in pinned)
    labels = [reader.by_id[example].labels for example in manifest.example_ids]
    return Labels(
        concepts=tuple(reader.concepts),
        first_index=manifest.first_index,
        example_ids=manifest.example_ids,
        splits=splits_of(manifest, reader),
        labels=torch.tensor(labels, dtype=torch.bool, device="cpu").view(len(labels), -1),
        region_hashes=regions,
    )


def registered_as(key: str, examples: Examples, labels: Labels, *, keep_splits: bool) -> Manifest:
    """Return the manifest that a chunk's ``examples`` and ``labels`` were made from, should it be lost.

    Where labels were corrected since, masks and spans are known of the concepts that are true now.

    Args:
        keep_splits: they were drawn, so the manifest has them.
    """
    return Manifest(
        key=key,
        first_index=examples.first_index,
        example_ids=examples.example_ids,
        splits=labels.splits if keep_splits else None,
        content_hashes=examples.file_hashes,
        region_hashes=tuple(json.loads(hashes) for hashes in labels.region_hashes),
    )


def examples_hash(manifest: Manifest, reader: "Reader") -> str:
    """Hash of what an ``examples`` chunk is made from: the manifest, its paths and the hashes of its contents.

    Raises:
        DatasetError: as :func:`registered_contents`.
    """
    contents = registered_contents(manifest, reader)
    paths = [reader.by_id[example].path for example in manifest.example_ids]
    return digest([manifest.key, manifest.first_index, manifest.example_ids, paths, contents])


def labels_hash(manifest: Manifest, reader: "Reader") -> str:
    """Hash of what a ``labels`` chunk is made from besides its ``examples``: splits, labels and hashes of regions.

    Raises:
        DatasetError: as :func:`registered_contents`.
    """
    regions = registered_regions(manifest, reader)
    labels = [reader.by_id[example].labels for example in manifest.example_ids]
    return digest([reader.concepts, splits_of(manifest, reader), labels, regions])
