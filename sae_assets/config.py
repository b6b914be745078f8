"""Run configuration of the assets: what a person can set in the launchpad or on the command line.

Defaults follow ``docs/numerics.md``; None means "as the catalog says". ``result()`` gives the values that change the
result, and so enter the fingerprint; batch sizes and permission to skip chunks do not.
"""

import difflib
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from sae_assets.catalog import Model, Pruning
from sae_assets.catalog.entries import FIXED_RULES
from sae_assets.errors import CatalogError

TAIL_FRACTIONS = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
PRECISIONS = ("float32", "bfloat16", "float16")
PRUNING_MODES = ("adaptive", "fixed")


def _one_of(value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is not None and value not in allowed:
        near = difflib.get_close_matches(value.lower(), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"found {value!r}, expected one of {', '.join(allowed)}{hint}")
    return value


class EncodeConfig(dg.Config):
    """Of ``sparse_activations``."""

    k_stored: int | None = Field(None, ge=0, description="entries kept per row; 0: all; default: the catalog's")
    batch_size: int = Field(32, ge=1, description="examples whose rows are encoded together; the result is the same")
    precision: str | None = Field(None, description="of the transformer: float32, bfloat16, float16; default: catalog")
    forward_batch: int = Field(
        1, ge=1, description="examples in one forward pass; above 1 is faster and changes the last bits of embeddings"
    )
    force: bool = Field(False, description="encode also what is up to date, and replace what was imported")

    @field_validator("precision")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return _one_of(value, PRECISIONS)

    def result_for(self, model: Model) -> dict[str, Any]:
        """k_stored (None: all), precision and forward_batch, with the catalog's values filled in."""
        k_stored = model.k_stored if self.k_stored is None else self.k_stored or None
        return {
            "k_stored": k_stored,
            "precision": self.precision or model.precision,
            "forward_batch": self.forward_batch,
        }


class AggregateConfig(dg.Config):
    """Of every model-level stage."""

    allow_missing_chunks: bool = Field(False, description="use the chunks there are instead of refusing gaps")

    def result(self) -> dict[str, Any]:
        return {}


class MappingConfig(AggregateConfig):
    """Of ``unit_mapping``."""

    pruning: str | None = Field(
        None, description="adaptive (limits from the concepts' cal counts) or fixed; default: the model's catalog entry"
    )
    target_units: int | None = Field(None, ge=1, description="most units to keep; default: the model's catalog entry")
    min_active: int | None = Field(None, ge=0, description="fixed mode: fewer cal rows are rare")
    max_density: float | None = Field(None, gt=0, le=1, description="fixed mode: a larger share of cal rows is dense")
    strength_percentile: float | None = Field(None, ge=0, le=100, description="fixed mode: below, a unit is weak")

    @field_validator("pruning")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return _one_of(value, PRUNING_MODES)

    def limits(self, name: str, model: Model) -> Pruning:
        """The catalog's rules of a model with what was set here on top.

        Raises:
            CatalogError: rules of fixed pruning given where pruning is adaptive, or missing where it is fixed.
        """
        names = ("target_units", *FIXED_RULES)
        given = {each: getattr(self, each) for each in names if getattr(self, each) is not None}
        found = model.pruning.model_copy(update={**given, "mode": self.pruning or model.pruning.mode})
        if found.mode == "adaptive" and (wrong := [each for each in FIXED_RULES if each in given]):
            raise CatalogError(
                f"{', '.join(wrong)}: of fixed pruning only, but pruning of model {name!r} is adaptive; set it to "
                "fixed (`--pruning fixed`, or `pruning.mode` of the model in the catalog)."
            )
        if found.mode == "fixed" and (missing := [each for each in FIXED_RULES if getattr(found, each) is None]):
            raise CatalogError(
                f"Fixed pruning of model {name!r} needs {', '.join(missing)}: as options, or under `pruning` of the "
                "model in the catalog."
            )
        return found

    def result_for(self, name: str, model: Model, token_kind: str) -> dict[str, Any]:
        """What stands in provenance. Raises: as :meth:`limits`."""
        limits = self.limits(name, model)
        if token_kind == "cls":
            return {"pruning": "active"}
        if limits.mode == "adaptive":
            return {"pruning": "adaptive", "target_units": limits.target_units}
        return {"pruning": "fixed", **limits.model_dump(exclude={"mode"})}


class ThresholdsConfig(AggregateConfig):
    """Of ``thresholds``."""

    tail_fractions: list[float] = Field(TAIL_FRACTIONS, description="shares of the positive values to keep")

    @field_validator("tail_fractions")
    @classmethod
    def _ascending(cls, values: list[float]) -> list[float]:
        if not values or not all(0 < value < 1 for value in values) or values != sorted(set(values)):
            raise ValueError(f"found {values}, expected numbers that ascend within (0, 1)")
        return values

    def result(self) -> dict[str, Any]:
        return {"tail_fractions": list(self.tail_fractions)}


class DetectionConfig(AggregateConfig):
    """Of ``detection_stats`` and ``best_pairs``."""

    n_permutations: int = Field(100, ge=0, description="label shuffles behind the chance level")
    n_bootstrap: int = Field(1000, ge=0, description="resamples behind the 95 % intervals")
    n_folds: int = Field(0, ge=0, description="folds of the cal examples that pairs are tried on; 0: none")
    seed: int = Field(0, ge=0, description="of shuffles, resamples and folds")

    @field_validator("n_folds")
    @classmethod
    def _folds(cls, value: int) -> int:
        if value == 1:
            raise ValueError("found 1, expected 0 (off) or at least 2")
        return value

    def result(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("n_permutations", "n_bootstrap", "n_folds", "seed")}
