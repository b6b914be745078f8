"""What the assets of one data set and token kind share: keys, partitions, inputs, provenance and emission.

Nothing is computed here; an asset reads its inputs, calls one op and hands the artifact to ``emit``.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.catalog import Catalog, Dataset, Model
from sae_assets.orchestration.automation.conditions import condition_of
from sae_assets.orchestration.checks import NOTHING_MORE, Expected, evaluate, specs
from sae_assets.orchestration.config import AggregateConfig
from sae_assets.orchestration.io_manager import CHUNKS
from sae_assets.orchestration.metadata import Clock, artifact_metadata
from sae_assets.orchestration.partitions import (
    CHUNK,
    MODEL,
    address_of,
    along,
    chunk_partitions,
    model_chunk_partitions,
    model_partitions,
)  # fmt: skip
from sae_assets.orchestration.resources import StoreResource
from sae_assets.pipeline.recipes import chunks_read, provenance_of
from sae_assets.pipeline.stages import STAGES

if TYPE_CHECKING:
    from sae_assets.artifacts import Examples, Labels
    from sae_assets.storage.address import Address
    from sae_assets.storage.store import ChunkReader

GPU_POOL = "gpu"

# Beta in Dagster 1.13; without it a rerun with the same content would make everything after it stale.
warnings.filterwarnings("ignore", message=r".*`data_version`.*", category=dg.BetaWarning)


class Rereadable:
    """An iterable that can be gone through again: each time, the chunks are read anew, one at a time."""

    def __init__(self, make: Callable[[], Iterator[Any]]):
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


@dataclass(frozen=True)
class Graph:
    """One data set under one token kind."""

    catalog: Catalog
    dataset: str
    token_kind: str

    @property
    def entry(self) -> Dataset:
        return self.catalog.datasets[self.dataset]

    def model_of(self, context: dg.AssetExecutionContext) -> tuple[str, Model]:
        """Name and entry of the model that this run's partition names."""
        key = context.partition_key
        name = key.keys_by_dimension[MODEL] if isinstance(key, dg.MultiPartitionKey) else key
        return name, self.catalog.models[name]

    def key(self, stage: str) -> dg.AssetKey:
        if STAGES[stage].level == "dataset-chunk":
            return dg.AssetKey([self.dataset, stage])
        return dg.AssetKey([self.dataset, self.token_kind, stage])

    def address(self, context: dg.AssetExecutionContext, stage: str) -> "Address":
        return address_of(self.key(stage).path, context.partition_key)

    def partitions(self, stage: str) -> dg.PartitionsDefinition:
        level = STAGES[stage].level
        if level == "dataset-chunk":
            return chunk_partitions(self.dataset)
        return model_partitions(self.entry) if level == "model" else model_chunk_partitions(self.dataset, self.entry)

    def inputs(self, stage: str) -> dict[str, dg.AssetIn]:
        """Inputs by stage name, with the built-in partition mappings; chunks of a model-level stage arrive lazily."""
        here = STAGES[stage]
        found: dict[str, dg.AssetIn] = {}
        for name in (*here.model_inputs, *here.chunk_inputs):
            mapping, metadata = None, None
            if here.level == "model" and STAGES[name].level == "chunk":
                mapping, metadata = along(MODEL), CHUNKS
            elif here.level == "model" and STAGES[name].level == "dataset-chunk":
                mapping, metadata = dg.AllPartitionMapping(), CHUNKS
            elif here.level == "chunk" and STAGES[name].level == "model":
                mapping = along(MODEL)
            elif here.level == "chunk" and STAGES[name].level == "dataset-chunk":
                mapping = along(CHUNK)
            found[name] = dg.AssetIn(key=self.key(name), partition_mapping=mapping, metadata=metadata)
        return found

    def description(self, stage: str) -> dict[str, Any]:
        """What the catalog of the UI shows of an asset."""
        return {
            "description": STAGES[stage].description,
            "group_name": self.dataset,
            "code_version": STAGES[stage].code_version,
            "kinds": {"parquet"} if STAGES[stage].level == "dataset-chunk" else {"pytorch", "parquet"},
            "tags": {"dataset": self.dataset, "token_kind": self.token_kind, "stage": stage}
            if STAGES[stage].level != "dataset-chunk"
            else {"dataset": self.dataset, "stage": stage},
            "owners": list(self.entry.owners),
            "automation_condition": condition_of(stage, self.entry, self.key),
        }

    def options(self, stage: str) -> dict[str, Any]:
        """Arguments of ``@dg.asset`` for a stage that is one asset."""
        return {
            **self.description(stage),
            "key": self.key(stage),
            "partitions_def": self.partitions(stage),
            "ins": self.inputs(stage),
            "check_specs": specs(stage, self.key(stage), self.partitions(stage)),
        }

    def outputs(self, *stages: str) -> dict[str, dg.AssetOut]:
        """Outputs of ``@dg.multi_asset`` for stages of one pass."""
        return {
            stage: dg.AssetOut(key=self.key(stage), is_required=False, **self.description(stage)) for stage in stages
        }

    def provenance(
        self,
        context: dg.AssetExecutionContext,
        stage: str,
        inputs: Mapping[str, Any],
        config: Mapping[str, Any],
        **more: Any,
    ) -> Any:
        return provenance_of(STAGES[stage], self.address(context, stage), inputs, config, **more)

    def emit(
        self,
        context: dg.AssetExecutionContext,
        stage: str,
        artifact: Any,
        provenance: Any,
        *,
        clock: Clock | None,
        store: StoreResource,
        device: Any = "cpu",
        output: str = "result",
        plot: Callable[[], str] | None = None,
        expected: Expected = NOTHING_MORE,
    ) -> Iterator[dg.Output | dg.AssetCheckResult]:
        """Hand the artifact to the IO manager with its metadata, then check what was written.

        Args:
            clock: since the work began; None if the artifact was read from its own file, which then stays as it is.
        """
        from sae_assets.storage.store import Kept, stored

        item = stored(artifact, provenance)
        picture = {} if plot is None else {"plot": dg.MetadataValue.md(plot())}
        metadata = {**picture, **artifact_metadata(item, clock, str(device))}
        version = dg.DataVersion(item.content_hash[:20])
        yield dg.Output(
            Kept(item) if clock is None else item, output_name=output, metadata=metadata, data_version=version
        )
        selected = {key.name for key in context.selected_asset_check_keys if key.asset_key == self.key(stage)}
        address = self.address(context, stage)
        for result in evaluate(stage, self.key(stage), store.store, address, expected):
            if result.check_name in selected:
                yield result

    def expect_contents(self, chunk: "Examples", key: str, labels: "Labels | None" = None) -> None:
        """Refuse files that are not what the chunk was registered with (see ``chunks.contents``)."""
        from sae_assets.chunks.contents import expect_contents
        from sae_assets.datasets import open_registered

        expect_contents(chunk, key, open_registered(self.dataset, self.entry), labels)

    def chunks_read(
        self,
        context: dg.AssetExecutionContext,
        stage: str,
        readers: "Mapping[str, ChunkReader]",
        config: AggregateConfig,
        store: StoreResource,
    ) -> "dict[str, ChunkReader]":
        """The chunks that a model-level stage reads, of each of its chunk-level inputs (see ``lineage``).

        Chunks that were registered after this was asked for, and are still to be made, are none of them; what they make
        stale is made again.
        """
        from sae_assets.chunks.manifests import registered_since

        missing = {key for reader in readers.values() for key in reader.missing}
        late = missing & registered_since(store.store.root, self.dataset, _asked_for(context)) if missing else set()
        if late:
            context.log.info(f"registered later, still to be made and not read: chunks {', '.join(sorted(late))}")
            readers = {name: reader.without(late) for name, reader in readers.items()}
        return chunks_read(STAGES[stage], self.dataset, readers, allow_missing=config.allow_missing_chunks)


def _asked_for(context: dg.AssetExecutionContext) -> float:
    """When the work of this run was asked for, seconds since the epoch: its backfill's time, else its own."""
    backfill = context.run.tags.get("dagster/backfill")
    found = context.instance.get_backfill(backfill) if backfill else None
    if found is not None:
        return float(found.backfill_timestamp)
    record = context.instance.get_run_record_by_id(context.run.run_id)
    # Where run storage keeps whole seconds only, the second may have just begun.
    return record.create_timestamp.timestamp() + 1 if record is not None else float("inf")


def reread(make: Callable[..., Iterator[Any]], *args: Any) -> Rereadable:
    return Rereadable(partial(make, *args))
