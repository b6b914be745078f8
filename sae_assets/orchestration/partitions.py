"""Partitions and keys: the store's addresses as Dagster's asset and partition keys, and back; nowhere else.

A factory per data set with ``{model: static, chunk: dynamic}``, so that only partitions that can exist do. Which
examples a chunk holds is the manifests' business (``chunks.manifests``).
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from sae_assets.catalog import Dataset
from sae_assets.errors import CatalogError
from sae_assets.pipeline.stage import Stage
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.storage.address import Address

CHUNK, MODEL = "chunk", "model"

# Beta in Dagster 1.13 and the documented way for fan-in and fan-out; its notice is silenced here and nowhere else.
warnings.filterwarnings("ignore", message=r".*MultiToSingleDimensionPartitionMapping.*", category=dg.BetaWarning)


def chunks_name(dataset: str) -> str:
    """Name of the dynamic partitions definition of a data set's chunks."""
    return f"{dataset}_chunks"


def chunk_partitions(dataset: str) -> dg.DynamicPartitionsDefinition:
    return dg.DynamicPartitionsDefinition(name=chunks_name(dataset))


def model_partitions(entry: Dataset) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition(list(entry.models))


def model_chunk_partitions(entry: Dataset) -> dg.MultiPartitionsDefinition:
    return dg.MultiPartitionsDefinition({MODEL: model_partitions(entry), CHUNK: chunk_partitions(entry.name)})


def along(dimension: str) -> dg.PartitionMapping:
    """Map model × chunk to one of its dimensions, in either direction."""
    return dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=dimension)


def multi_key(model: str, chunk: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({MODEL: model, CHUNK: chunk})


def partitions_of(stage: Stage, entry: Dataset) -> dg.PartitionsDefinition:
    """Return the partitions of a stage's assets in a data set."""
    if stage.level == "dataset-chunk":
        return chunk_partitions(entry.name)
    return model_partitions(entry) if stage.level == "model" else model_chunk_partitions(entry)


def asset_key_of(dataset: str, token_kind: str | None, stage: Stage) -> dg.AssetKey:
    """Return the asset of a stage; ``token_kind`` is left out where the stage has none."""
    kind = [token_kind] if token_kind and stage.has_token_kind else []
    return dg.AssetKey([dataset, *kind, stage.name])


def asset_key(address: Address) -> dg.AssetKey:
    """Return the asset that an artifact belongs to."""
    return asset_key_of(address.dataset, address.token_kind, STAGES[address.stage])


def partition_key(address: Address) -> str:
    """Return the partition that an artifact is."""
    if address.model and address.chunk:
        return multi_key(address.model, address.chunk)
    return address.model or address.chunk or ""


def keys_of(entry: Dataset) -> Iterator[tuple[dg.AssetKey, Stage]]:
    """Yield every asset of a data set with its stage, inputs first."""
    for stage in (STAGES[name] for name in stages_of(entry)):
        for kind in entry.token_kinds if stage.has_token_kind else (None,):
            yield asset_key_of(entry.name, kind, stage), stage


def address_of(path: Sequence[str], partition: str | None) -> Address:
    """Return the store's address of an asset key and a partition key.

    Raises:
        CatalogError: a key that this project's factory does not make.
    """
    parts: Mapping[str, str] = {}
    if isinstance(partition, dg.MultiPartitionKey):
        parts = partition.keys_by_dimension
    elif partition is not None and "|" in partition:  # as events and tags hold it: dimensions in alphabetical order
        parts = dict(zip((CHUNK, MODEL), partition.split("|"), strict=True))
    elif partition is not None:
        parts = {CHUNK if len(path) == 2 else MODEL: partition}
    if len(path) == 2:
        return Address(dataset=path[0], stage=path[1], chunk=parts.get(CHUNK))
    if len(path) == 3:
        return Address(path[0], path[2], token_kind=path[1], model=parts.get(MODEL), chunk=parts.get(CHUNK))
    raise CatalogError(f"Asset key {'/'.join(path)} is not one of sae_assets: expected dataset/token_kind/stage.")
