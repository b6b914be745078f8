"""The header that every stored file carries: schema version, kind, scalars, provenance and content hash, as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae_assets.errors import StoredFileError
from sae_assets.storage.provenance import Provenance

SCHEMA_VERSION = 1
KEY = "sae_assets"
SEAL = "sha256"  # how files are sealed (``seal``); files of earlier versions are not


@dataclass(frozen=True)
class Header:
    """A header stands in a file besides its columns or tensors.

    Attributes:
        sealed: whether a seal must stand there too; counts: the stage's figures of the artifact, for who only looks
            (``show``). Files of earlier versions have neither.
    """

    kind: str
    content_hash: str
    scalars: Mapping[str, Any]
    provenance: Provenance
    sealed: bool = True
    counts: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        counts = {} if self.counts is None else {"counts": _plain(self.counts)}
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "seal": SEAL,
                "kind": self.kind,
                "content_hash": self.content_hash,
                **counts,
                "scalars": _plain(self.scalars),
                "provenance": self.provenance.to_json(),
            },
            allow_nan=False,
        )


def states(footer: bytes, content_hash: str, fields: Mapping[str, Any]) -> bool:
    """Return whether a sealed file's footer holds a header of this content and place, given as the address's fields.

    It is looked for as :class:`Header` writes it, and not parsed, which takes several times as long. Names and hashes
    are plain, so that JSON escapes nothing in them.
    """
    pairs = (f'"{name}": null' if part is None else f'"{name}": "{part}"' for name, part in fields.items())
    content = f'"seal": "{SEAL}", "kind": "{fields["stage"]}", "content_hash": "{content_hash}"'
    return content.encode() in footer and ", ".join(pairs).encode() in footer


def read_header(text: bytes | str | None, where: str) -> Header:
    """Parse a header.

    Raises:
        StoredFileError: the header is missing, damaged, or of another schema version; the message says what to do.
    """
    if text is None:
        raise StoredFileError(f"{where} was not written by sae_assets (it has no {KEY!r} header).")
    try:
        content = json.loads(text)
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise StoredFileError(
                f"{where} has schema version {version}, this version of sae_assets reads {SCHEMA_VERSION}. "
                "Materialize it again." + _newer(version, content)
            )
        provenance = Provenance.from_json(content["provenance"])
        header = Header(
            content["kind"],
            content["content_hash"],
            _restored(content["scalars"]),
            provenance,
            "seal" in content,
            _restored(content["counts"]) if "counts" in content else None,
        )
        if content["provenance"]["fingerprint"] != provenance.fingerprint:
            raise StoredFileError(f"{where} has a damaged header (fingerprint). Materialize it again.")
        return header
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoredFileError(f"{where} has a damaged header ({error!r}). Materialize it again.") from None


def _newer(version: Any, content: Any) -> str:
    """Return what else can be done with a file of a later version than this one."""
    if not isinstance(version, int) or version < SCHEMA_VERSION:
        return ""
    provenance = content.get("provenance")
    producer = provenance.get("producer") if isinstance(provenance, dict) else None
    return f" Or read it with the version that wrote it, sae_assets {producer or 'of a later release'}."


def _plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return float(value["float"]) if set(value) == {"float"} else {key: _restored(p) for key, p in value.items()}
    return [_restored(part) for part in value] if isinstance(value, list) else value
