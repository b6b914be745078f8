"""A data set's entry says how pairs are chosen and judged, and what they are compared with."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic import model_validator as check_model

from sae_assets.catalog.models import Entry

TAIL_FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def ascending(values: Sequence[float]) -> Sequence[float]:
    """Check tail fractions.

    Raises:
        ValueError: there are none, or they do not ascend within (0, 1).
    """
    if not values or not all(0 < value < 1 for value in values) or list(values) != sorted(set(values)):
        raise ValueError("expected numbers that ascend within (0, 1)")
    return values


def folds(value: int) -> int:
    """Check a number of folds.

    Raises:
        ValueError: there is a single fold.
    """
    if value == 1:
        raise ValueError("expected 0 (off) or at least 2")
    return value


class Detection(Entry):
    """``detection`` says how pairs of a data set are chosen, and what stands beside their figures."""

    selection: Literal["exact", "tails"] = Field(
        "exact", description="thresholds tried: every score on cal (`exact`), or the quantiles of `tail_fractions`"
    )
    choose_by: Literal["rows", "examples"] = Field(
        "rows",
        description="what chooses a concept's unit: cal rows, where every positive example says where the concept is "
        "(else examples), or examples always; `tails` chooses by examples",
    )
    min_support: int = Field(3, ge=1, description="cal positives that an exact threshold must find")
    pooling: Literal["max", "mean", "topk_mean", "last"] = Field(
        "max", description="how the rows of an example become its score"
    )
    pooling_k: int = Field(3, ge=1, description="rows that `topk_mean` averages")
    tail_fractions: Annotated[tuple[float, ...], AfterValidator(ascending)] = Field(
        TAIL_FRACTIONS, description="shares of the positive values that thresholds keep"
    )
    n_permutations: int = Field(
        1000, ge=0, description="label shuffles behind chance level, p and q; 0: none, 1/(n+1) is the smallest p"
    )
    n_folds: Annotated[int, AfterValidator(folds)] = Field(
        0, ge=0, description="folds of the cal examples that pairs are tried on; 0: none"
    )
    seed: int = Field(0, ge=0, description="seed of shuffles and folds")

    @check_model(mode="before")
    @classmethod
    def _of_earlier_versions(cls, content: Any) -> Any:
        """Catalogs may still say how often the bootstrap resamples, which is gone: nothing depends on it."""
        return (
            {key: value for key, value in content.items() if key != "n_bootstrap"}
            if isinstance(content, dict)
            else content
        )


class Controls(Entry):
    """``controls`` says what detectors that are not the SAE's are given, to compare its units with, while rows are
    encoded."""

    n_seeds: int = Field(10, ge=0, description="random SAEs, of seeds 0, 1, …")
    rows_per_chunk: int = Field(4096, ge=1, description="most rows of a chunk that are sampled, by hash")
    second_pass: bool = Field(
        True,
        description="whether examples of cal and test go through the model once more, for the largest DiffMean score "
        "of their rows; where every example is one row, none need",
    )
