"""Run configuration of the assets: what a person can set in the launchpad or on the command line.

Defaults follow ``docs/numerics.md``; None means "as the catalog says". ``result()`` gives the values that change the
result, and so enter the fingerprint; batch sizes and permission to skip chunks do not.
"""

import difflib
from typing import Any

import dagster as dg
from pydantic import Field, field_validator
from pydantic import model_validator as check_model

from sae_assets.catalog import Model, Pruning

TAIL_FRACTIONS = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
PRECISIONS = ("float32", "bfloat16", "float16")
PRUNING_MODES = ("adaptive", "fixed")
FIXED_RULES = ("min_active", "max_density", "strength_percentile")


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

    pruning: str = Field("adaptive", description="adaptive (limits from the concepts' cal counts) or fixed (catalog)")
    target_units: int | None = Field(None, ge=1, description="most units to keep; default: the model's catalog entry")
    min_active: int | None = Field(None, ge=0, description="fixed mode: fewer cal rows are rare")
    max_density: float | None = Field(None, gt=0, le=1, description="fixed mode: a larger share of cal rows is dense")
    strength_percentile: float | None = Field(None, ge=0, le=100, description="fixed mode: below, a unit is weak")

    @field_validator("pruning")
    @classmethod
    def _known(cls, value: str) -> str:
        return _one_of(value, PRUNING_MODES) or "adaptive"

    @check_model(mode="after")
    def _rules_of_fixed_mode(self) -> "MappingConfig":
        given = [name for name in FIXED_RULES if getattr(self, name) is not None]
        if given and self.pruning != "fixed":
            raise ValueError(
                f"{', '.join(given)}: of fixed pruning only, but pruning is {self.pruning}; set it to fixed"
            )
        return self

    def limits(self, model: Model) -> Pruning:
        """The catalog's fixed rules with what was set here on top."""
        names = ("target_units", *FIXED_RULES)
        return model.pruning.model_copy(
            update={name: getattr(self, name) for name in names if getattr(self, name) is not None}
        )

    def result_for(self, model: Model, token_kind: str) -> dict[str, Any]:
        if token_kind == "cls":
            return {"pruning": "active"}
        limits = self.limits(model)
        if self.pruning == "adaptive":
            return {"pruning": "adaptive", "target_units": limits.target_units}
        return {"pruning": "fixed", **limits.model_dump()}


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
