"""``examples``: the manifest of a registered chunk, completed with paths and file hashes."""

import dagster as dg

from sae_assets.orchestration.assets.dataset_assets import Graph
from sae_assets.orchestration.checks import Expected
from sae_assets.orchestration.metadata import Clock
from sae_assets.orchestration.resources import StoreResource
from sae_assets.orchestration.retries import retrying_transient


def build(graph: Graph) -> dg.AssetsDefinition:
    @dg.asset(**graph.options("examples"))
    @retrying_transient
    def examples(context: dg.AssetExecutionContext, artifact_store: StoreResource):
        from sae_assets.chunks.contents import WHAT_TO_DO, changed_contents, describe_examples
        from sae_assets.chunks.manifests import read_manifest
        from sae_assets.datasets import open_registered
        from sae_assets.pipeline.recipes import examples_hash

        clock = Clock()
        manifest = read_manifest(artifact_store.store.root, graph.dataset, context.partition_key)
        reader = open_registered(graph.dataset, graph.entry)
        artifact = describe_examples(manifest, reader)
        outside = {"manifest": examples_hash(manifest, reader)}
        provenance = graph.provenance(context, "examples", {}, {}, outside=outside)
        yield from graph.emit(
            context, "examples", artifact, provenance, clock=clock, store=artifact_store,
            expected=Expected(
                changes=changed_contents(manifest, reader),
                what_to_do=WHAT_TO_DO.format(dataset=graph.dataset, chunk=manifest.key),
            ),
        )  # fmt: skip

    return examples
