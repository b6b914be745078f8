"""``chosen_pairs``: the unit and threshold that stand for each concept, chosen on cal alone."""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.options import ChoiceOptions
from sae_assets.pipeline.scoring import catalog_or, score_examples, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target

NAMES = ("selection", "choose_by", "min_support", "n_folds", "seed")


def _settings(target: Target, options: ChoiceOptions) -> dict[str, Any]:
    settings = {**scoring_settings(target, options), **catalog_or(target, options, NAMES)}
    settings["concepts"] = list(target.dataset.concepts)  # frozen pairs, too, are of these in this order
    if target.token_kind == "cls":  # its one row is the example
        settings["choose_by"] = "examples"
    return settings


def _make(work: Pass) -> Made:
    assert isinstance(work.options, ChoiceOptions)
    settings, rows = _settings(work.target, work.options), work.artifact("row_alignment")
    scores, _ = score_examples(work, rows.concepts)
    rules = {name: settings[name] for name in NAMES if name != "selection"}
    if settings["selection"] == "tails":
        stats, thresholds = work.artifact("detection_stats"), work.artifact("thresholds")
        artifact = ops.chosen_pairs.choose_by_tails(stats, thresholds, scores["cal"], rows, **rules)
    else:
        artifact = ops.chosen_pairs.choose_exactly(scores, rows, **rules)
    return CHOSEN_PAIRS.only(work, Result(artifact))


def _every_concept_has_a_unit(artifact: Any, _expected: Expected) -> Outcome:
    names = [name for name, unit in zip(artifact.concepts, artifact.unit_ids.tolist(), strict=True) if unit < 0]
    shown = {"concepts": len(artifact.concepts), "without_unit": len(names), "min_support": artifact.min_support}
    return Outcome(not names, {**shown, "names": ", ".join(names[:MOST_NAMED])} if names else shown)


def _counts(artifact: Any) -> dict[str, Any]:
    units = {
        f"unit[{name}]": unit
        for name, unit in zip(artifact.concepts, artifact.unit_ids.tolist(), strict=True)
        if unit >= 0
    }
    other = (artifact.example_unit_ids != artifact.unit_ids) & (artifact.example_unit_ids >= 0)
    return {
        "selection": artifact.selection,
        "concepts_by_rows": int(artifact.by_rows.sum()),
        "other_unit_by_examples": int(other.sum()),
        **units,
    }


CHOSEN_PAIRS = Stage(
    name="chosen_pairs",
    level="model",
    description="Per concept the unit and threshold chosen on cal, by rows where it is located, else by examples.",
    make=_make,
    code_version="2",
    chunk_inputs=("sparse_activations", "labels"),
    model_inputs=("thresholds", "detection_stats", "row_alignment"),
    settings=_settings,
    options=ChoiceOptions,
    seconds_offset=1500,
    frozen=True,
    checks=(
        Check(
            "every_concept_has_a_unit",
            "For every concept some unit detects at least `min_support` of its cal positives.",
            _every_concept_has_a_unit,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_chosen_pairs,
)
