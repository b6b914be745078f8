"""Controls: what a random SAE, or embeddings without any SAE, reach on the same test as the SAE's units (numerics 12).

How each is fitted is in ``ops.detectors`` and ``ops.unit_detectors``, what they are fitted on in ``ops.control_data``;
here stands which there are, and how they compare.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts.controls import LARGEST, LEVELS, RANDOM, ROW_CONTROLS, UNIT, Controls, controls_of
from sae_assets.ops.concept_pairs import MIN_SUPPORT
from sae_assets.ops.control_data import ControlData
from sae_assets.ops.detectors import (
    directed,
    k_sparse,
    largest_mean_difference,
    logistic_on_embeddings,
    logistic_on_units,
    mean_difference,
    row_mean_difference,
)
from sae_assets.ops.intervals import (
    auroc_interval,
    clustered_differences_to_draws,
    clustered_f1_differences,
    clustered_f1_intervals,
    counts_of,
    difference_to_draws,
    weighted_f1,
    weighted_f1_difference,
)
from sae_assets.ops.items import DetectorScores, Items
from sae_assets.ops.prevalence_free import auroc, average_precision
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.unit_detectors import dimensions, searched_units, units_by_rows

FITTED: Mapping[
    str, Callable[..., DetectorScores]
] = {  # of all data, and of the cal positives that a threshold must find
    "diffmean": lambda data, min_support=MIN_SUPPORT: mean_difference(data.examples, min_support),
    LARGEST: lambda data, min_support=MIN_SUPPORT: largest_mean_difference(data.examples, data.largest, min_support),
    "logistic": lambda data, min_support=MIN_SUPPORT: logistic_on_embeddings(data.examples, min_support),
    "logistic_units": lambda data, min_support=MIN_SUPPORT: logistic_on_units(data.examples, min_support),
    "k_sparse": lambda data, min_support=MIN_SUPPORT: k_sparse(data.examples, min_support),
    "embedding_dims": lambda data, min_support=MIN_SUPPORT: dimensions(data.examples, data.max_embeddings, min_support),
}
MOST_ROWS_ON_UNITS = 2048  # rows that a regression on all units is fitted on
ROW_FITTED: Mapping[str, Callable[..., DetectorScores]] = {  # of all data, whose ``rows`` are given, and the same
    "diffmean": lambda data, min_support=MIN_SUPPORT: mean_difference(data.rows, min_support),
    LARGEST: lambda data, min_support=MIN_SUPPORT: directed(  # the largest of one row is its own
        data.rows, row_mean_difference(data.examples, data.n_rows), min_support
    ),
    "logistic": lambda data, min_support=MIN_SUPPORT: logistic_on_embeddings(data.rows, min_support),
    "logistic_units": lambda data, min_support=MIN_SUPPORT: logistic_on_units(
        data.rows, min_support, MOST_ROWS_ON_UNITS
    ),
    "k_sparse": lambda data, min_support=MIN_SUPPORT: k_sparse(data.rows, min_support),
    "embedding_dims": lambda data, min_support=MIN_SUPPORT: dimensions(data.rows, data.rows.embeddings, min_support),
}


def counts_on_test(items: Items, detector: DetectorScores) -> Int[Tensor, "concepts 4"]:
    """Return TP, FP, FN, TN of a detector, int64, on the CPU."""
    truth = items.labels[items.tests].T
    counts = counts_of(detector.detected, truth).sum(1)
    return torch.cat([counts, truth.shape[1] - counts.sum(-1, keepdim=True)], -1).cpu()


@plain_arithmetic()
def random_units(
    data: ControlData, min_support: int = MIN_SUPPORT, by_rows: Bool[Tensor, " concepts"] | None = None
) -> list[DetectorScores]:
    """Return the unit and threshold of each random SAE, chosen as if it were the SAE.

    Args:
        by_rows: concepts of which rows chose the SAE's unit: there, of the units with a threshold on examples, that of
            the best F1 on the sampled rows of cal stands for a random SAE too (the SAE's own saw all rows of cal). None
            of them where random SAEs' values on rows were not collected.
    """
    if by_rows is None or not data.random_rows or data.rows is None:
        return [searched_units(data.examples, scores, min_support) for scores in data.random]
    return [
        searched_units(
            data.examples,
            scores,
            min_support,
            units_by_rows(data.examples, scores, data.rows, on_rows, by_rows, min_support),
        )
        for scores, on_rows in zip(data.random, data.random_rows, strict=True)
    ]


def random_row_units(data: ControlData, min_support: int = MIN_SUPPORT) -> list[DetectorScores]:
    """Return the unit and threshold of each random SAE that the sampled rows of cal choose, as they choose the
    SAE's."""
    assert data.rows is not None
    return [searched_units(data.rows, scores, min_support) for scores in data.random_rows]


@plain_arithmetic()
def compare(
    concepts: Sequence[str],
    data: ControlData,
    unit: DetectorScores,
    random: Sequence[DetectorScores],
    fitted: Mapping[str, DetectorScores],
    rows: "RowDetectors | None" = None,
) -> Controls:
    """Return the unit of each concept beside its controls, on test.

    Args:
        unit: of the best pair, which finds nothing where there is none.
        random, fitted: its controls, the latter by the names of ``FITTED``, of which ``LARGEST`` may be missing.
    """
    items, second_pass = data.examples, LARGEST in fitted or None
    numbers = torch.arange(int(items.tests.sum()), device=items.labels.device)
    detectors = {UNIT: [unit], RANDOM: list(random), **{name: [fitted[name]] for name in controls_of(second_pass)[1:]}}
    keeps = torch.ones(len(concepts), dtype=torch.bool, device=items.labels.device)
    parts = [_figures(items, detectors, numbers, keeps, LEVELS[0])]
    if rows is not None and data.rows is not None:
        places = items.tests.long().cumsum(0) - 1
        of_row = places[data.example_of_row[data.rows.tests]]
        random_rows = {RANDOM: list(rows.random)} if rows.random else {}
        beside = {UNIT: [rows.unit], **random_rows, **{name: [rows.fitted[name]] for name in ROW_CONTROLS[1:]}}
        parts.append(_figures(data.rows, beside, of_row, rows.located.to(items.labels.device), LEVELS[1]))
    figures: dict[str, Any] = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    n_items = torch.zeros(2, 3, dtype=torch.int64, device="cpu")
    for level, each in enumerate((items, data.rows)[: len(parts)]):
        assert each is not None
        n_items[level] = torch.stack([part.sum() for part in (each.fits, each.chooses, each.tests)]).cpu()
    return Controls(
        concepts=tuple(concepts),
        n_seeds=len(random),
        n_units=items.units.n_units,
        d_model=items.embeddings.shape[1],
        fitted_on_cal=items.fitted_on_cal,
        row_figures=len(parts) > 1,
        n_items=n_items,
        **figures,
        n_row_seeds=len(rows.random) or None if len(parts) > 1 and rows is not None else None,
        second_pass=second_pass,
        row_controls=ROW_CONTROLS[1:] if len(parts) > 1 else None,
    )


@dataclass(frozen=True)
class RowDetectors:
    """Detectors of the sampled rows: the unit that cal rows choose, those by the names of ``ROW_FITTED``.

    ``located`` is bool [n_concepts]: whether every positive example says where the concept is. ``random`` are the units
    that cal rows choose of each random SAE.
    """

    unit: DetectorScores
    fitted: Mapping[str, DetectorScores]
    located: Bool[Tensor, " concepts"]
    random: Sequence[DetectorScores] = ()


def _figures(
    items: Items,
    detectors: Mapping[str, list[DetectorScores]],
    example: Int[Tensor, " test"],
    keeps: Bool[Tensor, " concepts"],
    level: str,
) -> dict[str, Tensor]:
    """Return figures on test of the unit, the first, and its controls; several detectors of one name are draws of a
    kind.

    Args:
        example: number of the test example that each test item is of.
        keeps: concepts that have figures at all.
        level: ``examples`` or ``rows``, whose AUROC has no interval, since rows of an example depend on each other.
    """
    truth = items.labels[items.tests].T.contiguous()
    keeps = keeps & truth.any(1) & ~truth.all(1)
    every = [detector for draws in detectors.values() for detector in draws]
    choices = torch.stack([torch.where(keeps, each.choices, -1) for each in every])
    exists = choices >= 0
    by_example = torch.stack(
        [
            _per_example(counts_of(each.detected & mask[:, None], truth), example)
            for each, mask in zip(every, exists, strict=True)
        ]
    )
    counts = by_example.sum(2)
    scores = [torch.where(mask[:, None], each.scores, torch.nan) for each, mask in zip(every, exists, strict=True)]
    differences, weighted, first = [], [], 1
    for draws in list(detectors.values())[1:]:
        places = slice(first, first + len(draws))
        first += len(draws)
        both = keeps & exists[places].any(0)  # a concept that no unit stands for is not detected: F1 0
        mine, others = by_example[0, both], by_example[places, both]
        of_each = torch.full((len(truth), 3), torch.nan, dtype=torch.float64, device=truth.device)
        of_each[both] = _differences(mine, others)
        of_all = torch.full((4,), torch.nan, dtype=torch.float64, device=truth.device)
        if bool(both.any()):
            of_all[0], of_all[1] = weighted_f1(mine), weighted_f1(others).mean()
            of_all[2:] = _difference(mine, others)[1:]
        differences.append(of_each)
        weighted.append(of_all)
    intervals = clustered_f1_intervals(by_example.flatten(0, 1))  # items of one example go together
    of_auroc = torch.full((*choices.shape, 2), torch.nan, dtype=torch.float64, device=truth.device)
    if level == LEVELS[0]:
        of_auroc = torch.stack([auroc_interval(each, truth)[..., 1:] for each in scores])
    return {
        "choices": choices,
        "counts": torch.cat([counts, truth.shape[1] - counts.sum(-1, keepdim=True)], -1),
        "intervals": torch.where(exists[..., None], intervals.view(*choices.shape, 2), torch.nan),
        "auroc": torch.stack([auroc(each, truth) for each in scores]),
        "average_precision": torch.stack([average_precision(each, truth) for each in scores]),
        "auroc_intervals": torch.where(exists[..., None], of_auroc, torch.nan),
        "differences": torch.stack(differences),
        "weighted": torch.stack(weighted),
    }


def _per_example(counts: Int[Tensor, "concepts items 3"], example: Int[Tensor, " items"]) -> Int[Tensor, "c n 3"]:
    """Return TP, FP and FN of all items of each example that has any."""
    _, index = example.unique(return_inverse=True)
    n = int(index.max()) + 1 if len(index) else 0
    total = torch.zeros(len(counts), n, 3, dtype=torch.int64, device=counts.device)
    return total.index_add_(1, index, counts)


def _differences(mine: Int[Tensor, "c n 3"], draws: Int[Tensor, "draws c n 3"]) -> Float[Tensor, "c 3"]:
    """Return the difference of each concept's F1 by itself, as :func:`_difference` has it of all together."""
    return clustered_f1_differences(mine, draws[0]) if len(draws) == 1 else clustered_differences_to_draws(mine, draws)


def _difference(mine: Int[Tensor, "c n 3"], draws: Int[Tensor, "draws c n 3"]) -> Float[Tensor, " 3"]:
    """Return the difference of the weighted F1 to that of one other detector, or to the mean of several draws."""
    return weighted_f1_difference(mine, draws[0]) if len(draws) == 1 else difference_to_draws(mine, draws)
