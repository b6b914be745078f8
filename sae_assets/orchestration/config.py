"""Run configuration of the assets: what a person can set in the launchpad or on the command line.

None means "as the catalog says", so that schedules and automation, which set nothing, make what a person makes.
``result_for()`` gives the values that change the result, and so enter the fingerprint; batch sizes and permission to
skip chunks do not.
"""

import difflib
from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from sae_assets.catalog import Dataset, Model, Pruning
from sae_assets.catalog.datasets import ascending, folds
from sae_assets.catalog.models import FIXED_RULES
from sae_assets.errors import CatalogError

PRECISIONS = ("float32", "bfloat16", "float16")
PRUNING_MODES = ("adaptive", "fixed")


def _one_of(value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is not None and value not in allowed:
        near = difflib.get_close_matches(value.lower(), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"found {value!r}, expected one of {', '.join(allowed)}{hint}")
    return value


def _with_found(rule: Callable[[Any], Any], value: Any) -> Any:
    """The catalog's rule for a value; its reader says what was found, here the message has to."""
    try:
        return rule(value)
    except ValueError as error:
        raise ValueError(f"found {value}, {error}") from None


class EncodeConfig(dg.Config):
    """Of ``sparse_activations``."""

    k_stored: int | None = Field(None, ge=0, description="entries kept per row; 0: all; default: the catalog's")
    batch_size: int = Field(32, ge=1, description="examples whose rows are encoded together; the result is the same")
    precision: str | None = Field(None, description="of the transformer: float32, bfloat16, float16; default: catalog")
    forward_batch: int | None = Field(None, ge=1, description="examples in one forward pass; default: the catalog's")
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
            "forward_batch": self.forward_batch or model.forward_batch,
        }


class AggregateConfig(dg.Config):
    """Of every model-level stage."""

    allow_missing_chunks: bool = Field(False, description="use the chunks there are instead of refusing gaps")

    def result_for(self, entry: Dataset) -> dict[str, Any]:
        """What stands in provenance."""
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

    def limits(self, model: Model) -> Pruning:
        """The catalog's rules of a model with what was set here on top.

        Raises:
            CatalogError: rules of fixed pruning given where pruning is adaptive, or missing where it is fixed.
        """
        names = ("target_units", *FIXED_RULES)
        given = {each: getattr(self, each) for each in names if getattr(self, each) is not None}
        found = model.pruning.model_copy(update={**given, "mode": self.pruning or model.pruning.mode})
        if found.mode == "adaptive" and (wrong := [each for each in FIXED_RULES if each in given]):
            raise CatalogError(
                f"{', '.join(wrong)}: of fixed pruning only, but pruning of model {model.name!r} is adaptive; set it "
                "to fixed (`--pruning fixed`, or `pruning.mode` of the model in the catalog)."
            )
        if found.mode == "fixed" and (missing := [each for each in FIXED_RULES if getattr(found, each) is None]):
            raise CatalogError(
                f"Fixed pruning of model {model.name!r} needs {', '.join(missing)}: as options, or under `pruning` of "
                "the model in the catalog."
            )
        return found

    def result_with(self, model: Model, token_kind: str) -> dict[str, Any]:
        """What stands in provenance. Raises: as :meth:`limits`."""
        limits = self.limits(model)
        if token_kind == "cls":
            return {"pruning": "active"}
        if limits.mode == "adaptive":
            return {"pruning": "adaptive", "target_units": limits.target_units}
        return {"pruning": "fixed", **limits.model_dump(exclude={"mode"})}


class ThresholdsConfig(AggregateConfig):
    """Of ``thresholds``."""

    tail_fractions: list[float] | None = Field(
        None, description="shares of the positive values to keep; default: the data set's catalog entry"
    )

    @field_validator("tail_fractions")
    @classmethod
    def _ascending(cls, values: list[float] | None) -> list[float] | None:
        return None if values is None else _with_found(ascending, values)

    def result_for(self, entry: Dataset) -> dict[str, Any]:
        given = entry.detection.tail_fractions if self.tail_fractions is None else self.tail_fractions
        return {"tail_fractions": list(given)}


class DetectionConfig(AggregateConfig):
    """Of ``detection_stats`` and ``best_pairs``; what is not given stands in the data set's catalog entry."""

    n_permutations: int | None = Field(None, ge=0, description="label shuffles behind the chance level; 0: none")
    n_bootstrap: int | None = Field(None, ge=0, description="resamples behind the 95 % intervals; 0: none")
    n_folds: int | None = Field(None, ge=0, description="folds of the cal examples that pairs are tried on; 0: none")
    seed: int | None = Field(None, ge=0, description="of shuffles, resamples and folds")

    @field_validator("n_folds")
    @classmethod
    def _folds(cls, value: int | None) -> int | None:
        return None if value is None else _with_found(folds, value)

    def result_for(self, entry: Dataset) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in ("n_permutations", "n_bootstrap", "n_folds", "seed")}
        return {name: getattr(entry.detection, name) if value is None else value for name, value in given.items()}
