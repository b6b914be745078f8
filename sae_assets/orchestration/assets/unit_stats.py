"""``unit_stats``: statistics of every unit over the calibration rows of all chunks of a model."""

from collections.abc import Iterator

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph, reread
from sae_assets.orchestration.config import AggregateConfig
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("unit_stats"))
    @retrying_transient
    def unit_stats(
        context: dg.AssetExecutionContext,
        config: AggregateConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        sparse_activations,
        labels,
    ):
        from sae_assets.ops.unit_stats import compute_unit_stats
        from sae_assets.pipeline.plots import plot_unit_stats

        clock = Clock()
        inputs = {"sparse_activations": sparse_activations, "labels": labels}
        inputs = graph.chunks_read(context, "unit_stats", inputs, config, artifact_store)
        chunks, used = inputs["sparse_activations"], inputs["labels"]

        def pairs() -> Iterator:
            for key in chunks:
                yield chunks[key].artifact, used[key].artifact.in_split("cal")

        provenance = graph.provenance(context, "unit_stats", inputs, config.result_for(graph.entry))
        artifact = compute_unit_stats(
            reread(pairs),
            chunks[next(iter(chunks))].artifact.n_units,
            device=compute.torch_device,
            memory_budget=compute.memory_budget,
        )
        yield from graph.emit(
            context, "unit_stats", artifact, provenance, clock=clock, store=artifact_store,
            device=compute.torch_device, plot=lambda: plot_unit_stats(artifact),
        )  # fmt: skip

    return unit_stats
