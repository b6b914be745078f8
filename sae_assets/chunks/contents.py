"""A manifest's examples as the data set describes them now, with the content hashes they were registered with."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sae_assets.artifacts import Examples
from sae_assets.chunks.chunking import Manifest
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
            f"the data set no longer names, or names wrongly (sae-assets check {reader.name}). Put them back, or "
            f"remove the chunk (sae-assets remove {reader.name} --chunks {manifest.key} --yes); a chunk never changes.",
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


def changes_since(manifest: Manifest, reader: "Reader") -> dict[str, str]:
    """What happened to each example that is no longer what was registered, by id, in words.

    Labels may be corrected and concepts added: masks and spans are compared of those concepts that were true when the
    chunk was registered and are true now.

    Raises:
        OSError: a file is there and cannot be read.
    """
    if manifest.content_hashes is None:
        return {}
    return _changes(manifest.example_ids, manifest.content_hashes, manifest.region_hashes or (), reader)


def expect_contents(chunk: Examples, key: str, reader: "Reader", *, regions: bool) -> None:
    """Refuse to read images or texts (masks and spans) that are not those of the chunk's ``examples``.

    Stages that open an example's files call this first, so that no result is made from other contents, whoever asked
    for it and whatever became of the check of ``examples``.

    Raises:
        DatasetError: naming every example, its file and what happened to it. OSError: as :func:`changes_since`.
    """
    where = [json.loads(each) for each in chunk.region_hashes] if regions else [{}] * len(chunk)
    changes = _changes(chunk.example_ids, chunk.file_hashes, where, reader)
    if changes:
        paths = dict(zip(chunk.example_ids, chunk.paths, strict=True))
        raise DatasetError(
            f"Data set {reader.name!r}: {len(changes)} of {len(chunk)} examples of chunk {key} are not what was "
            f"registered. {WHAT_TO_DO.format(dataset=reader.name, chunk=key)}",
            [f"{example} ({paths[example]}) {what}" for example, what in list(changes.items())[:20]],
        )


def _changes(
    ids: Sequence[str], contents: Sequence[str], regions: Sequence[Mapping[str, str]], reader: "Reader"
) -> dict[str, str]:
    found = {}
    for example, content, where in zip(ids, contents, regions, strict=True):
        try:
            if example not in reader.by_id:
                found[example] = "vanished from the table, or its row is wrong"
            elif reader.content_hash(example) != content:
                found[example] = "changed"
            elif where:
                now = reader.region_hashes(example)
                moved = [concept for concept, each in where.items() if concept in now and now[concept] != each]
                if moved:
                    found[example] = f"changed where it shows {', '.join(moved)}"
        except (FileNotFoundError, NotADirectoryError):
            found[example] = "vanished"
        except DatasetError as error:
            found[example] = f"cannot be read: {error}".splitlines()[0]
    return found


def splits_of(manifest: Manifest, reader: "Reader") -> tuple[str, ...]:
    """Split of each example: as drawn when the chunk was registered, else as the data set says."""
    return manifest.splits or tuple(reader.by_id[example].split for example in manifest.example_ids)


def _regions(reader: "Reader", example: str, pinned: Mapping[str, str]) -> str:
    """Hashes of the regions of the concepts that are true now, as JSON: as registered, or of later ones as they are."""
    true = reader.true_concepts(example)
    now = {} if set(true) <= set(pinned) else reader.region_hashes(example)
    found = {concept: pinned[concept] if concept in pinned else now[concept] for concept in true}
    return json.dumps(found, sort_keys=True, ensure_ascii=False)


def describe_chunk(manifest: Manifest, reader: "Reader") -> Examples:
    """The ``examples`` artifact of a chunk.

    Raises:
        DatasetError: as :func:`registered_hashes`.
    """
    import torch

    hashes = registered_hashes(manifest, reader)
    records = [reader.by_id[example] for example in manifest.example_ids]
    regions = [_regions(reader, example, pinned) for example, (_, pinned) in hashes.items()]
    return Examples(
        concepts=tuple(reader.concepts),
        first_index=manifest.first_index,
        example_ids=manifest.example_ids,
        paths=tuple(record.path for record in records),
        file_hashes=tuple(hashes[record.example_id][0] for record in records),
        region_hashes=tuple(regions),
        splits=splits_of(manifest, reader),
        labels=torch.tensor([record.labels for record in records], dtype=torch.bool).view(len(records), -1),
    )
