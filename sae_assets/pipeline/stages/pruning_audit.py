"""``pruning_audit``: whether pruning removed the best unit of a concept, by which rule, and what that costs."""

from typing import Any

from sae_assets import ops
from sae_assets.artifacts import REASONS
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.options import ScoringOptions
from sae_assets.pipeline.plots import plot_pruning_audit
from sae_assets.pipeline.scoring import score_examples, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target

SPLITS = ("cal", "test")


def _settings(target: Target, options: ScoringOptions) -> dict[str, Any]:
    return {**scoring_settings(target, options), "min_support": target.dataset.detection.min_support}


def _make(work: Pass) -> Made:
    labels = work.inputs["labels"]
    concepts = tuple(labels.header(next(iter(labels))).scalars["concepts"])
    scores, _ = score_examples(work, concepts)
    artifact = ops.pruning_audit.audit_pruning(
        scores, work.artifact("unit_mapping"), concepts, min_support=work.target.dataset.detection.min_support
    )
    expected = Expected(limits={"selection": work.target.dataset.detection.selection})
    return PRUNING_AUDIT.only(work, Result(artifact, expected, lambda: plot_pruning_audit(artifact)))


def _best_kept(artifact: Any, expected: Expected) -> Outcome:
    """Check what pruning costs where pairs are chosen among kept units: exact search is over all of them."""
    exact = expected.limits.get("selection") == "exact"
    removed = [
        f"{name} (unit {unit}, {artifact.removed_by(number)}: cal F1 {best:.3g}, best kept {best - loss:.3g})"
        for number, (name, unit, best, loss) in enumerate(
            zip(
                artifact.concepts,
                artifact.unit_ids[0].tolist(),
                artifact.f1[0, 0].tolist(),
                artifact.loss.tolist(),
                strict=True,
            )
        )
        if loss > 0
    ]
    among = "all units" if exact else "kept units"
    shown = {"concepts": len(artifact.concepts), "best_unit_removed": len(removed), "pairs_chosen_among": among}
    return Outcome(exact or not removed, {**shown, "names": ", ".join(removed[:MOST_NAMED])} if removed else shown)


def _counts(artifact: Any) -> dict[str, Any]:
    of_all, of_kept = artifact.f1[:, 1]
    positive = artifact.counts[0, 1, :, [0, 2]].sum(-1).double()
    figures: dict[str, Any] = {
        f"best_units_{reason}": count
        for reason, count in zip(REASONS, artifact.concepts_by_reason.tolist(), strict=True)
        if count
    }
    for name, f1 in (("of_all", of_all), ("kept", of_kept)):
        weight = positive * ~f1.isnan()
        if float(weight.sum()):
            figures[f"weighted_test_f1_{name}"] = float((f1.nan_to_num() * weight).sum() / weight.sum())
    losses = artifact.loss.tolist()
    figures |= {f"cal_loss[{name}]": loss for name, loss in zip(artifact.concepts, losses, strict=True) if loss > 0}
    return figures


PRUNING_AUDIT = Stage(
    name="pruning_audit",
    level="model",
    description="Per concept the best unit of all, by exact search on cal, beside the best that pruning keeps.",
    make=_make,
    chunk_inputs=("sparse_activations", "labels"),
    model_inputs=("unit_mapping",),
    code_version="2",
    settings=_settings,
    options=ScoringOptions,
    seconds_offset=2000,
    splits=SPLITS,
    checks=(
        Check(
            "best_units_kept",
            "The best unit of every concept, over all thresholds on cal, is among those that pairs are chosen from.",
            _best_kept,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_pruning_audit,
)
