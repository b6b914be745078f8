"""Provenance says what made a file: whether it is up to date, and whether two files may be used together.

The fingerprint covers the stage, its code version, its configuration and what went in; it holds no time and no path,
so the same inputs give the same file.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sae_assets.errors import MismatchError
from sae_assets.package import VERSION


@dataclass(frozen=True)
class Provenance:
    """Identity of one stored artifact.

    Attributes:
        stage, dataset, token_kind, model, chunk: its address; None where a part does not apply.
        code_version: of the stage.
        config: what was configured, as plain values.
        inputs: content hash of every input by name (``unit_mapping``, ``sparse_activations/0003``).
        identity: hashes that files used together must share (``encoder``, ``unit_mapping``), by name.
        producer: version of this package. Not part of the fingerprint: the code version says what changed.
    """

    stage: str
    dataset: str
    token_kind: str | None
    model: str | None
    chunk: str | None
    code_version: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    producer: str = VERSION

    @property
    def fingerprint(self) -> str:
        """Return sha256 over everything but the producer's version."""
        return digest({key: value for key, value in self._plain().items() if key != "producer"})

    def to_json(self) -> dict[str, Any]:
        return {**self._plain(), "fingerprint": self.fingerprint}

    def _plain(self) -> dict[str, Any]:
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return values | {name: dict(values[name]) for name in ("config", "inputs", "identity")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Provenance":
        return cls(**{key: value for key, value in content.items() if key != "fingerprint"})


def digest(content: Any) -> str:
    """Return sha256 of plain values as canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def shared_identity(parts: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Return the identities of all inputs together, given as (input's name, its identity).

    Raises:
        MismatchError: two inputs carry the same identity with different values; both are named, and what to re-run.
    """
    seen: dict[str, tuple[str, str]] = {}
    for name, identity in parts:
        for key, value in identity.items():
            first, other = seen.setdefault(key, (name, value))
            if other != value:
                raise MismatchError(
                    f"{first} and {name} were made with different {key} ({other[:12]} and {value[:12]}) and must not "
                    f"be combined. Materialize {name} again, or {first} if that one is older."
                )
    return {key: value for key, (_, value) in seen.items()}
