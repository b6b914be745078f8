"""Figures of what is materialized, per data set, token kind and model, as plain values: what the demo and CLI print.

Read from the store and from the instance's history; nothing is computed again.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sae_assets.orchestration.history import seconds_of
from sae_assets.pipeline.options import RunOptions
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from sae_assets.commands.session import Session
    from sae_assets.storage.store import ArtifactStore


def plain(value: Any) -> Any:
    """Values that JSON knows: a figure that does not exist is null."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarize(session: "Session", datasets: Sequence[str], options: RunOptions | None = None) -> dict[str, Any]:
    """``{"dataset/token_kind/model": figures}`` for every combination whose best pairs are there.

    ``stale_stages`` are those that these options would make anew: the figures are then not of the data, catalog and
    options of now.
    """
    figures: dict[str, Any] = {}
    for name in datasets:
        outlook, entry = session.outlook(name, options), session.catalog.datasets[name]
        store, chunks = session.store, outlook.scope.chunks
        stale = [each for each in outlook.scope.addresses() if outlook.is_due(each) and store.find(each) is not None]
        for kind in entry.token_kinds:
            for model in entry.models:
                if store.find(Address(name, "best_pairs", kind, model)) is None:
                    continue
                of_model = plain(_figures(store, session.instance, name, kind, model, chunks))
                ours = [each for each in stale if (each.token_kind, each.model) in ((None, None), (kind, model))]
                of_model["stale_stages"] = list(dict.fromkeys(address.stage for address in ours))
                figures[f"{name}/{kind}/{model}"] = of_model
    return figures


def _figures(
    store: "ArtifactStore", instance: "DagsterInstance", dataset: str, kind: str, model: str, chunks: Sequence[str]
) -> dict[str, Any]:
    sparse = [Address(dataset, "sparse_activations", kind, model, chunk) for chunk in chunks]
    there = [address for address in sparse if store.find(address) is not None]
    rows = dense = stored = 0
    n_units, k_stored = 0, None
    for address in there:
        artifact = store.read(address).artifact
        rows, dense = rows + artifact.n_rows, dense + artifact.dense_bytes
        n_units, k_stored = artifact.n_units, artifact.k_stored
        stored += store.size(address)
    best = store.read(Address(dataset, "best_pairs", kind, model)).artifact
    mapping = store.read(Address(dataset, "unit_mapping", kind, model)).artifact
    f1, always = best.rate("f1"), best.always_positive_f1[1]
    concepts = {
        name: {
            "unit_id": int(best.unit_ids[place]) if int(best.unit_ids[place]) >= 0 else None,
            "tail_fraction": float(best.tail_fractions[place]),
            "threshold": float(best.thresholds[place]),
            "cal_f1": float(f1[0, place]),
            "cal_fold_f1": None if best.fold_f1 is None else float(best.fold_f1[place]),
            "test_f1": float(f1[1, place]),
            "test_f1_interval": best.test_interval[place].tolist(),
            "always_positive_f1": float(always[place]),
            "null_f1": {"mean": float(best.null_f1[1, place, 0]), "p95": float(best.null_f1[1, place, 1])},
            "n_cal": int(best.n_positive[0, place]),
            "n_test": int(best.n_positive[1, place]),
        }
        for place, name in enumerate(best.concepts)
    }
    stages = [name for name in STAGES if name != "best_pairs"]
    return {
        "n_rows": rows,
        "n_units": n_units,
        "k_stored": k_stored,
        "n_kept": mapping.n_filtered,
        "dense_bytes": dense,
        "stored_bytes": stored,
        "compression_ratio": dense / stored if stored else math.nan,
        "weighted_test_f1": best.weighted(f1[1]),
        "weighted_test_f1_interval": best.weighted_interval.tolist(),
        "always_positive_f1": best.weighted(always),
        "null_f1": {"mean": float(best.weighted_null[0]), "p95": float(best.weighted_null[1])},
        "seconds": {name: seconds_of(instance, STAGES[name].address(dataset, kind, model), chunks) for name in stages},
        "concepts": concepts,
    }
