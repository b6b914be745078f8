"""``detection_stats`` and ``best_pairs``: confusion counts of every triple, and the pair chosen on cal, in one pass."""

from collections.abc import Iterator

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph
from sae_assets.orchestration.checks import specs
from sae_assets.orchestration.config import DetectionConfig
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.orchestration.retries import retrying_transient

STAGES = ("detection_stats", "best_pairs")


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"{graph.dataset}__{graph.token_kind}__detection",
        outs=graph.outputs(*STAGES),
        ins=graph.inputs(STAGES[0]),
        partitions_def=graph.partitions(STAGES[0]),
        check_specs=[spec for stage in STAGES for spec in specs(stage, graph.key(stage), graph.partitions(stage))],
        can_subset=True,
    )
    @retrying_transient
    def detection(
        context: dg.AssetExecutionContext,
        config: DetectionConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        thresholds,
        filtered_activations,
        labels,
    ):
        from sae_assets.ops.best_pairs import choose_best_pairs
        from sae_assets.ops.detection_stats import LabelledChunk, count_detections, score_examples
        from sae_assets.pipeline.plots import plot_detection

        clock = Clock()
        inputs = {"filtered_activations": filtered_activations, "labels": labels}
        inputs = graph.chunks_read(context, STAGES[0], inputs, config, artifact_store)
        chunks, used = inputs["filtered_activations"], inputs["labels"]
        inputs = {**inputs, "thresholds": thresholds}
        settings = config.result_for(graph.entry)
        provenances = {stage: graph.provenance(context, stage, inputs, settings) for stage in STAGES}

        def labelled() -> Iterator[LabelledChunk]:
            for key in chunks:
                chunk = used[key].artifact
                yield LabelledChunk(chunks[key].artifact, chunk.splits, chunk.labels)

        device, cutoffs = compute.torch_device, thresholds.artifact
        scores = score_examples(labelled(), n_units=len(cutoffs.kept_units), device=device)
        stats = count_detections(scores, cutoffs)
        best = choose_best_pairs(stats, cutoffs, scores, **settings)
        for stage, artifact in zip(STAGES, (stats, best), strict=True):
            if graph.key(stage) in context.selected_asset_keys:
                yield from graph.emit(
                    context, stage, artifact, provenances[stage], clock=clock, store=artifact_store, device=device,
                    output=stage, plot=lambda: plot_detection(stats, best),
                )  # fmt: skip

    return detection
