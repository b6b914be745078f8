"""``labels``: splits and labels of a registered chunk's examples, and hashes of their masks or spans."""

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph
from sae_assets.orchestration.checks import Expected
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("labels"))
    @retrying_transient
    def labels(context: dg.AssetExecutionContext, artifact_store: StoreResource, examples):
        from sae_assets.chunks.contents import WHAT_TO_DO, changed_regions, describe_labels
        from sae_assets.chunks.manifests import read_manifest
        from sae_assets.datasets import open_registered
        from sae_assets.pipeline.recipes import labels_hash

        clock = Clock()
        manifest = read_manifest(artifact_store.store.root, graph.dataset, context.partition_key)
        reader = open_registered(graph.dataset, graph.entry)
        outside = {"manifest": labels_hash(manifest, reader)}
        provenance = graph.provenance(context, "labels", {"examples": examples}, {}, outside=outside)
        artifact = describe_labels(manifest, reader)
        yield from graph.emit(
            context, "labels", artifact, provenance, clock=clock, store=artifact_store,
            expected=Expected(
                changes=changed_regions(manifest, reader),
                what_to_do=WHAT_TO_DO.format(dataset=graph.dataset, chunk=manifest.key),
            ),
        )  # fmt: skip

    return labels
