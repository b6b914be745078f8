"""Figures of what is materialized, per data set, token kind and model, as plain values: what the demo and CLI print.

Read from the store and from the instance's history; nothing is computed again.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts.controls import LEVELS, RANDOM, UNIT
from sae_assets.artifacts.localization import METHODS
from sae_assets.artifacts.row_alignment import BESIDE, COVERAGES
from sae_assets.commands.plain import plain
from sae_assets.orchestration.history import measured, seconds_of
from sae_assets.pipeline.options import RunOptions
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.pipeline.stages.controls import verdict
from sae_assets.rows.source import is_pooled
from sae_assets.saes import locate_sae, named_l0
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from sae_assets.artifacts.fit import FitSums
    from sae_assets.catalog import Catalog, Dataset
    from sae_assets.commands.session import Session
    from sae_assets.storage.store import ArtifactStore

CHOICE = ("selection", "chosen_by", "n_support", "row_threshold", "example_unit_id", "cal_fold_f1")


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
    store: "ArtifactStore", instance: "DagsterInstance", entry: "Dataset", kind: str, model: str, chunks: Sequence[str]
) -> dict[str, Any]:
    dataset = entry.name
    sparse = [Address(dataset, "sparse_activations", kind, model, chunk) for chunk in chunks]
    there = [address for address in sparse if store.find(address) is not None]
    rows = dense = stored = active = 0
    n_units, k_stored = 0, None
    fits: list[FitSums] = []
    fired: set[int] = set()
    for address in there:
        artifact = store.read(address).artifact
        rows, dense = rows + artifact.n_rows, dense + artifact.dense_bytes
        n_units, k_stored = artifact.n_units, artifact.k_stored
        stored += store.size(address)
        active += int(artifact.l0.sum())
        fired.update(artifact.unit_ids.unique().tolist())
        fits += [] if artifact.fit is None else [artifact.fit]
    best = store.read(Address(dataset, "best_pairs", kind, model)).artifact
    chosen = _choice_figures(store, Address(dataset, "chosen_pairs", kind, model))
    mapping = store.read(Address(dataset, "unit_mapping", kind, model)).artifact
    rows_of, rows_of_sae = _row_figures(store, Address(dataset, "row_alignment", kind, model), best)
    controls = _control_figures(store, instance, Address(dataset, "controls", kind, model))
    audits = _audit_figures(store, Address(dataset, "pruning_audit", kind, model))
    places = _localization_figures(store, Address(dataset, "localization", kind, model))
    together = _coalition_figures(store, Address(dataset, "coalitions", kind, model))
    f1, always = best.rate("f1"), best.always_positive_f1[1]
    concepts = {
        name: {
            "unit_id": int(best.unit_ids[place]) if int(best.unit_ids[place]) >= 0 else None,
            "tail_fraction": float(best.tail_fractions[place]),
            "threshold": float(best.thresholds[place]),
            **chosen.get(name, dict.fromkeys(CHOICE)),
            "cal_f1": float(f1[0, place]),
            "test_f1": float(f1[1, place]),
            "test_f1_interval": best.test_interval[place].tolist(),
            "always_positive_f1": float(always[place]),
            "null_f1": {"mean": float(best.null_f1[1, place, 0]), "p95": float(best.null_f1[1, place, 1])},
            "chance_f1": float(best.chance_f1[place]),
            "p": float(best.p[1, place]),
            "family_p": float(best.family_p[1, place]),
            "q": float(best.q[1, place]),
            "cal_p": float(best.p[0, place]),
            **dict(zip(best.SCORES, best.scores[place].tolist(), strict=True)),
            "length_auroc": float(best.length_auroc[place]),
            "n_cal": int(best.n_positive[0, place]),
            "n_test": int(best.n_positive[1, place]),
            "row": rows_of.get(name),
            "audit": audits.get(name),
            "localization": places.get(name),
            "coalition": together.get(name),
            "controls": controls["concepts"].get(name),
            "row_controls": controls["rows"].get(name),
        }
        for place, name in enumerate(best.concepts)
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
            name: seconds_of(instance, STAGES[name].address(dataset, kind, model), chunks) for name in stages_of(entry)
        },
        "controls": controls["all"],
        "rows": rows_of_sae,
        "weighted_localization": _weighted_localization(store, Address(dataset, "localization", kind, model), best),
        "concepts": concepts,
    }


def _choice_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """By concept how its pair was chosen, and the unit that examples would choose."""
    if store.find(address) is None:
        return {}
    chosen = store.read(address).artifact
    return {
        name: {
            "selection": chosen.selection,
            "chosen_by": "rows" if bool(chosen.by_rows[number]) else "examples",
            "n_support": int(chosen.support[number]),
            "row_threshold": float(chosen.row_thresholds[number]),
            "example_unit_id": unit if (unit := int(chosen.example_unit_ids[number])) >= 0 else None,
            "cal_fold_f1": None if chosen.fold_f1 is None else float(chosen.fold_f1[number]),
        }
        for number, name in enumerate(chosen.concepts)
    }


def _stated_l0(catalog: "Catalog", dataset: "Dataset", model: str, kind: str) -> int | None:
    """Active units per row that the checkpoint's own name promises; nothing of rows that are pooled."""
    entry = catalog.models[model]
    path = None if is_pooled(dataset, entry, kind) else locate_sae(entry.sae, download=False)
    return None if path is None else named_l0(path)


def _row_figures(
    store: "ArtifactStore", address: Address, best: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """By concept that is located: row figures on test of the pair's unit, and the units that cal rows would choose.

    ``null_f1``, ``p``, ``family_p`` and ``q`` are of the row F1 where truth maps change examples.
    ``beside`` is true of a pair that finds examples better than calling all positive, while most of the rows that it
    fires on are not the concept's: it may detect what stands beside the concept in the same example. ``covered`` says
    for each limit of Coverage whether the unit of the best cal average precision reaches it on test. Then the figures
    of the whole SAE, None where no concept is located.
    """
    if store.find(address) is None:
        return {}, None
    rows = store.read(address).artifact
    rates = {name: rows.rate(name)[1] for name in ("precision", "recall", "f1", "iou")}
    example_f1, always = best.rate("f1")[1].tolist(), best.always_positive_f1[1].tolist()
    by_ap, covered = rows.best_by_ap.tolist(), {f"{least:g}": rows.covered(least) for least in COVERAGES}
    figures: dict[str, dict[str, Any]] = {}
    for number, first in enumerate(rows.best.tolist()):
        if first < 0:
            continue
        pair = rows.find(number, int(best.unit_ids[number]))
        of_pair = {name: float(values[pair]) if pair is not None else math.nan for name, values in rates.items()}
        precision = of_pair["precision"] if pair is not None else 0.0  # fires on no calibration row of the concept
        figures[rows.concepts[number]] = {
            **of_pair,
            "ap": float(rows.average_precision[1, pair]) if pair is not None else math.nan,
            "auroc": float(rows.auroc[pair]) if pair is not None else math.nan,
            "purity_16": float(rows.purity[pair]) if pair is not None else math.nan,
            "pixel_iou": float(rows.pixel_iou[pair]) if pair is not None else math.nan,
            "f1_interval": best.row_interval[number].tolist(),
            "null_f1": {"mean": float(best.row_null_f1[number, 0]), "p95": float(best.row_null_f1[number, 1])},
            "p": float(best.row_p[number]),
            "family_p": float(best.row_family_p[number]),
            "q": float(best.row_q[number]),
            "beside": example_f1[number] > always[number] and precision < BESIDE,
            "best_unit_id": int(rows.unit_ids[first]),
            "best_f1": float(rates["f1"][first]),
            "best_f1_interval": rows.intervals[number].tolist(),
            "best_ap_unit_id": int(rows.unit_ids[by_ap[number]]),
            "best_ap": float(rows.average_precision[1, by_ap[number]]),
            "covered": {least: bool(each[number]) for least, each in covered.items()},
        }
    return figures, rows.summary if int(rows.judged.sum()) else None


def _coalition_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """By concept the units that detect it together, their figures, and the difference to the single unit on test."""
    if store.find(address) is None:
        return {}
    coalitions = store.read(address).artifact
    figures: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(coalitions.concepts):
        difference, *ends = coalitions.differences[number].tolist()
        figures[name] = {
            "units": coalitions.members(number),
            "rule": coalitions.rule(number),
            "cal_f1": float(coalitions.f1[1, number]),
            "test_f1": float(coalitions.f1[2, number]),
            "test_f1_interval": coalitions.intervals[number].tolist(),
            "difference": difference,
            "difference_interval": ends,
        }
    return figures


def _localization_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """By concept that is located: row figures on test of what each method marks, with the cut-off chosen on cal.

    ``whole_examples`` are those of all rows of the detected examples.
    """
    if store.find(address) is None:
        return {}
    rows = store.read(address).artifact
    rates = {name: (rows.rate(name)[:, 1], rows.whole_rate(name)[1]) for name in ("precision", "recall", "f1", "iou")}
    figures: dict[str, dict[str, Any]] = {}
    for number in rows.located.nonzero().flatten().tolist():
        of_concept: dict[str, Any] = {"superactivators_fitted": int(rows.n_superactivators[number])}
        for method, name in enumerate(METHODS):
            low, high = rows.intervals[method, number].tolist()
            of_concept[name] = {
                "cutoff": float(rows.cutoffs[method, number]),
                "tail_fraction": float(rows.tail_fractions[method, number]),
                **{rate: float(values[method, number]) for rate, (values, _) in rates.items()},
                "f1_interval": [low, high],
                "iou_interval": [low / (2 - low), high / (2 - high)],  # IoU grows with F1
            }
        of_concept["whole_examples"] = {rate: float(values[number]) for rate, (_, values) in rates.items()}
        figures[rows.concepts[number]] = of_concept
    return figures


def _control_figures(store: "ArtifactStore", instance: "DagsterInstance", address: Address) -> dict[str, Any]:
    """What stands beside the units, by concept and control: ``concepts`` of examples, ``rows`` of the sampled rows.

    ``difference_interval`` is of the F1 of the unit minus that of the control, of random SAEs minus their mean, whose
    range over seeds stands beside it. ``all`` has the weighted means, what each control cost, and who wins.
    """
    if store.find(address) is None:
        return {"concepts": {}, "rows": {}, "all": None}
    artifact = store.read(address).artifact
    by_level: dict[str, dict[str, Any]] = {level: {} for level in LEVELS}
    weighted: dict[str, dict[str, Any]] = {level: {} for level in LEVELS}
    for (level, name), differences, means in zip(
        artifact.comparisons, artifact.differences.tolist(), artifact.weighted.tolist(), strict=True
    ):
        figures = [artifact.of(each, level, name) for each in (artifact.f1, artifact.auroc, artifact.average_precision)]
        weighted[level][name] = {"unit_f1": means[0], "f1": means[1], "difference_interval": means[2:]}
        for number, concept in enumerate(artifact.concepts):
            f1, auroc, ap = (draws[:, number] for draws in figures)
            of_control: dict[str, Any] = {
                "f1": _mean_f1(f1),
                "auroc": float(auroc.nanmean()),
                "ap": float(ap.nanmean()),
                "difference": differences[number][0],
                "difference_interval": differences[number][1:],
            }
            if name == RANDOM and len(f1):
                of_control["f1_range"] = [float(f1.min()), float(f1.max())]
            by_level[level].setdefault(concept, {})[name] = of_control
    if artifact.row_figures:
        of_units = (artifact.choices, artifact.f1, artifact.auroc, artifact.average_precision)
        unit = [artifact.of(each, LEVELS[1], UNIT)[0] for each in of_units]
        for number, concept in enumerate(artifact.concepts):
            choice, f1, auroc, ap = (float(values[number]) for values in unit)
            of_unit = {"unit_id": int(choice) if choice >= 0 else None, "f1": f1, "auroc": auroc, "ap": ap}
            by_level[LEVELS[1]][concept][UNIT] = of_unit
    costs = measured(instance, address)
    return {
        "concepts": by_level[LEVELS[0]],
        "rows": by_level[LEVELS[1]],
        "all": {
            "verdict": verdict(artifact),
            "row_verdict": verdict(artifact, LEVELS[1]) if artifact.row_figures else None,
            "weighted": weighted[LEVELS[0]],
            "row_weighted": weighted[LEVELS[1]],
            "fitted_on_half_of_cal": artifact.fitted_on_cal,
            "n_seeds": artifact.n_seeds,
            **{name: costs.get(name, {}) for name in ("seconds", "peak_bytes", "bytes")},
        },
    }


def _mean_f1(f1: Any) -> float:
    """Over random SAEs, of which one without a unit detects nothing; null if none has one."""
    return math.nan if bool(f1.isnan().all()) else float(f1.nan_to_num(0).mean())


def _weighted_localization(store: "ArtifactStore", address: Address, best: Any) -> dict[str, dict[str, float]]:
    """By method the means of row F1 and IoU on test over located concepts, weighted by their test examples."""
    if store.find(address) is None:
        return {}
    rows = store.read(address).artifact
    means = {
        name: {rate: best.weighted(rows.rate(rate)[number, 1]) for rate in ("f1", "iou")}
        for number, name in enumerate(METHODS)
    }
    return means | {"whole_examples": {rate: best.weighted(rows.whole_rate(rate)[1]) for rate in ("f1", "iou")}}


def _audit_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """By concept the best unit of all over all thresholds on cal, and what it costs that pruning removed it."""
    if store.find(address) is None:
        return {}
    audit = store.read(address).artifact
    (cal, test), (kept_cal, kept_test) = audit.f1
    return {
        name: {
            "unit_id": int(audit.unit_ids[0, number]) if int(audit.unit_ids[0, number]) >= 0 else None,
            "removed_by": audit.removed_by(number),
            "cal_f1": float(cal[number]),
            "test_f1": float(test[number]),
            "kept_unit_id": int(audit.unit_ids[1, number]) if int(audit.unit_ids[1, number]) >= 0 else None,
            "kept_cal_f1": float(kept_cal[number]),
            "kept_test_f1": float(kept_test[number]),
            "cal_loss": float(audit.loss[number]),
        }
        for number, name in enumerate(audit.concepts)
    }
