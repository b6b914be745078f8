"""``unit_mapping``: which units of a model are kept for this data set and token kind."""

from typing import Any

from sae_assets import ops
from sae_assets.catalog import Model, Pruning
from sae_assets.catalog.models import FIXED_RULES
from sae_assets.errors import CatalogError
from sae_assets.pipeline import glances
from sae_assets.pipeline.options import MappingOptions
from sae_assets.pipeline.plots import plot_unit_mapping
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target


def pruning_rules(model: Model, options: MappingOptions) -> Pruning:
    """Return the catalog's rules of a model with what was set for one run on top.

    Raises:
        CatalogError: rules of fixed pruning given where pruning is adaptive, or missing where it is fixed.
    """
    names = ("target_units", *FIXED_RULES)
    overrides = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    rules = model.pruning.model_copy(update={**overrides, "mode": options.pruning or model.pruning.mode})
    if rules.mode == "adaptive" and (wrong := [name for name in FIXED_RULES if name in overrides]):
        raise CatalogError(
            f"{', '.join(wrong)}: of fixed pruning only, but pruning of model {model.name!r} is adaptive; set it to "
            "fixed (`--pruning fixed`, or `pruning.mode` of the model in the catalog)."
        )
    if rules.mode == "fixed" and (missing := [name for name in FIXED_RULES if getattr(rules, name) is None]):
        raise CatalogError(
            f"Fixed pruning of model {model.name!r} needs {', '.join(missing)}: as options, or under `pruning` of the "
            "model in the catalog."
        )
    return rules


def _make(work: Pass) -> Made:
    assert isinstance(work.options, MappingOptions)
    stats, chosen = work.artifact("unit_stats"), pruning_rules(work.target.model, work.options)
    if work.target.token_kind == "cls":
        rules = ops.unit_mapping.EVERY_ACTIVE_UNIT
    elif chosen.mode == "fixed":
        rules = ops.unit_mapping.PruningRules(**chosen.model_dump())
    else:
        positive = ops.ground_truth.count_positive_rows(
            (truth, labels.in_split("cal")) for truth, labels in work.pairs("ground_truth")
        )
        rules = ops.unit_mapping.adaptive_rules(positive, work.target.dataset.modality, chosen.target_units)
    artifact = ops.unit_mapping.map_units(stats, rules)
    return UNIT_MAPPING.only(work, Result(artifact, plot=lambda: plot_unit_mapping(stats, artifact)))


def _settings(target: Target, options: MappingOptions) -> dict[str, Any]:
    rules = pruning_rules(target.model, options)
    if target.token_kind == "cls":
        return {"pruning": "active"}
    if rules.mode == "adaptive":
        return {"pruning": "adaptive", "target_units": rules.target_units}
    return {"pruning": "fixed", **rules.model_dump(exclude={"mode"})}


def _counts(artifact: Any) -> dict[str, Any]:
    return {
        "pruning": artifact.mode,
        "units": artifact.n_original,
        "min_active": artifact.min_active,
        "max_active": artifact.max_active,
        **{f"units_{reason}": count for reason, count in artifact.counts().items()},
    }


UNIT_MAPPING = Stage(
    name="unit_mapping",
    level="model",
    description="Which units are kept, in which order, and why each other one is not.",
    make=_make,
    chunk_inputs=("ground_truth", "labels"),
    model_inputs=("unit_stats",),
    settings=_settings,
    options=MappingOptions,
    frozen=True,
    counts=_counts,
    glance=glances.glance_at_unit_mapping,
)
