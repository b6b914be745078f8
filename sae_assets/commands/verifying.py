"""Every file and manifest of a home is read back, and compared with Dagster's record of what was made.

No history is needed for the first part: a home whose databases are damaged, locked or gone can be looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Catalog, load_catalog
from sae_assets.chunks.chunking import chunk_key
from sae_assets.chunks.contents import registered_as
from sae_assets.chunks.manifests import REMOVED, manifest_files, manifest_path, read_manifest_file, write_anew
from sae_assets.errors import HistoryError, NewerFileError, NotMaterializedError, SaeAssetsError
from sae_assets.orchestration.history import known_chunks, recorded_versions, running_artifacts, was_imported
from sae_assets.orchestration.instance.home import history_if_there
from sae_assets.pipeline.planning import Scope
from sae_assets.pipeline.recipes import is_imported
from sae_assets.pipeline.stages import ORDER, STAGES
from sae_assets.settings import load_settings
from sae_assets.storage import html
from sae_assets.storage.address import Address, address_at, path_of
from sae_assets.storage.atomic import leftovers
from sae_assets.storage.store import ArtifactStore

if TYPE_CHECKING:
    from upath import UPath

    from sae_assets.catalog import Dataset
    from sae_assets.chunks.chunking import Manifest
    from sae_assets.commands.session import Session
    from sae_assets.orchestration.instance.home import Instance
    from sae_assets.storage.store import Stored


ANEW = "It can be written anew from the chunk's examples and labels. Run: sae-assets verify --mend"
BACKUP = "Nothing here can make it again: restore it from a backup, or begin anew after sae-assets remove {} --all"


@dataclass
class Verified:
    """A verification tells what was read and what was found.

    Attributes:
        files: stored files that were read; manifests: of chunks, removed ones among them.
        damaged: the problem of each file or manifest by path, also of one that is not there.
        remade: addresses of the damaged files that can be made again.
        rewritten: manifests that are damaged or gone and can be written anew, by data set.
        unsealed: files of an earlier version, which carry no hash of all their bytes.
        leftovers: temporary files of killed processes.
        orphans: by data set, partitions that Dagster has and no manifest: added by hand.
        not_compared: why Dagster's record was not compared with; empty if it was.
    """

    files: int = 0
    manifests: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    remade: "list[Address]" = field(default_factory=list)
    rewritten: "dict[str, list[Manifest]]" = field(default_factory=dict)
    unsealed: "list[UPath]" = field(default_factory=list)
    leftovers: "list[UPath]" = field(default_factory=list)
    orphans: dict[str, Sequence[str]] = field(default_factory=dict)
    not_compared: str = ""

    @property
    def mendable(self) -> bool:
        """Return whether :func:`mend` has anything to do."""
        return bool(self.remade or self.rewritten or self.unsealed or self.leftovers)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values, paths as texts."""
        plain = {name: getattr(self, name) for name in ("files", "manifests", "damaged", "orphans", "not_compared")}
        return {**plain, **{name: [str(path) for path in getattr(self, name)] for name in ("unsealed", "leftovers")}}


def verify_home(home: Path | None = None, catalog: Path | None = None) -> Verified:
    """:func:`verify` of a home folder, with its history if that can be opened. Raises: CatalogError, and the same."""
    settings = load_settings(home, catalog)
    entries, store = load_catalog(settings.catalog), ArtifactStore(settings.store)
    try:
        with history_if_there(settings) as (instance, reason):
            verified = verify(store, entries, instance)
    except HistoryError as error:  # while it was read
        verified, reason = verify(store, entries, None), str(error)
    verified.not_compared = reason
    return verified


def verify(store: ArtifactStore, catalog: Catalog, instance: "Instance | None") -> Verified:
    """Read everything back; with an instance, compare with what it says was made.

    Raises:
        NotMaterializedError: there is nothing to read: an empty home, or another than was meant.
    """
    verified = Verified(leftovers=list(leftovers(store.root)))
    hashes = dict(_read_files(store, instance, verified))
    keys_with_files: dict[str, set[str]] = {}
    for address in hashes:
        keys_with_files.setdefault(address.dataset, set()).update([address.chunk] if address.chunk else [])
    datasets = [folder.name for folder in store.root.iterdir()] if store.root.exists() else []
    chunks = {
        name: _read_manifests(store, catalog.datasets.get(name), name, keys_with_files.get(name, set()), verified)
        for name in sorted(datasets)
    }
    if not verified.files and not verified.manifests:
        raise NotMaterializedError(
            f"There is nothing to verify in {store.root}: no file and no chunk. Was another --home meant?"
        )
    for dataset in catalog.datasets if instance is not None else ():
        assert instance is not None
        registered = chunks.get(dataset, set())
        orphans = sorted(set(known_chunks(instance, dataset)) - registered - keys_with_files.get(dataset, set()))
        if orphans:
            verified.orphans[dataset] = orphans
        _compare(store, catalog, instance, dataset, registered, hashes, verified)
    return verified


def _read_files(
    store: ArtifactStore, instance: "Instance | None", verified: Verified
) -> "Iterator[tuple[Address, str]]":
    """Return address and content hash of every sound file."""
    seen: set[Address] = set()
    for path in store.files():
        address = address_at(store.root, path)
        if address in seen:  # listed in both formats, while it was written anew
            continue
        verified.files += 1
        try:
            item = _read_listed(store, path, address)
            if item is None:
                verified.files -= 1
                continue
            if address is not None:
                seen.add(address)
                yield address, item.content_hash
            if not item.sealed:
                verified.unsealed.append(path)
        except SaeAssetsError as error:
            verified.damaged[str(path)] = str(error)
            if address is not None and _can_be_made(store, instance, address):
                verified.remade.append(address)


def _read_listed(store: ArtifactStore, path: "UPath", address: Address | None) -> "Stored | None":
    """Return a file that was there a moment ago, also where it is written in the other format since; None: it was
    removed.

    Raises:
        StoredFileError: as :meth:`ArtifactStore.read`.
    """
    try:
        return store.read_file(path)
    except FileNotFoundError:
        try:
            return None if address is None else store.read(address, hashed=True)
        except NotMaterializedError:
            return None


def _can_be_made(store: ArtifactStore, instance: "Instance | None", address: Address) -> bool:
    """Return whether a stage makes it: not of what was imported, or may have been while nobody can tell."""
    if address.stage not in STAGES:
        return False
    if address.stage != "sparse_activations":
        return True
    try:
        return not is_imported(store.header(address).provenance)
    except SaeAssetsError:
        return instance is not None and not was_imported(instance, address)


def _read_manifests(
    store: ArtifactStore, entry: "Dataset | None", dataset: str, with_files: set[str], verified: Verified
) -> set[str]:
    """Return keys of the registered chunks. Numbers go from 0 without a gap, those of removed chunks among them.

    Args:
        made: chunks of which there are files.
    """
    keys = {path.stem: path for path in manifest_files(store.root, dataset)}
    lost: dict[str, tuple[UPath, str]] = {}
    for key, path in keys.items():
        verified.manifests += 1
        try:
            read_manifest_file(path)
        except NewerFileError as error:  # nothing that it says is lost, and nothing is written in its place
            verified.damaged[str(path)] = str(error)
            verified.remade = [each for each in verified.remade if each.dataset != dataset]
        except SaeAssetsError as error:
            lost[key] = (path, str(error).splitlines()[0])
    numbers = {int(key) for key in keys if key.isdecimal()}
    gaps = {chunk_key(number) for number in set(range(max(numbers, default=-1) + 1)) - numbers}
    for key in sorted(gaps | (with_files - {*keys})):
        path = manifest_path(store.root, dataset, key)
        lost[key] = (path, f"{path} is not there, though the chunk was made.")
    for key, (path, problem) in lost.items():
        manifest = _manifest_from_files(store, entry, dataset, key) if path.suffix != REMOVED else None
        if manifest is not None:
            verified.rewritten.setdefault(dataset, []).append(manifest)
        else:  # what stands on it cannot be made, and beside one that is there and damaged nothing can
            of = [key] if not path.exists() else [key, None, *keys]
            verified.remade = [each for each in verified.remade if each.dataset != dataset or each.chunk not in of]
        verified.damaged[str(path)] = f"{problem} {BACKUP.format(dataset) if manifest is None else ANEW}"
    return {key for key, path in keys.items() if path.suffix != REMOVED} | {
        manifest.key for manifest in verified.rewritten.get(dataset, ())
    }


def _manifest_from_files(store: ArtifactStore, entry: "Dataset | None", dataset: str, key: str) -> "Manifest | None":
    """Return the manifest that a chunk's files were made from; None where they do not tell."""
    if entry is None:  # whether its splits were drawn stands in the catalog
        return None
    try:
        examples, labels = (store.read(Address(dataset, stage, chunk=key)).artifact for stage in ("examples", "labels"))
    except SaeAssetsError:
        return None
    if examples.example_ids != labels.example_ids or examples.first_index != labels.first_index:
        return None
    return registered_as(key, examples, labels, keep_splits=entry.split is not None)


def _compare(
    store: ArtifactStore,
    catalog: Catalog,
    instance: "Instance",
    dataset: str,
    chunks: set[str],
    hashes: dict[Address, str],
    verified: Verified,
) -> None:
    """Compare with Dagster's record: what it recorded as made must be there, with the content that it recorded."""
    entry = catalog.datasets[dataset]
    running = running_artifacts(instance, dataset)
    for address, version in recorded_versions(instance, entry):
        registered = address.chunk is None or address.chunk in chunks
        if not registered or address in running or (address.model is not None and address.model not in entry.models):
            continue
        path = store.find(address)
        if path is None:
            path = path_of(store.root, address, "html" if address.stage in html.KINDS else "parquet")
            verified.damaged[str(path)] = f"{path} is not there, and was made once. Run: {address.remaking}"
        elif address in hashes and not hashes[address].startswith(version):
            verified.damaged[str(path)] = (
                f"{path} is whole, but not what Dagster recorded: its content hash begins with "
                f"{hashes[address][: len(version)]}, the record says {version}. Run: {address.remaking}"
            )
        else:
            continue
        if _can_be_made(store, instance, address):
            verified.remade.append(address)


def mend(session: "Session", verified: Verified) -> int:
    """Remove what is damaged and make it again, seal files of earlier versions, remove leftovers; runs made.

    What was imported is left, and so are manifests of which no files tell: nothing here can make them again.

    Raises:
        RunFailedError: a run failed. What was done stays.
    """
    store = session.store
    for dataset, manifests in verified.rewritten.items():
        for manifest in manifests:
            write_anew(store.root, dataset, manifest)
    for path in verified.leftovers:
        path.unlink(missing_ok=True)
    for path in verified.unsealed:
        address = address_at(store.root, path)
        if address is not None and address not in verified.remade:
            as_it_is = "pt" if path.suffix == ".pt" else "parquet"
            ArtifactStore(str(store.root), as_it_is).write(address, store.read(address))
    scopes = []
    registered = {dataset: session.chunks_of(dataset) for dataset in {address.dataset for address in verified.remade}}
    for stage in ORDER:
        for address in (each for each in verified.remade if each.stage == stage):
            damaged = store.find(address)
            if damaged is not None:
                damaged.unlink()
            kinds, models = [address.token_kind or ""], [address.model or ""]
            chunks = [address.chunk] if address.chunk else registered[address.dataset]
            scopes.append(Scope(address.dataset, models, kinds, chunks, [stage]))
    if not scopes:
        return 0
    n_runs, _ = session.runner(registered, force=True).run(scopes)
    return n_runs
