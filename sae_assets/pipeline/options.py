"""Options of the stages: what a person can set for one run, in the launchpad or on the command line.

None means "as the catalog says", so that schedules and automation, which set nothing, make what a person makes. What of
an option changes the result is decided by the stage that takes it (``Stage.settings``).
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sae_assets.catalog import plain_message
from sae_assets.catalog.detection import Detection, ascending, folds
from sae_assets.errors import CatalogError

PRECISIONS = ("float32", "bfloat16", "float16")
PRUNING_MODES = ("adaptive", "fixed")


def _one_of(value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is not None and value not in allowed:
        near = difflib.get_close_matches(value.lower(), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"found {value!r}, expected one of {', '.join(allowed)}{hint}")
    return value


def _naming(rule: Callable[[Any], Any], value: Any) -> Any:
    """Apply a rule of the catalog, whose message leaves out the value: there the reader of the file names it."""
    try:
        return rule(value)
    except ValueError as error:
        raise ValueError(f"found {value}, {error}") from None


class Options(BaseModel):
    """Base of every stage's options; a stage without any takes this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def allows_gaps(self) -> bool:
        """Return whether the stage is asked for over the chunks there are, whatever else is registered."""
        return False


def _as_of(name: str) -> str:
    """Return the words of the catalog's key of this name."""
    return f"{Detection.model_fields[name].description}; default: the catalog's"


def _choices(name: str) -> tuple[str, ...]:
    """Return the words that the catalog's key of this name takes."""
    return get_args(Detection.model_fields[name].annotation)


class PoolingOptions(Options):
    """Pooling options say how rows become the score of an example."""

    pooling: str | None = Field(None, description=_as_of("pooling"))
    pooling_k: int | None = Field(None, ge=1, description=_as_of("pooling_k"))

    @field_validator("pooling")
    @classmethod
    def _pooling(cls, value: str | None) -> str | None:
        return _one_of(value, _choices("pooling"))


class EncodeOptions(PoolingOptions):
    """Options of ``sparse_activations`` and, which alone depends on pooling, ``control_inputs``."""

    k_stored: int | None = Field(None, ge=0, description="entries kept per row; 0: all; default: the catalog's")
    batch_size: int = Field(32, ge=1, description="examples whose rows are encoded together; the result is the same")
    precision: str | None = Field(
        None, description="what the transformer computes in: float32, bfloat16, float16; default: the catalog's"
    )
    forward_batch: int | None = Field(
        None,
        ge=0,
        description="examples in one forward pass; 0: as many as the device takes; default: the catalog's",
    )
    force: bool = Field(False, description="encode also what is up to date, and replace what was imported")

    @field_validator("precision")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return _one_of(value, PRECISIONS)


class AggregateOptions(Options):
    """Options of every model-level stage."""

    allow_missing_chunks: bool = Field(False, description="use the chunks there are instead of refusing gaps")

    @property
    def allows_gaps(self) -> bool:
        return self.allow_missing_chunks


class MappingOptions(AggregateOptions):
    """Options of ``unit_mapping``."""

    pruning: str | None = Field(
        None, description="where limits come from: adaptive (the concepts' cal counts) or fixed; default: the catalog's"
    )
    target_units: int | None = Field(None, ge=1, description="most units to keep; default: the catalog's")
    min_active: int | None = Field(
        None, ge=0, description="fixed pruning: fewer cal rows are rare; default: the catalog's"
    )
    max_density: float | None = Field(
        None, gt=0, le=1, description="fixed pruning: a larger share of cal rows is dense; default: the catalog's"
    )
    strength_percentile: float | None = Field(
        None, ge=0, le=100, description="fixed pruning: below, a unit is weak; default: the catalog's"
    )

    @field_validator("pruning")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return _one_of(value, PRUNING_MODES)


class ThresholdOptions(AggregateOptions):
    """Options of ``thresholds``."""

    tail_fractions: list[float] | None = Field(None, description=_as_of("tail_fractions"))

    @field_validator("tail_fractions")
    @classmethod
    def _ascending(cls, values: list[float] | None) -> list[float] | None:
        return None if values is None else _naming(ascending, values)


class ScoringOptions(PoolingOptions, AggregateOptions):
    """Options of every model-level stage that scores examples."""


class LocalizationOptions(ThresholdOptions, ScoringOptions):
    """Options of ``localization``."""


class ChoiceOptions(ScoringOptions):
    """Options of ``chosen_pairs``."""

    selection: str | None = Field(None, description=_as_of("selection"))
    choose_by: str | None = Field(None, description=_as_of("choose_by"))
    min_support: int | None = Field(None, ge=1, description=_as_of("min_support"))
    n_folds: int | None = Field(None, ge=0, description=_as_of("n_folds"))
    seed: int | None = Field(None, ge=0, description=_as_of("seed"))

    @field_validator("selection")
    @classmethod
    def _selection(cls, value: str | None) -> str | None:
        return _one_of(value, _choices("selection"))

    @field_validator("choose_by")
    @classmethod
    def _choose_by(cls, value: str | None) -> str | None:
        return _one_of(value, _choices("choose_by"))

    @field_validator("n_folds")
    @classmethod
    def _folds(cls, value: int | None) -> int | None:
        return None if value is None else _naming(folds, value)


class DetectionOptions(ScoringOptions):
    """Options of ``best_pairs``."""

    n_permutations: int | None = Field(None, ge=0, description=_as_of("n_permutations"))
    seed: int | None = Field(None, ge=0, description=_as_of("seed"))


Kind = TypeVar("Kind", bound=Options)


@dataclass(frozen=True)
class RunOptions:
    """One run of several stages has these options, by the kind that a stage takes."""

    values: Mapping[type[Options], Options] = field(default_factory=dict)

    def of(self, kind: type[Kind]) -> Kind:
        """Return the options of this kind; the defaults if none of them was set."""
        return self.values.get(kind, kind())  # type: ignore[return-value]


def parse_options(kinds: list[type[Options]], values: Mapping[str, Any]) -> RunOptions:
    """Return options of every kind from values by field name; a field of several kinds is set in each. None is "not
    given".

    Raises:
        CatalogError: values out of range; all of them are named.
    """
    chosen = {name: value for name, value in values.items() if value is not None}
    by_kind: dict[type[Options], Options] = {}
    problems: list[str] = []
    for kind in kinds:
        try:
            by_kind[kind] = kind(**{name: chosen[name] for name in kind.model_fields if name in chosen})
        except ValidationError as error:
            problems += [": ".join([*map(str, part["loc"][:1]), plain_message(part)]) for part in error.errors()]
    if problems:
        raise CatalogError("Some options have values that are not allowed:", list(dict.fromkeys(problems)))
    return RunOptions(by_kind)
