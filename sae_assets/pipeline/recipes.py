"""The recipe of an artifact: its provenance, from the stage's own word on settings, identity and outside contents.

One function for the pass that writes it and for every look that judges it: a pass calls it with what was loaded, a look
with headers read from the store. The fingerprints agree exactly when nothing that matters has changed.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from sae_assets.errors import DatasetError
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Sources, Stage, Target
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance, shared_identity

if TYPE_CHECKING:
    from sae_assets.storage.chunk_reader import ChunkReader
    from sae_assets.storage.header import Header
    from sae_assets.storage.store import Stored

    Input: TypeAlias = Header | Stored | ChunkReader

# Stages whose files stand, by their content, for what files used beside them must be of; and under which name: `rows`
# is what earlier versions called the examples' contents, and activations are encoded again where a name changes.
IDENTITIES = {"examples": "rows", "labels": "labels", "unit_mapping": "unit_mapping"}


def recipe(
    stage: Stage, target: Target, inputs: "Mapping[str, Input]", options: Options, sources: Sources
) -> Provenance | None:
    """Return what this stage makes of these inputs now; None while something it needs is not on this machine.

    Args:
        inputs: per stage name one artifact (or its header), or a reader of many chunks.

    Raises:
        MismatchError: inputs that were made with different models, mappings, examples or labels.
        DatasetError, CheckpointError, StoredFileError: outside contents that cannot be read.
    """
    identity = stage.identity(target, options)
    if identity is None:
        return None
    settings = stage.settings(target, options)
    outside = stage.outside(target, sources, options)
    return provenance_of(stage, target.address, inputs, settings, identity=identity, outside=outside)


def provenance_of(
    stage: Stage,
    address: Address,
    inputs: "Mapping[str, Input]",
    settings: Mapping[str, Any],
    *,
    identity: Mapping[str, str],
    outside: Mapping[str, str],
) -> Provenance:
    """Put a provenance together. Raises: MismatchError, as :func:`recipe`."""
    hashes: dict[str, str] = dict(outside)
    parts: list[tuple[str, Mapping[str, str]]] = []
    for name, item in inputs.items():
        singles = {f"{name}/{key}": item.header(key) for key in item} if isinstance(item, Mapping) else {name: item}
        for label, part in singles.items():
            hashes[label] = part.content_hash
            parts.append((label, identity_of(part)))
    shared = shared_identity(parts)
    if stage.level == "model":  # chunks' identities have been compared; an aggregate belongs to no one of them
        shared = {key: value for key, value in shared.items() if "/" not in key}
    return Provenance(
        stage=stage.name,
        dataset=address.dataset,
        token_kind=address.token_kind,
        model=address.model,
        chunk=address.chunk,
        code_version=stage.code_version,
        config=dict(settings),
        inputs=hashes,
        identity={**shared, **identity},
    )


def identity_of(part: "Header | Stored") -> dict[str, str]:
    """Return what files used beside this one must share with it: what it was made with, and what it is itself."""
    provenance = part.provenance
    if provenance.stage not in IDENTITIES:
        return dict(provenance.identity)
    name = IDENTITIES[provenance.stage]
    return {
        **provenance.identity,
        name if provenance.chunk is None else f"{name}/{provenance.chunk}": part.content_hash,
    }


def is_imported(provenance: Provenance) -> bool:
    """Return whether a file was imported, so that nothing here can make it again."""
    return bool(provenance.config.get("imported"))


def imported_still_fits(provenance: Provenance, examples: "Header | Stored") -> bool:
    """Return whether imported activations are of the examples that there are: nothing else of them can be compared."""
    return provenance.inputs.get("examples") == examples.content_hash


def holds_any(n_by_split: Mapping[str, int], splits: Collection[str]) -> bool:
    """Return whether a chunk with so many examples of each split has some of these."""
    return any(n_by_split[split] for split in splits)


def chunks_read(
    stage: Stage, dataset: str, readers: "Mapping[str, ChunkReader]", *, allow_missing: bool
) -> "dict[str, ChunkReader]":
    """Return of every chunk-level input of a model-level stage the chunks it reads: those with examples of its splits.

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
    keys = [key for key, by_split in counts.items() if holds_any(by_split, stage.splits)]
    total = {split: sum(by_split[split] for by_split in counts.values()) for split in ("train", "cal", "test")}
    if not total["cal"]:
        raise DatasetError(
            f"Data set {dataset!r}: the materialized chunks hold no calibration examples (train {total['train']}, "
            f"cal 0, test {total['test']}). Statistics and thresholds are fitted on split 'cal': materialize the "
            f"chunks that hold such examples (`sae-assets inspect {dataset}` counts them per split)."
        )
    if allow_missing:
        for name in stage.chunk_inputs:
            keys = [key for key in keys if key in readers[name]]
    if not keys:  # says which are missing
        readers[stage.chunk_inputs[0]].complete(allow_missing)
    return {name: readers[name].only(keys) for name in stage.chunk_inputs}
