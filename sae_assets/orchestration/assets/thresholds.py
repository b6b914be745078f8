"""``thresholds``: detection cut-offs of every (concept, unit), from calibration rows alone."""

from collections.abc import Iterator

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph, reread
from sae_assets.orchestration.config import ThresholdsConfig
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("thresholds"))
    @retrying_transient
    def thresholds(
        context: dg.AssetExecutionContext,
        config: ThresholdsConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        unit_mapping,
        filtered_activations,
        ground_truth,
        labels,
    ):
        from sae_assets.ops.thresholds import CalibrationChunk, calibrate_thresholds

        clock = Clock()
        inputs = {"filtered_activations": filtered_activations, "ground_truth": ground_truth, "labels": labels}
        inputs = graph.chunks_read(context, "thresholds", inputs, config, artifact_store)
        chunks, truth, used = (inputs[name] for name in ("filtered_activations", "ground_truth", "labels"))

        def calibration() -> Iterator[CalibrationChunk]:
            for key in chunks:
                cal = used[key].artifact.in_split("cal")
                if bool(cal.any()):
                    yield CalibrationChunk(chunks[key].artifact, truth[key].artifact, cal)

        inputs = {**inputs, "unit_mapping": unit_mapping}
        settings = config.result_for(graph.entry)
        provenance = graph.provenance(context, "thresholds", inputs, settings)
        artifact = calibrate_thresholds(
            reread(calibration),
            concepts=graph.entry.concepts,
            kept_units=unit_mapping.artifact.kept_units,
            device=compute.torch_device,
            memory_budget=compute.memory_budget,
            **settings,
        )
        yield from graph.emit(
            context, "thresholds", artifact, provenance, clock=clock, store=artifact_store, device=compute.torch_device
        )

    return thresholds
