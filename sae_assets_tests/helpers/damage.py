"""Random damages of a home: what disks, copies and hands do to files and manifests."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from sae_assets.chunks.manifests import read_manifest_file
from sae_assets.errors import StoredFileError
from sae_assets.storage.store import ArtifactStore

KINDS = ("bit", "byte", "bytes", "cut", "longer", "swap", "copy", "digit", "zeros", "gone")
ENDINGS = (".parquet", ".pt", ".html", ".json")


@dataclass(frozen=True)
class Damage:
    """One damage: what it is, the files that it changes and what they hold then (None: gone)."""

    what: str
    contents: dict[Path, bytes | None]

    def apply(self) -> dict[Path, bytes | None]:
        """Do it; what was there before, to be put back."""
        before = {path: path.read_bytes() if path.exists() else None for path in self.contents}
        put(self.contents)
        return before


def put(contents: dict[Path, bytes | None]) -> None:
    for path, content in contents.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)


def files_of(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.suffix in ENDINGS)


def damages(store: Path, seed: int, n: int) -> Iterator[Damage]:
    """So many damages, each of the home as it is; every one changes what is there."""
    random_ = random.Random(seed)
    paths = files_of(store)
    contents = {path: path.read_bytes() for path in paths}
    for _ in range(n):
        path = random_.choice(paths)
        content = contents[path]
        kind = random_.choice(KINDS)
        if kind == "gone" and random_.random() < 0.6:  # costs a look at everything
            kind = "bit"
        place = random_.randrange(len(content))
        if random_.random() < 0.4:  # headers and footers are small, and what is worth most
            place = max(0, len(content) - 1 - random_.randrange(min(len(content), 4096)))
        changed = bytearray(content)
        if kind == "bit":
            changed[place] ^= 1 << random_.randrange(8)
        elif kind == "byte":
            changed[place] ^= random_.randrange(1, 256)
        elif kind == "bytes":
            stop = min(len(content), place + 1 + random_.randrange(64))
            changed[place:stop] = random_.randbytes(stop - place)
        elif kind == "zeros":
            stop = min(len(content), place + 512)
            changed[place:stop] = bytes(stop - place)
        elif kind == "cut":
            del changed[place:]
        elif kind == "longer":
            changed += random_.randbytes(1 + random_.randrange(32))
        elif kind == "digit":
            digits = [at for at, letter in enumerate(content) if 48 <= letter <= 57]
            at = random_.choice(digits)
            changed[at] = 48 + (changed[at] - 48 + random_.randrange(1, 10)) % 10
        other = random_.choice([each for each in paths if each.suffix == path.suffix])
        if kind in ("swap", "copy"):
            if contents[other] == content:
                continue
            yield Damage(
                f"{kind} {path} {other}", {path: contents[other], **({other: content} if kind == "swap" else {})}
            )
        elif kind == "gone":
            yield Damage(f"{kind} {path}", {path: None})
        elif bytes(changed) != content:
            yield Damage(f"{kind} at {place} of {path}", {path: bytes(changed)})


def is_noticed(damage: Damage, store: ArtifactStore, look_at_all: Callable[[], Mapping[str, str]]) -> bool:
    """Whether reading what was damaged says so, or a look at everything where a file is gone. The damage is undone."""
    before = damage.apply()
    try:
        for path, content in damage.contents.items():
            if content is None:
                if not {str(path), str(path.with_suffix(".parquet"))} & {*look_at_all()}:  # of .pt nobody can know
                    return False
                continue
            try:
                if path.suffix == ".json":
                    read_manifest_file(UPath(path))
                else:
                    store.read_file(UPath(path))
            except StoredFileError:
                continue
            return False
        return True
    finally:
        put(before)


def without_hash(path: Path) -> None:
    """A chunk manifest as earlier versions wrote it."""
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({name: content[name] for name in content if name not in ("sha256", "dataset")}))
