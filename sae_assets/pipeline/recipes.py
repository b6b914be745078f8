"""Provenance of a stage from its inputs: one function for the assets that write it and the CLI that checks it.

An asset calls it with what Dagster loaded, the command line with headers read from the store; the fingerprints agree
exactly when nothing that matters has changed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.errors import DatasetError
from sae_assets.pipeline.stages import Stage
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance, digest, shared_identity

if TYPE_CHECKING:
    from sae_assets.chunks.chunking import Manifest
    from sae_assets.datasets.reader import Reader
    from sae_assets.storage.header import Header
    from sae_assets.storage.store import ChunkReader, Stored

    Input = Header | Stored | ChunkReader


# Stages whose files stand, by their content, for what files used beside them must be of; and under which name: `rows`
# is what earlier versions called the examples' contents, and activations are encoded again where a name changes.
IDENTITIES = {"examples": "rows", "labels": "labels", "unit_mapping": "unit_mapping"}


def _identity_of(part: "Header | Stored") -> dict[str, str]:
    """What files used beside this one must share with it: what it was made with, and what it is itself."""
    made = part.provenance
    if made.stage not in IDENTITIES:
        return dict(made.identity)
    name = IDENTITIES[made.stage]
    return {**made.identity, name if made.chunk is None else f"{name}/{made.chunk}": part.content_hash}


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
        MismatchError: inputs that were made with different models, mappings, examples or labels.
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
        shared = {key: value for key, value in shared.items() if "/" not in key}
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


def is_as_made_now(found: Provenance, fingerprint: str | None, examples: "Header | Stored") -> bool:
    """Whether sparse activations of this provenance are what their stage would make now.

    Nothing here can make imported ones again: their examples decide.

    Args:
        fingerprint: of what would be made; None if that is not known.
    """
    if found.config.get("imported"):
        return found.inputs.get("examples") == examples.content_hash
    return found.fingerprint == fingerprint


def chunks_read(
    stage: Stage, dataset: str, readers: Mapping[str, "ChunkReader"], *, allow_missing: bool
) -> dict[str, "ChunkReader"]:
    """Of every chunk-level input of a model-level stage, the chunks it reads: those with examples of its splits.

    A chunk without calibration examples changes no statistics, and waits for nothing and makes nothing wait.

    Args:
        readers: by stage name, all registered chunks.
        allow_missing: leave out chunks that are not materialized.

    Raises:
        MissingChunksError: chunks that are needed and not materialized.
        DatasetError: there are no examples of these splits; the message says which there are.
    """
    labels = readers["labels"].complete(allow_missing)
    counts = {key: labels.header(key).scalars["n_by_split"] for key in labels}
    keys = [key for key, found in counts.items() if any(found[split] for split in stage.splits)]
    total = {split: sum(found[split] for found in counts.values()) for split in ("train", "cal", "test")}
    if not total["cal"]:
        raise DatasetError(
            f"Data set {dataset!r}: the materialized chunks hold no calibration examples (train {total['train']}, "
            f"cal 0, test {total['test']}). Statistics and thresholds are fitted on split 'cal': materialize the "
            f"chunks that hold such examples (`sae-assets check {dataset}` counts them per split)."
        )
    if allow_missing:
        for name in stage.chunk_inputs:
            keys = [key for key in keys if key in readers[name]]
    if not keys:  # says which are missing
        readers[stage.chunk_inputs[0]].complete(allow_missing)
    return {name: readers[name].only(keys) for name in stage.chunk_inputs}


def examples_hash(manifest: "Manifest", reader: "Reader") -> str:
    """Hash of what an ``examples`` chunk is made from: the manifest, its paths and the hashes of its contents.

    Raises:
        DatasetError: examples that the chunk was registered with and that are gone.
    """
    from sae_assets.chunks.contents import registered_contents

    contents = registered_contents(manifest, reader)
    paths = [reader.by_id[example].path for example in manifest.example_ids]
    return digest([manifest.key, manifest.first_index, manifest.example_ids, paths, contents])


def labels_hash(manifest: "Manifest", reader: "Reader") -> str:
    """Hash of what a ``labels`` chunk is made from besides its ``examples``: splits, labels and hashes of regions.

    Raises:
        DatasetError: as :func:`examples_hash`.
    """
    from sae_assets.chunks.contents import registered_regions, splits_of

    regions = registered_regions(manifest, reader)
    labels = [reader.by_id[example].labels for example in manifest.example_ids]
    return digest([reader.concepts, splits_of(manifest, reader), labels, regions])


def encoder_hash(dataset: Dataset, model: tuple[str, Model], token_kind: str, config: Mapping[str, Any]) -> str | None:
    """Hash of everything that turns an example into stored activations; None while the SAE is not on this machine.

    Args:
        config: ``EncodeConfig.result_for``.
    """
    from sae_assets.rows.identity import rows_identity
    from sae_assets.saes import locate_sae, sae_hash

    sae = locate_sae(model[1].sae, download=False)
    if sae is None:
        return None
    return digest(
        {
            "rows": rows_identity(dataset, model, token_kind),
            "sae": {"format": model[1].sae.format, "sha256": sae_hash(sae)},
            "token_kind": token_kind,
            **config,
        }
    )


def truth_config(dataset: Dataset, model: tuple[str, Model], token_kind: str) -> dict[str, Any]:
    """What the ground truth of a data set under a model depends on besides examples and labels."""
    from sae_assets.rows.identity import truth_identity

    identity = truth_identity(dataset, model, token_kind)
    return {**identity, "transformer": digest(identity["transformer"])} if identity else {}
