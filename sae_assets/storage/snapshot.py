"""A store as it was when it was first asked: one listing per folder, one look at each header.

For looks over many addresses (status, the plan of a backfill); what is written meanwhile is not seen. On an object
store it spares two requests per address.
"""

from collections.abc import Mapping

from upath import UPath

from sae_assets.storage.address import Address
from sae_assets.storage.atomic import TEMPORARY_PREFIX
from sae_assets.storage.header import Header
from sae_assets.storage.store import ENDINGS, ArtifactStore


class StoreSnapshot(ArtifactStore):
    """The artifacts of a store, each folder listed once."""

    def __init__(self, store: ArtifactStore):
        super().__init__(str(store.root), store.file_format)
        self.root = store.root
        self._folders: dict[tuple[str, ...], Mapping[str, UPath]] = {}
        self._headers: dict[Address, Header] = {}

    def find(self, address: Address) -> UPath | None:
        *folders, stem = address.parts()
        path = tuple(folders)
        if path not in self._folders:
            self._folders[path] = _listed(self.root.joinpath(*path))
        return self._folders[path].get(stem)

    def look_again(self, address: Address) -> None:
        self._folders.pop(address.parts()[:-1], None)

    def header(self, address: Address) -> Header:
        if address not in self._headers:
            self._headers[address] = super().header(address)
        return self._headers[address]


def _listed(folder: UPath) -> Mapping[str, UPath]:
    files: dict[str, UPath] = {}
    for path in folder.iterdir() if folder.exists() else ():
        stem, _, ending = path.name.rpartition(".")
        if ending not in ENDINGS or stem.startswith(TEMPORARY_PREFIX):
            continue
        twin = files.get(stem)  # in both formats only if a run was killed in between: the later one counts
        if twin is None or path.stat().st_mtime > twin.stat().st_mtime:
            files[stem] = path
    return files
