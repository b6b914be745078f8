"""Figures of what is materialized, per data set, token kind and model, as plain values: what the demo and CLI print.

Read from the store and from the instance's history; nothing is computed again.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.commands.concept_figures import (
    CHOICE,
    audit_figures,
    choice_figures,
    coalition_figures,
    control_figures,
    localization_figures,
    row_figures,
    weighted_localization,
)
from sae_assets.commands.plain import plain
from sae_assets.orchestration.history import taken_by
from sae_assets.pipeline.options import RunOptions
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.rows.source import is_pooled
from sae_assets.saes import locate_sae, named_l0
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from sae_assets.artifacts.fit import FitSums
    from sae_assets.catalog import Catalog, Dataset
    from sae_assets.commands.session import Session
    from sae_assets.orchestration.instance.home import Instance
    from sae_assets.storage.store import ArtifactStore


def summarize(session: "Session", datasets: Sequence[str], options: RunOptions | None = None) -> dict[str, Any]:
    """``{"dataset/token_kind/model": figures}`` for every combination whose best pairs are there.

    ``stale_stages`` are those that these options would make anew: the figures are then not of the data, catalog and
    options of now. ``inapplicable_stages`` cannot be made of activations that were imported.
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
                of_model = plain(_figures(store, session.instance, entry, kind, model, chunks))
                of_model["fit"]["stated_l0"] = _stated_l0(session.catalog, entry, model, kind)
                ours = [each for each in stale if (each.token_kind, each.model) in ((None, None), (kind, model))]
                of_model["stale_stages"] = list(dict.fromkeys(address.stage for address in ours))
                of_model["inapplicable_stages"] = list(
                    dict.fromkeys(
                        address.stage
                        for address in outlook.scope.addresses()
                        if (address.token_kind, address.model) == (kind, model)
                        and outlook.state(address) == "inapplicable"
                    )
                )
                figures[f"{name}/{kind}/{model}"] = of_model
    return figures


def _figures(
    store: "ArtifactStore", instance: "Instance", entry: "Dataset", kind: str, model: str, chunks: Sequence[str]
) -> dict[str, Any]:
    dataset = entry.name
    sparse = [Address(dataset, "sparse_activations", kind, model, chunk) for chunk in chunks]
    materialized = [address for address in sparse if store.find(address) is not None]
    rows = dense = stored = active = 0
    n_units, k_stored = 0, None
    fits: list[FitSums] = []
    fired: set[int] = set()
    for address in materialized:
        artifact = store.read(address).artifact
        rows, dense = rows + artifact.n_rows, dense + artifact.dense_bytes
        n_units, k_stored = artifact.n_units, artifact.k_stored
        stored += store.size(address)
        active += int(artifact.l0.sum())
        fired.update(artifact.active_units().tolist())
        fits += [] if artifact.fit is None else [artifact.fit]
    best = store.read(Address(dataset, "best_pairs", kind, model)).artifact
    chosen = choice_figures(store, Address(dataset, "chosen_pairs", kind, model))
    mapping = store.read(Address(dataset, "unit_mapping", kind, model)).artifact
    rows_of, rows_of_sae = row_figures(store, Address(dataset, "row_alignment", kind, model), best)
    controls = control_figures(store, instance, Address(dataset, "controls", kind, model))
    audits = audit_figures(store, Address(dataset, "pruning_audit", kind, model))
    places = localization_figures(store, Address(dataset, "localization", kind, model))
    together = coalition_figures(store, Address(dataset, "coalitions", kind, model))
    f1, always = best.rate("f1"), best.always_positive_f1[1]
    concepts = {
        name: {
            "unit_id": int(best.unit_ids[index]) if int(best.unit_ids[index]) >= 0 else None,
            "tail_fraction": float(best.tail_fractions[index]),
            "threshold": float(best.thresholds[index]),
            **chosen.get(name, dict.fromkeys(CHOICE)),
            "cal_f1": float(f1[0, index]),
            "test_f1": float(f1[1, index]),
            "test_f1_interval": best.test_interval[index].tolist(),
            "too_few": bool(best.too_few[1, index]),
            "always_positive_f1": float(always[index]),
            "null_f1": {"mean": float(best.null_f1[1, index, 0]), "p95": float(best.null_f1[1, index, 1])},
            "chance_f1": float(best.chance_f1[index]),
            "p": float(best.p[1, index]),
            "family_p": float(best.family_p[1, index]),
            "q": float(best.q[1, index]),
            "cal_p": float(best.p[0, index]),
            **dict(zip(best.SCORES, best.scores[index].tolist(), strict=True)),
            "auroc_interval": best.auroc_interval[index].tolist(),
            "length_auroc": float(best.length_auroc[index]),
            "n_cal": int(best.n_positive[0, index]),
            "n_test": int(best.n_positive[1, index]),
            "row": rows_of.get(name),
            "audit": audits.get(name),
            "localization": places.get(name),
            "coalition": together.get(name),
            "controls": controls["concepts"].get(name),
            "row_controls": controls["rows"].get(name),
        }
        for index, name in enumerate(best.concepts)
    }
    return {
        "n_rows": rows,
        "n_units": n_units,
        "k_stored": k_stored,
        "n_kept": mapping.n_filtered,
        "dense_bytes": dense,
        "stored_bytes": stored,
        "compression_ratio": dense / stored if stored else math.nan,
        "fit": {
            "fvu": ops.reconstruction.merge_fits(fits).fvu if fits else None,
            "mean_l0": active / rows if rows else math.nan,
            "dead_units_share": 1 - len(fired) / n_units if n_units else math.nan,
        },
        "weighted_test_f1": best.weighted(f1[1]),
        "weighted_test_f1_interval": best.weighted_interval.tolist(),
        "always_positive_f1": best.weighted(always),
        "null_f1": {"mean": float(best.weighted_null[0]), "p95": float(best.weighted_null[1])},
        "p": float(best.weighted_null[2]),
        "seconds": {
            name: taken_by(instance, STAGES[name].address(dataset, kind, model), chunks).seconds
            for name in stages_of(entry)
        },
        "controls": controls["all"],
        "rows": rows_of_sae,
        "weighted_localization": weighted_localization(store, Address(dataset, "localization", kind, model), best),
        "concepts": concepts,
    }


def _stated_l0(catalog: "Catalog", dataset: "Dataset", model: str, kind: str) -> int | None:
    """Return active units per row that the checkpoint's own name promises; nothing of rows that are pooled."""
    entry = catalog.models[model]
    path = None if is_pooled(dataset, entry, kind) else locate_sae(entry.sae, download=False)
    return None if path is None else named_l0(path)
