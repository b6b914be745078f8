"""Removing a chunk or a whole data set: files, manifests and partitions, after showing what would go.

Aggregates over removed chunks become stale by themselves: their fingerprints name chunks that are no longer there.
Dagster's history of past runs stays, of a whole data set without what they made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sae_assets.chunks.manifests import forget_numbers, manifest_path, read_manifest, remove_manifest
from sae_assets.commands.requests import chunk_keys, chunks_among
from sae_assets.orchestration.history import known_chunks, with_history
from sae_assets.orchestration.partitions import chunks_name, keys_of

if TYPE_CHECKING:
    from upath import UPath

    from sae_assets.commands.session import Session


@dataclass(frozen=True)
class Removal:
    """Removing chunks means their files and manifests, and the model-level files that were made with them.

    ``orphans`` are chunks that Dagster alone knows, because somebody added them in the UI.
    """

    dataset: str
    chunks: Sequence[str]
    files: "Sequence[UPath]" = field(default=())
    manifests: "Sequence[UPath]" = field(default=())
    n_bytes: int = 0
    aggregates: Sequence[str] = ()
    whole: bool = False
    orphans: Sequence[str] = ()

    @property
    def token_kinds(self) -> list[str]:
        """Return the token kinds of the aggregates that become stale: their files lie below data set and token kind."""
        return list(dict.fromkeys(PurePosixPath(path).parts[1] for path in self.aggregates))


def find_removal(
    session: "Session", dataset: str, chunks: Sequence[str] | None, *, unregistered: bool = False
) -> Removal:
    """Return files of these chunks (None: the whole data set, aggregates included), and aggregates that become stale.

    Args:
        unregistered: also whatever Dagster alone lists as a chunk, which may have any name.

    Raises:
        CatalogError: chunks that are not registered, or no numbers.
        StoredFileError: the manifest of one that is to be removed alone is damaged, so that nobody could tell which
            positions it held.
    """
    registered = session.chunks_of(dataset)
    named = None if chunks is None else [*dict.fromkeys(chunk_keys(chunks))]
    orphans = set(known_chunks(session.instance, dataset)) - set(registered)  # added by hand, without a manifest
    orphans &= orphans if named is None or unregistered else set(named)
    among = None if named is None else [key for key in named if key not in orphans]
    chosen = chunks_among(dataset, registered, among)
    for chunk in chosen if chunks is not None else ():
        read_manifest(session.store.root, dataset, chunk)
    folder = session.store.root / dataset
    files, aggregates = [], []
    for path in session.store.files(folder):
        if path.stem in chosen or chunks is None:
            files.append(path)
        elif path.stem == "all":
            aggregates.append(str(path.relative_to(session.store.root)))
    manifests = [manifest_path(session.store.root, dataset, chunk) for chunk in chosen]
    n_bytes = sum(int(path.stat().st_size) for path in [*files, *manifests])
    aggregates = aggregates if chosen else []
    return Removal(dataset, chosen, files, manifests, n_bytes, aggregates, chunks is None, sorted(orphans))


def remove(session: "Session", removal: Removal) -> None:
    """Do what was planned. Partitions go first: an interrupted removal leaves files, never a partition without one.

    Of a whole data set Dagster's history of its assets goes too, so that it can be registered as if it were new.
    """
    for chunk in removal.orphans:
        session.instance.delete_dynamic_partition(chunks_name(removal.dataset), chunk)
    for chunk in removal.chunks:
        session.instance.delete_dynamic_partition(chunks_name(removal.dataset), chunk)
        remove_manifest(session.store.root, removal.dataset, chunk)
    for path in removal.files:
        path.unlink()
    if removal.whole:
        forget_numbers(session.store.root, removal.dataset)
        keys = [key for key, _ in keys_of(session.catalog.datasets[removal.dataset])]
        session.instance.wipe_assets(with_history(session.instance, keys))
