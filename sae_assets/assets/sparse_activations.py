"""``sparse_activations``: patch and CLS rows of a chunk from one forward pass, through the SAE, sparse.

One multi-asset per data set; each token kind can be selected alone.
"""

from collections.abc import Mapping

import dagster as dg

from sae_assets.assets.graph import GPU_POOL, Graph
from sae_assets.checks import specs
from sae_assets.config import EncodeConfig
from sae_assets.metadata import Clock
from sae_assets.resources import ComputeResource, StoreResource

STAGE = "sparse_activations"


def build(graphs: Mapping[str, Graph]) -> dg.AssetsDefinition:
    """The multi-asset of all token kinds of one data set (``graphs`` by token kind)."""
    first = next(iter(graphs.values()))

    @dg.multi_asset(
        name=f"{first.dataset}__{STAGE}",
        outs={
            kind: dg.AssetOut(key=graph.key(STAGE), is_required=False, **graph.description(STAGE))
            for kind, graph in graphs.items()
        },
        ins=first.inputs(STAGE),
        partitions_def=first.partitions(STAGE),
        check_specs=[
            spec for graph in graphs.values() for spec in specs(STAGE, graph.key(STAGE), graph.partitions(STAGE))
        ],
        can_subset=True,
        pool=GPU_POOL,
    )
    def sparse_activations(
        context: dg.AssetExecutionContext,
        config: EncodeConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        examples,
    ):
        from sae_assets.embedding.rows import RowsPerKind, encode_chunk
        from sae_assets.lineage import encoder_hash

        clock = Clock()
        device = compute.torch_device
        _, model = first.model_of(context)
        k_stored, precision = config.resolved(model)
        wanted = [kind for kind, graph in graphs.items() if graph.key(STAGE) in context.selected_asset_keys]
        found: RowsPerKind = encode_chunk(
            examples.artifact,
            wanted,
            dataset=(first.dataset, first.entry),
            model=model,
            k_stored=k_stored,
            precision=precision,
            batch_size=config.batch_size,
            device=device,
            memory_budget=compute.memory_budget,
            step=lambda done, total: context.log.info(f"{done} of {total} examples encoded"),
        )
        for kind in wanted:
            graph = graphs[kind]
            encoder = encoder_hash(model, kind, k_stored, precision)
            assert encoder is not None  # the checkpoint was just read
            provenance = graph.provenance(
                context, STAGE, {"examples": examples}, {"k_stored": k_stored, "precision": precision},
                identity={"encoder": encoder},
            )  # fmt: skip
            yield from graph.emit(
                context, STAGE, found.artifacts[kind], provenance, clock=clock, store=artifact_store, device=device,
                output=kind, rows_per_example=found.rows_per_example[kind],
            )  # fmt: skip

    return sparse_activations
