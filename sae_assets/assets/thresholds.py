"""``thresholds``: detection cut-offs of every (concept, unit), from calibration rows alone."""

from collections.abc import Iterator

import dagster as dg

from sae_assets.assets.graph import Graph, reread
from sae_assets.config import ThresholdsConfig
from sae_assets.metadata import Clock
from sae_assets.resources import ComputeResource, StoreResource


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("thresholds"))
    def thresholds(
        context: dg.AssetExecutionContext,
        config: ThresholdsConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        unit_mapping,
        filtered_activations,
        ground_truth,
        examples,
    ):
        from sae_assets.ops.thresholds import CalibrationChunk, calibrate_thresholds

        clock = Clock()
        chunks = filtered_activations.complete(config.allow_missing_chunks)
        truth, used = ground_truth.only(chunks), examples.only(chunks)
        graph.calibration(used, chunks)

        def calibration() -> Iterator[CalibrationChunk]:
            for key in chunks:
                cal = used[key].artifact.in_split("cal")
                if bool(cal.any()):
                    yield CalibrationChunk(chunks[key].artifact, truth[key].artifact, cal)

        inputs = {
            "filtered_activations": chunks, "ground_truth": truth, "examples": used, "unit_mapping": unit_mapping,
        }  # fmt: skip
        provenance = graph.provenance(context, "thresholds", inputs, config.result())
        artifact = calibrate_thresholds(
            reread(calibration),
            concepts=graph.entry.concepts,
            kept_units=unit_mapping.artifact.kept_units,
            tail_fractions=config.tail_fractions,
            device=compute.torch_device,
            memory_budget=compute.memory_budget,
        )
        yield from graph.emit(
            context, "thresholds", artifact, provenance, clock=clock, store=artifact_store, device=compute.torch_device
        )

    return thresholds
