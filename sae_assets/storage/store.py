"""The store: artifacts by address, written atomically, verified when read.

``Stored`` pairs an artifact with its provenance. Many chunks of one stage are ``chunk_reader``'s, what was read lately
is ``kept_reads``'. Formats live in ``parquet`` and ``pt``; Dagster's IO manager is a thin shell around this.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from upath import UPath

from sae_assets import storage
from sae_assets.artifacts import Artifact
from sae_assets.errors import ArtifactError, NotMaterializedError, StoredFileError
from sae_assets.storage import footers
from sae_assets.storage.address import Address, address_at, path_of
from sae_assets.storage.atomic import TEMPORARY_PREFIX, is_local, write_atomically
from sae_assets.storage.header import Header
from sae_assets.storage.kept_reads import KeptReads
from sae_assets.storage.provenance import Provenance

if TYPE_CHECKING:
    import pyarrow as pa

A = TypeVar("A", bound=Artifact)
B = TypeVar("B")
MOST_LOOKS = 3  # for a file that is not where it was a moment ago
FORMATS = ("parquet", "pt")  # names of modules of this package, and the endings of their files
PLACE = ("stage", "dataset", "token_kind", "model", "chunk")  # fields of an address, as headers have them
ENDINGS = (*FORMATS, "html")  # pages have a format of their own, whatever is chosen for tables


@dataclass(frozen=True)
class Stored(Generic[A]):
    """An artifact and what made it; ``sealed`` and ``counts`` as in the header of its file."""

    artifact: A
    provenance: Provenance
    content_hash: str
    sealed: bool = field(default=True, compare=False)
    counts: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FileInPlace:
    """An artifact that is in the store and is handed on as it is: nothing is written."""

    item: Stored


@dataclass(frozen=True)
class Glance:
    """The header of a file, where it lies, how many rows its table has, and the first of them."""

    header: Header
    path: UPath
    n_rows: int
    head: "pa.Table"


@dataclass(frozen=True)
class WrittenFile:
    """An artifact went to this file and takes so many bytes."""

    path: UPath
    n_bytes: int


def stored(artifact: A, provenance: Provenance, counts: Mapping[str, Any] | None = None) -> Stored[A]:
    """Pair an artifact with its provenance and its stage's figures, and hash its content."""
    return Stored(artifact, provenance, artifact.content_hash(), counts=counts)


def _module(extension: str) -> ModuleType:
    """Return the module of a format, which is loaded when its first file is read or written."""
    if extension == "pt":
        return storage.pt
    return storage.html if extension == "html" else storage.parquet


def _header_of(path: UPath) -> Header:
    """Return the header of a file alone, without what is loaded to read the rest of it."""
    if path.suffix == ".parquet":
        return footers.load_header(path)
    header: Header = _module(path.suffix[1:]).load_header(path)
    return header


def place_of(source: Address | Provenance) -> dict[str, Any]:
    """Return the fields of an address, in the order in which headers have them."""
    return {name: getattr(source, name) for name in PLACE}


def expect_place(provenance: Provenance, address: Address, path: UPath) -> None:
    """See that a file lies where it was written.

    Raises:
        StoredFileError: it is the file of another address.
    """
    actual = Address(**place_of(provenance))
    if actual != address:
        raise StoredFileError(f"{path} holds {actual}, not {address}: it was put in another's place.")


class ArtifactStore:
    """Artifacts under one root.

    Args:
        root: a path or any fsspec URL.
        file_format: ``parquet``, or ``pt`` for the kinds that have such a form (others stay Parquet).
        kept_bytes: of chunks that were read, kept in memory for those who read them again.

    Raises:
        StoredFileError: an unknown format.
    """

    def __init__(self, root: str, file_format: str = "parquet", kept_bytes: int = 0):
        if file_format not in FORMATS:
            raise StoredFileError(f"Unknown format {file_format!r}; expected one of {', '.join(FORMATS)}.")
        self.root = UPath(root)
        self.file_format = file_format
        self._kept = KeptReads[Stored](kept_bytes)

    def find(self, address: Address) -> UPath | None:
        """The file at an address, in whichever format it was written; None if there is none."""
        first, *others = ENDINGS
        path = path_of(self.root, address, first)
        paths = [path, *(path.with_suffix(f".{ending}") for ending in others)]
        files = [path for path in paths if path.exists()]
        if not files and is_local(self.root):  # or one was written, and the other removed, between two of the looks
            files = [path for path in paths if path.exists()]
        # Both are there only if a run was killed between writing one and removing the other: the later one counts.
        return max(files, key=lambda path: path.stat().st_mtime) if len(files) > 1 else next(iter(files), None)

    def write(self, address: Address, item: Stored) -> WrittenFile:
        """Write one artifact; a file of the same address in another format is removed after it."""
        artifact = item.artifact
        form = "pt" if self.file_format == "pt" and artifact.kind in storage.pt.KINDS else "parquet"
        form = "html" if artifact.kind in storage.html.KINDS else form

        def header(scalars: dict) -> Header:
            return Header(artifact.kind, item.content_hash, scalars, item.provenance, counts=item.counts)

        path = path_of(self.root, address, form)
        if form == "parquet" and storage.parquet.is_streamed(artifact.kind):
            write_atomically(path, lambda file: storage.parquet.write(artifact, header, file))
        else:
            write_atomically(path, _module(form).dump(artifact, header))
        for other in ENDINGS:
            twin = path_of(self.root, address, other)
            if other != form and twin.exists():
                twin.unlink()
        return WrittenFile(path, int(path.stat().st_size))

    def read(self, address: Address, *, hashed: bool = False) -> Stored:
        """Read and verify one artifact: all bytes by its seal, and its invariants.

        Args:
            hashed: read the file in any case, and compute the content hash anew, too. A seal says that all bytes are as
                they were when its checks did so from them. A file without a seal is always hashed.

        Raises:
            StoredFileError: missing, damaged (the seal, the content hash or an invariant is broken), the file of
                another address, or of another schema; the command that makes it again is named.
        """
        return self._of_file(address, lambda path: self._read(path, address, hashed))

    def _of_file(self, address: Address, load: Callable[[UPath], B]) -> B:
        """Return what is read from an address, though its file may be written anew in another format meanwhile."""
        for _ in range(MOST_LOOKS - 1):
            try:
                return load(self._existing(address))
            except FileNotFoundError:
                self.look_again(address)
        return load(self._existing(address))

    def look_again(self, address: Address) -> None:
        """Forget where the file of an address was, if that is remembered at all."""

    def glance(self, address: Address, n: int) -> "Glance | None":
        """Return what a sealed Parquet file says of itself, and its first ``n`` rows; None where only :meth:`read` can
        tell.

        All its bytes are as they were written, by its seal; the artifact, whose invariants and content hash held then,
        is not built, so that torch is not needed.

        Raises:
            StoredFileError: as :meth:`read`, but for what is not a matter of bytes.
        """

        def load(path: UPath) -> Glance | None:
            if path.suffix[1:] != "parquet":
                return None
            with self._remedied(path, address):
                header, n_rows, head = storage.parquet.load_head(path, n)
                expect_place(header.provenance, address, path)
            return Glance(header, path, n_rows, head) if header.sealed and header.counts is not None else None

        return self._of_file(address, load)

    def _read(self, path: UPath, address: Address | None, hashed: bool) -> Stored:
        artifact = None if hashed else self._kept.get(path)
        if artifact is not None:
            return artifact
        version = self._kept.version(path)
        with self._remedied(path, address):
            item = self._verified(path, hashed)
            if address is not None:
                expect_place(item.provenance, address, path)
        if address is not None and address.chunk is not None:  # what passes read again and again
            self._kept.keep(path, version, item)
        return item

    @contextmanager
    def _remedied(self, path: UPath, address: Address | None) -> Iterator[None]:
        """Add to what is wrong with a file how it is made again."""
        try:
            yield
        except StoredFileError as error:
            raise StoredFileError(str(error), [self._remedy(path, address)] if address else []) from None

    @staticmethod
    def _remedy(path: UPath, address: Address) -> str:
        """Return how to make a damaged file again: where its header is whole it counts as current, so only by
        --force."""
        try:
            imported = _header_of(path).provenance.config.get("imported")
        except OSError:
            imported = False
        return f"Import it again: {address.importing}" if imported else f"Run: {address.remaking}"

    @staticmethod
    def _verified(path: UPath, hashed: bool) -> Stored:
        try:
            artifact, header = _module(path.suffix[1:]).load_file(path)
            sha256 = artifact.content_hash() if hashed or not header.sealed else header.content_hash
        except ArtifactError as error:
            raise StoredFileError(f"{path} is damaged.", [str(error)]) from None
        if sha256 != header.content_hash:
            raise StoredFileError(
                f"{path} is damaged: its content hash is {sha256[:12]}, its header says {header.content_hash[:12]}."
            )
        return Stored(artifact, header.provenance, header.content_hash, header.sealed, header.counts)

    def header(self, address: Address) -> Header:
        """Return the header alone, cheaply where the format allows. Raises: as :meth:`read`, of the header."""

        def load(path: UPath) -> Header:
            header = _header_of(path)
            expect_place(header.provenance, address, path)
            return header

        return self._of_file(address, load)

    def holds(self, address: Address, content_hash: str | None) -> bool:
        """Return whether there is an artifact of this content hash, or none where None is given. Raises: as
        :meth:`header`."""

        def load(path: UPath) -> bool:
            if content_hash is None or path.suffix != ".parquet":
                return False
            return footers.has_content(path, content_hash, place_of(address))

        try:
            return self._of_file(address, load) or self.header(address).content_hash == content_hash
        except NotMaterializedError:
            return content_hash is None

    def size(self, address: Address) -> int:
        """Return bytes of the file at an address."""
        return self.written(address).n_bytes

    def written(self, address: Address) -> WrittenFile:
        """Return the file at an address, as :meth:`write` returned it."""
        path = self._existing(address)
        return WrittenFile(path, int(path.stat().st_size))

    def read_file(self, path: UPath) -> Stored:
        """Read and verify a file by its path, as :meth:`read` does, its content hash computed anew."""
        return self._read(path, address_at(self.root, path), hashed=True)

    def _existing(self, address: Address) -> UPath:
        path = self.find(address)
        if path is None:
            raise NotMaterializedError(
                f"{address} has not been materialized: there is no {path_of(self.root, address, 'parquet')}. "
                f"Run: {address.making}"
            )
        return path

    def files(self, folder: UPath | None = None) -> Iterator[UPath]:
        """Yield every data file under the root (or one folder of it); temporary files of killed runs are left out."""
        folder = self.root if folder is None else folder
        if folder.exists():
            for path in sorted(folder.rglob("*"), key=str):
                if path.suffix[1:] in ENDINGS and not path.name.startswith(TEMPORARY_PREFIX):
                    yield path
