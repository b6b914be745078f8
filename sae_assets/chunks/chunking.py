"""Chunks: immutable sequences of whole examples, fixed when they are registered by a manifest.

Planning only: given what is registered and what the data set holds now, which chunks are new. Manifests are
written in ``manifests``, and Dagster is told of them in ``orchestration``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sae_assets.datasets.records import Record
from sae_assets.errors import DatasetError

KEY_DIGITS = 4


@dataclass(frozen=True)
class Manifest:
    """A manifest holds a chunk's key, the data set position of its first example, and the ids in order.

    ``content_hashes`` are those of the images or texts when the chunk was registered, ``region_hashes`` those of the
    masks or spans of each example's concepts. ``splits`` are there where the catalog has them drawn: drawn once, kept
    with the chunk.
    """

    key: str
    first_index: int
    example_ids: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    content_hashes: tuple[str, ...] | None = None
    region_hashes: tuple[dict[str, str], ...] | None = None


def chunk_key(number: int) -> str:
    """Return zero-padded number, so that keys sort as numbers do."""
    return f"{number:0{KEY_DIGITS}d}"


def cut_chunks(
    records: Iterable[Record],
    registered: Sequence[Manifest],
    chunk_size: int,
    *,
    removed: Sequence[Manifest] = (),
    keep_splits: bool = False,
) -> list[Manifest]:
    """Return new chunks for the examples that no registered chunk holds; registered ones are never touched or extended.

    Args:
        removed: chunks that were once registered; their numbers and positions are not given again.
        keep_splits: write each example's split into the manifest (splits that were drawn, not read).

    Raises:
        DatasetError: they are more chunks than there are numbers left.
    """
    registered_ids = {example for manifest in registered for example in manifest.example_ids}
    fresh = [record for record in records if record.example_id not in registered_ids]
    needed = -(-len(fresh) // chunk_size)
    # Behind the last ones ever given, not the number of known ones: a removed chunk leaves a gap, also the last one.
    manifests = [*registered, *removed]
    number = max((int(manifest.key) for manifest in manifests), default=-1) + 1
    first = max((manifest.first_index + len(manifest.example_ids) for manifest in manifests), default=0)
    if number + needed > 10**KEY_DIGITS:
        room = 10**KEY_DIGITS - number
        raise DatasetError(
            f"{len(fresh):,} new examples are {needed:,} chunks of {chunk_size}, but numbers of {KEY_DIGITS} digits "
            f"are left for {room:,} (a number is never given twice). "
            + (
                "Raise `chunk_size` in the catalog."
                if room
                else "Enter the new examples as another data set, or remove this one (sae-assets remove NAME --all) "
                "and register it with a larger `chunk_size`; it is then encoded again."
            )
        )
    parts = [fresh[start : start + chunk_size] for start in range(0, len(fresh), chunk_size)]
    return [
        Manifest(
            key=chunk_key(number + position),
            first_index=first + position * chunk_size,
            example_ids=tuple(record.example_id for record in part),
            splits=tuple(record.split for record in part) if keep_splits else None,
        )
        for position, part in enumerate(parts)
    ]
