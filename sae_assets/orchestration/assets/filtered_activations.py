"""``filtered_activations``: a chunk's activations of the kept units only, renumbered."""

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph
from sae_assets.orchestration.checks import Expected
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("filtered_activations"))
    @retrying_transient
    def filtered_activations(
        context: dg.AssetExecutionContext,
        compute: ComputeResource,
        artifact_store: StoreResource,
        unit_mapping,
        sparse_activations,
    ):
        from sae_assets.ops.filtered_activations import filter_activations

        clock = Clock()
        inputs = {"sparse_activations": sparse_activations, "unit_mapping": unit_mapping}
        provenance = graph.provenance(context, "filtered_activations", inputs, {})
        artifact = filter_activations(sparse_activations.artifact, unit_mapping.artifact, device=compute.torch_device)
        lengths = sparse_activations.artifact.example_offsets.diff()
        yield from graph.emit(
            context, "filtered_activations", artifact, provenance, clock=clock, store=artifact_store,
            device=compute.torch_device, expected=Expected(lengths),
        )  # fmt: skip

    return filtered_activations
