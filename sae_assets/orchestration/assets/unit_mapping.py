"""``unit_mapping``: which units of a model are kept for this data set and token kind."""

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph
from sae_assets.orchestration.config import MappingConfig
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("unit_mapping"))
    @retrying_transient
    def unit_mapping(
        context: dg.AssetExecutionContext,
        config: MappingConfig,
        artifact_store: StoreResource,
        unit_stats,
        ground_truth,
        labels,
    ):
        from sae_assets.ops.ground_truth import count_positive_rows
        from sae_assets.ops.unit_mapping import EVERY_ACTIVE_UNIT, PruningRules, adaptive_rules, map_units
        from sae_assets.pipeline.plots import plot_unit_mapping

        clock = Clock()
        name, model = graph.model_of(context)
        limits = config.limits(name, model)
        inputs = {"ground_truth": ground_truth, "labels": labels}
        inputs = graph.chunks_read(context, "unit_mapping", inputs, config, artifact_store)
        truth, used = inputs["ground_truth"], inputs["labels"]
        if graph.token_kind == "cls":
            rules = EVERY_ACTIVE_UNIT
        elif limits.mode == "fixed":
            rules = PruningRules(**limits.model_dump())
        else:
            positive = count_positive_rows((truth[key].artifact, used[key].artifact.in_split("cal")) for key in truth)
            rules = adaptive_rules(positive, graph.entry.modality, limits.target_units)
        artifact = map_units(unit_stats.artifact, rules)
        settings = config.result_with(name, model, graph.token_kind)
        provenance = graph.provenance(context, "unit_mapping", {"unit_stats": unit_stats, **inputs}, settings)
        yield from graph.emit(
            context, "unit_mapping", artifact, provenance, clock=clock, store=artifact_store,
            plot=lambda: plot_unit_mapping(unit_stats.artifact, artifact),
        )  # fmt: skip

    return unit_mapping
