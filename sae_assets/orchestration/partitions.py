"""Partitions: chunks of a data set (dynamic) and models × chunks; keys to parts and back.

A factory per data set with ``{model: static, chunk: dynamic}``, so that only partitions that can exist do. Which
examples a chunk holds is the manifests' business (``storage.manifests``).
"""

import warnings
from collections.abc import Mapping, Sequence

import dagster as dg

from sae_assets.catalog import Dataset
from sae_assets.errors import CatalogError
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


def model_chunk_partitions(dataset: str, entry: Dataset) -> dg.MultiPartitionsDefinition:
    return dg.MultiPartitionsDefinition({MODEL: model_partitions(entry), CHUNK: chunk_partitions(dataset)})


def along(dimension: str) -> dg.PartitionMapping:
    """Model × chunk to one of its dimensions, in either direction."""
    return dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=dimension)


def multi_key(model: str, chunk: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({MODEL: model, CHUNK: chunk})


def parts_of(partition: str) -> tuple[str, str]:
    """Model and chunk of a model × chunk key."""
    assert isinstance(partition, dg.MultiPartitionKey)
    return partition.keys_by_dimension[MODEL], partition.keys_by_dimension[CHUNK]


def chunk_keys(numbers: Sequence[str], option: str = "--chunks") -> list[str]:
    """Keys of chunks as a person numbers them; whether they are registered is not looked at.

    Raises:
        CatalogError: something that is no number.
    """
    from sae_assets.chunks.chunking import chunk_key

    wrong = [number for number in numbers if not (number.isascii() and number.isdecimal())]
    if wrong:
        raise CatalogError(f"{option}: found {', '.join(map(repr, wrong))}, expected chunk numbers such as 0,1,2.")
    return [chunk_key(int(number)) for number in numbers]


def address_of(path: Sequence[str], partition: str | None) -> Address:
    """The store's address of an asset key and a partition key.

    Raises:
        CatalogError: a key that this project's factory does not make.
    """
    parts: Mapping[str, str] = {}
    if isinstance(partition, dg.MultiPartitionKey):
        parts = partition.keys_by_dimension
    elif partition is not None:
        parts = {CHUNK if len(path) == 2 else MODEL: partition}
    if len(path) == 2:
        return Address(dataset=path[0], stage=path[1], chunk=parts.get(CHUNK))
    if len(path) == 3:
        return Address(path[0], path[2], token_kind=path[1], model=parts.get(MODEL), chunk=parts.get(CHUNK))
    raise CatalogError(f"Asset key {'/'.join(path)} is none of this project's: expected dataset/token_kind/stage.")
