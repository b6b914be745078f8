"""Figures of the chunks around a chunk, from their headers alone, to compare it with.

No payload is read and no folder is listed, so a run costs the same however many chunks there are.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sae_assets.chunks.chunking import chunk_key
from sae_assets.errors import StoredFileError
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from sae_assets.storage.header import Header
    from sae_assets.storage.store import ArtifactStore

REACH = 12  # chunk numbers to either side


def summaries_around(store: "ArtifactStore", address: Address, encoder: str | None) -> dict[str, tuple[float, ...]]:
    """Return by figure what the headers of the nearest chunks by number say; up to ``REACH`` to either side.

    Left out are chunks of another encoder (they are stale, or this one is an experiment), files of earlier versions,
    which have no summary, files in ``.pt``, whose header cannot be read alone, and damaged ones.

    Args:
        address: of the chunk, which is not compared with itself; encoder: identity that the others must share.
    """
    assert address.chunk is not None
    number = int(address.chunk)
    figures: dict[str, list[float]] = {}
    for other in range(max(number - REACH, 0), number + REACH + 1):
        header = None if other == number else _header(store, replace(address, chunk=chunk_key(other)))
        if header is None or header.provenance.identity.get("encoder") != encoder:
            continue
        summary: Any = header.scalars.get("summary", {})
        for name, value in summary.items():
            figures.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in figures.items()}


def _header(store: "ArtifactStore", address: Address) -> "Header | None":
    path = store.find(address)
    if path is None or path.suffix == ".pt":
        return None
    try:
        return store.header(address)
    except (StoredFileError, OSError):  # whoever reads that chunk is told; here it is no neighbour
        return None
