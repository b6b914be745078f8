"""The factory: every data set of the catalog, times its token kinds, to its assets."""

from collections.abc import Iterator

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.orchestration.assets import (
    detection,
    examples,
    filtered_activations,
    ground_truth,
    labels,
    sparse_activations,
    thresholds,
    unit_mapping,
    unit_stats,
)  # fmt: skip
from sae_assets.orchestration.assets.dataset_assets import Graph


def build_assets(catalog: Catalog) -> Iterator[dg.AssetsDefinition]:
    """All assets of a catalog."""
    for dataset, entry in catalog.datasets.items():
        graphs: dict[str, Graph] = {kind: Graph(catalog, dataset, kind) for kind in entry.token_kinds}
        for stage in (examples, labels):
            yield stage.build(next(iter(graphs.values())))
        yield sparse_activations.build(graphs)
        for graph in graphs.values():
            for stage in (ground_truth, unit_stats, unit_mapping, filtered_activations, thresholds, detection):
                yield stage.build(graph)
