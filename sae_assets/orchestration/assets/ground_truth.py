"""``ground_truth``: which rows of a chunk are positive for which concept, under the model's own rows."""

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph
from sae_assets.orchestration.checks import Expected
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("ground_truth"))
    @retrying_transient
    def ground_truth(context: dg.AssetExecutionContext, artifact_store: StoreResource, examples, labels):
        from sae_assets.ops.ground_truth import collect_truth
        from sae_assets.pipeline.recipes import truth_config
        from sae_assets.rows.truth import row_truth

        clock = Clock()
        model, chunk = graph.model_of(context), labels.artifact
        config = truth_config(graph.entry, model, graph.token_kind)
        provenance = graph.provenance(context, "ground_truth", {"examples": examples, "labels": labels}, config)
        if graph.token_kind != "cls":  # whose truth is the labels
            graph.expect_contents(examples.artifact, graph.address(context, "ground_truth").chunk or "", chunk)
        rows, count = row_truth(chunk, graph.token_kind, (graph.dataset, graph.entry), model)
        artifact = collect_truth(rows, chunk.concepts, chunk.first_index)
        yield from graph.emit(
            context, "ground_truth", artifact, provenance, clock=clock, store=artifact_store, expected=Expected(count)
        )

    return ground_truth
