"""``sparse_activations``: all token kinds' rows of a chunk from one forward pass, through the SAE, sparse.

One multi-asset per data set; each token kind can be selected alone.
"""

from collections.abc import Mapping

import dagster as dg

from sae_assets.assets.graph import GPU_POOL, Graph
from sae_assets.checks import Expected, specs
from sae_assets.config import EncodeConfig
from sae_assets.metadata import Clock
from sae_assets.resources import ComputeResource, StoreResource
from sae_assets.retries import retrying_transient

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
    @retrying_transient
    def sparse_activations(
        context: dg.AssetExecutionContext,
        config: EncodeConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        examples,
    ):
        from sae_assets.embedding.identity import outside_hashes
        from sae_assets.embedding.rows import RowsPerKind, encode_chunk
        from sae_assets.embedding.source import precomputed_kinds
        from sae_assets.lineage import encoder_hash

        clock = Clock()
        device = compute.torch_device
        dataset, model = (first.dataset, first.entry), first.model_of(context)
        settings = config.result_for(model[1])
        wanted = [kind for kind, graph in graphs.items() if graph.key(STAGE) in context.selected_asset_keys]
        if not set(wanted) <= precomputed_kinds(first.entry, model[0]):
            first.expect_contents(examples.artifact, first.address(context, STAGE).chunk or "", regions=False)
        found: RowsPerKind = encode_chunk(
            examples.artifact,
            wanted,
            dataset=dataset,
            model=model,
            batch_size=config.batch_size,
            device=device,
            memory_budget=compute.memory_budget,
            step=lambda done, total: context.log.info(f"{done} of {total} examples encoded"),
            **settings,
        )
        for kind in wanted:
            graph = graphs[kind]
            encoder = encoder_hash(first.entry, model, kind, settings)
            assert encoder is not None  # the checkpoint was just read
            provenance = graph.provenance(
                context, STAGE, {"examples": examples}, settings, identity={"encoder": encoder},
                outside=outside_hashes(dataset, model[0], kind, examples.artifact.example_ids),
            )  # fmt: skip
            yield from graph.emit(
                context, STAGE, found.artifacts[kind], provenance, clock=clock, store=artifact_store, device=device,
                output=kind, expected=Expected(
                    found.rows_per_example[kind], model[1].max_dropped_mass, elsewhere=found.elsewhere
                ),
            )  # fmt: skip

    return sparse_activations
