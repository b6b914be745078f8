"""``ground_truth``: which rows of a chunk are positive for which concept, under the model's own image geometry."""

import dagster as dg

from sae_assets.assets.graph import Graph
from sae_assets.metadata import Clock
from sae_assets.resources import StoreResource


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("ground_truth"))
    def ground_truth(context: dg.AssetExecutionContext, artifact_store: StoreResource, examples):
        from sae_assets.embedding.truth import example_truth, patch_truth
        from sae_assets.lineage import truth_config
        from sae_assets.ops.ground_truth import collect_truth

        clock = Clock()
        _, model = graph.model_of(context)
        chunk = examples.artifact
        if graph.token_kind == "cls":
            rows, count = example_truth(chunk), 1
        else:
            rows, count = patch_truth(chunk, graph.dataset, graph.entry, model.transformer)
        artifact = collect_truth(rows, chunk.concepts, chunk.first_index)
        config = truth_config(graph.entry, model, graph.token_kind)
        provenance = graph.provenance(context, "ground_truth", {"examples": examples}, config)
        yield from graph.emit(
            context, "ground_truth", artifact, provenance, clock=clock, store=artifact_store, rows_per_example=count
        )

    return ground_truth
