"""One stored artifact as a person looks at it: where it lies, what made it, its figures and first rows."""

from pathlib import Path
from typing import Any

from sae_assets.catalog import load_catalog, match_name
from sae_assets.chunks.manifests import read_manifests
from sae_assets.commands.plain import plain
from sae_assets.commands.requests import chunk_keys, chunks_among, token_kinds_among
from sae_assets.errors import CatalogError, SaeAssetsError
from sae_assets.pipeline.stages import STAGES
from sae_assets.settings import load_settings
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets.storage.parquet import to_table
from sae_assets.storage.store import ArtifactStore, Glance


def show(
    home: Path | None,
    catalog_file: Path | None,
    dataset: str,
    model: str,
    stage: str,
    token_kind: str | None,
    chunk: str | None,
    rows: int,
) -> dict[str, Any]:
    """Return address, provenance, counts and first rows of one stored artifact; Dagster's history is not needed.

    Raises:
        CatalogError: a catalog with mistakes, or a name that is not in it; SaeAssetsError: nothing is there.
    """
    settings = load_settings(home, catalog_file)
    catalog, store = load_catalog(settings.catalog), ArtifactStore(settings.store)
    dataset = match_name(dataset, catalog.datasets, "data set")
    model = match_name(model, catalog.models, "model")
    stage = match_name(stage, STAGES, "stage")
    token_kind = token_kinds_among(catalog, dataset, [token_kind] if token_kind else ())[0]
    level, chunks = STAGES[stage].level, [manifest.key for manifest in read_manifests(store.root, dataset)]
    if level == "model" and chunk is not None:
        raise CatalogError(f"--chunk: {stage} is one table over all chunks; leave it out.")
    if level != "model":
        key = chunks_among(dataset, chunks, chunk_keys([chunk], "--chunk"))[0] if chunk is not None else None
        options: list[str | None] = [key] if key else [*chunks]
    else:
        options = [None]
    places = [STAGES[stage].address(dataset, token_kind, model, key) for key in options]
    stored = [address for address in places if store.find(address) is not None]
    if not stored:
        first = places[0] if places else STAGES[stage].address(dataset, token_kind, model)
        raise SaeAssetsError(f"{first} has not been materialized. Run: {first.making}")
    seen = store.glance(stored[0], rows) or _artifact_in(store, stored[0], rows)
    return {
        "address": str(stored[0]),
        "file": str(seen.path),
        "bytes": int(seen.path.stat().st_size),
        "rows": seen.n_rows,
        "counts": plain(dict(seen.header.counts or {})),
        "fingerprint": seen.header.provenance.fingerprint,
        "config": plain(dict(seen.header.provenance.config)),
        "head": plain(seen.head.to_pylist()),
    }


def _artifact_in(store: ArtifactStore, address: Address, rows: int) -> Glance:
    """Return the same of a file whose artifact has to be built for that: a ``.pt``, a page, one of an earlier
    version."""
    item, written = store.read(address), store.written(address)
    table, _ = to_table(item.artifact)
    counts = STAGES[address.stage].counts(item.artifact) if item.counts is None else item.counts
    header = Header(item.artifact.kind, item.content_hash, {}, item.provenance, item.sealed, counts)
    return Glance(header, written.path, len(table), table[:rows])
