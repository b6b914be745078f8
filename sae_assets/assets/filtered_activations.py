"""``filtered_activations``: a chunk's activations of the kept units only, renumbered."""

import dagster as dg

from sae_assets.assets.graph import Graph
from sae_assets.metadata import Clock
from sae_assets.resources import ComputeResource, StoreResource


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("filtered_activations"))
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
        rows = int(artifact.example_offsets[1])
        yield from graph.emit(
            context, "filtered_activations", artifact, provenance, clock=clock, store=artifact_store,
            device=compute.torch_device, rows_per_example=rows,
        )  # fmt: skip

    return filtered_activations
