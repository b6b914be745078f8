"""Provenance of a stage from its inputs: one function for the assets that write it and the CLI that checks it.

An asset calls it with what Dagster loaded, the command line with headers read from the store; the fingerprints agree
exactly when nothing that matters has changed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.stages import Stage
from sae_assets.storage.layout import Address
from sae_assets.storage.provenance import Provenance, digest, shared_identity

if TYPE_CHECKING:
    from sae_assets.datasets.chunking import Manifest
    from sae_assets.datasets.records import Record
    from sae_assets.storage.header import Header
    from sae_assets.storage.store import ChunkReader, Stored

    Input = Header | Stored | ChunkReader


def _identity_of(part: "Header | Stored") -> dict[str, str]:
    """What files used beside this one must share with it: what it was made with, and what it is itself."""
    identity = dict(part.provenance.identity)
    if part.provenance.stage == "unit_mapping":
        identity["unit_mapping"] = part.content_hash
    if part.provenance.stage == "examples":
        identity[f"examples/{part.provenance.chunk}"] = part.content_hash
    return identity


def provenance_of(
    stage: Stage,
    address: Address,
    inputs: Mapping[str, "Input"],
    config: Mapping[str, Any],
    *,
    identity: Mapping[str, str] | None = None,
    outside: Mapping[str, str] | None = None,
) -> Provenance:
    """The provenance of one stage at one address.

    Args:
        inputs: per stage name one artifact (or its header), or a reader of many chunks.
        config: what changes the result, as plain values.
        identity: what this stage adds that files used together must share (the encoder).
        outside: hashes of what is read from outside the store (data set files), by name.

    Raises:
        MismatchError: inputs that were made with different models, mappings or examples.
    """
    hashes: dict[str, str] = dict(outside or {})
    parts: list[tuple[str, Mapping[str, str]]] = []
    for name, item in inputs.items():
        singles = {f"{name}/{key}": item.header(key) for key in item} if isinstance(item, Mapping) else {name: item}
        for label, part in singles.items():
            hashes[label] = part.content_hash
            parts.append((label, _identity_of(part)))
    shared = shared_identity(parts)
    if stage.level == "model":  # chunk identities have been compared; an aggregate is none of them
        shared = {key: value for key, value in shared.items() if not key.startswith("examples/")}
    return Provenance(
        stage=stage.name,
        dataset=address.dataset,
        token_kind=address.token_kind,
        model=address.model,
        chunk=address.chunk,
        code_version=stage.code_version,
        config=dict(config),
        inputs=hashes,
        identity={**shared, **(identity or {})},
    )


def manifest_hash(manifest: "Manifest", records: Mapping[str, "Record"], file_hashes: Mapping[str, str]) -> str:
    """Hash of what an ``examples`` chunk is made from: the manifest, its metadata rows and its files' hashes."""
    rows = [
        [example, records[example].path, records[example].split, list(records[example].labels), file_hashes[example]]
        for example in manifest.example_ids
    ]
    return digest([manifest.key, manifest.first_index, rows])


def transformer_hash(model: Model) -> str:
    """Hash of the transformer's identity: architecture and weights tag, or its local files."""
    from sae_assets.embedding.open_clip_vision import identity

    return digest(identity(model.transformer))


def encoder_hash(model: Model, token_kind: str, k_stored: int | None, precision: str) -> str | None:
    """Hash of everything that turns an image into stored activations; None while the SAE is not on this machine."""
    from sae_assets.saes.files import file_hash, locate_sae

    sae = locate_sae(model.sae, download=False)
    if sae is None:
        return None
    return digest(
        {
            "transformer": transformer_hash(model),
            "layer": model.layer,
            "sae": {"format": model.sae.format, "sha256": file_hash(sae)},
            "token_kind": token_kind,
            "k_stored": k_stored,
            "precision": precision,
        }
    )


def truth_config(dataset: Dataset, model: Model, token_kind: str) -> dict[str, Any]:
    """What the ground truth of a data set under a model depends on besides the examples."""
    if token_kind == "cls":
        return {}
    return {"masks": dataset.masks, "min_overlap": dataset.min_overlap, "transformer": transformer_hash(model)}
