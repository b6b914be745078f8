"""Each stage's figures of each concept are read from one artifact, as plain values by the names of concepts.

What results are as a whole, and which of these stand beside each other, is ``commands.figures``'s.
"""

import math
from typing import TYPE_CHECKING, Any

from sae_assets.artifacts.controls import LEVELS, RANDOM, UNIT
from sae_assets.artifacts.localization import METHODS
from sae_assets.artifacts.row_alignment import BESIDE, COVERAGES
from sae_assets.orchestration.history import measured
from sae_assets.pipeline.stages.controls import verdict
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from sae_assets.orchestration.instance.home import Instance
    from sae_assets.storage.store import ArtifactStore

CHOICE = ("selection", "chosen_by", "n_support", "row_threshold", "example_unit_id", "cal_fold_f1")


def choice_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """Return by concept how its pair was chosen, and the unit that examples would choose."""
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


def row_figures(
    store: "ArtifactStore", address: Address, best: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Return by located concept the row figures on test of its pair's unit, and the units that cal rows would choose.

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


def coalition_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """Return by concept the units that detect it together, their figures, and the difference to the single unit on
    test."""
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


def localization_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """Return by located concept the row figures on test of what each method marks, with the cut-off chosen on cal.

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


def control_figures(store: "ArtifactStore", instance: "Instance", address: Address) -> dict[str, Any]:
    """Return what stands beside the units, by concept and control: ``concepts`` of examples, ``rows`` of the sampled
    rows.

    ``difference_interval`` is of the F1 of the unit minus that of the control, of random SAEs minus their mean, whose
    range over seeds stands beside it. ``auroc_interval`` is null on rows and of random SAEs, which have a range.
    ``all`` has the weighted means, what each control cost, and who wins.
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
                "auroc_interval": [math.nan, math.nan],
                "ap": float(ap.nanmean()),
                "difference": differences[number][0],
                "difference_interval": differences[number][1:],
            }
            if name == RANDOM and len(f1):
                of_control["f1_range"] = [float(f1.min()), float(f1.max())]
                of_control["auroc_range"] = [float(auroc.min()), float(auroc.max())]
            elif name != RANDOM and artifact.auroc_intervals is not None:
                of_control["auroc_interval"] = artifact.of(artifact.auroc_intervals, level, name)[0, number].tolist()
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


def weighted_localization(store: "ArtifactStore", address: Address, best: Any) -> dict[str, dict[str, float]]:
    """Return by method mean row F1 and IoU on test over located concepts, weighted by their test examples."""
    if store.find(address) is None:
        return {}
    rows = store.read(address).artifact
    numbers = {name: number for number, name in enumerate(rows.concepts)}

    def weighted(rates: Any) -> float:
        """Return the weighted mean; a concept that was added after rows were located has no figure."""
        values = [float(rates[numbers[name]]) if name in numbers else math.nan for name in best.concepts]
        return best.weighted(rates.new_tensor(values))

    means = {
        name: {rate: weighted(rows.rate(rate)[number, 1]) for rate in ("f1", "iou")}
        for number, name in enumerate(METHODS)
    }
    return means | {"whole_examples": {rate: weighted(rows.whole_rate(rate)[1]) for rate in ("f1", "iou")}}


def audit_figures(store: "ArtifactStore", address: Address) -> dict[str, dict[str, Any]]:
    """Return by concept the best unit of all over all thresholds on cal, and what it costs that pruning removed it."""
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
