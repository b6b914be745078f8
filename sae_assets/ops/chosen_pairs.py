"""The choice of each concept's unit and threshold on cal (numerics 6, 9 and 11).

``exact`` tries every score of every unit that fires, ``tails`` the grid of tail fractions over kept units. Where the
data say in which rows a concept is, ``exact`` lets rows choose the unit: what stands beside a concept in every example
scores as well as the concept on examples, but falls on other rows. What a pair is worth on test is reported by
``ops.best_pairs``.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import DetectionStats, Thresholds
from sae_assets.artifacts.chosen_pairs import ChosenPairs
from sae_assets.artifacts.row_alignment import RowAlignment
from sae_assets.errors import ArtifactError
from sae_assets.ops.chance import deal_folds, held_out_f1
from sae_assets.ops.choice import best_pair
from sae_assets.ops.concept_pairs import MIN_SUPPORT, find_pairs, supported, two_classes_in
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.sorted_scores import ExampleScores


@plain_arithmetic()
def choose_exactly(
    scores: dict[str, ExampleScores],
    rows: RowAlignment,
    *,
    choose_by: str = "rows",
    min_support: int = MIN_SUPPORT,
    n_folds: int = 0,
    seed: int = 0,
) -> ChosenPairs:
    """Return the pair of each concept by exact search over all units; of the scores, those of cal alone choose.

    - ``examples``: the unit and threshold of the best cal F1 of examples.
    - ``rows``: the unit of the best cal F1 of rows, among those that have a threshold on examples; its threshold is
      that of its best cal F1 of examples. A concept without row figures, or that no such unit falls on, is chosen by
      examples.

    A concept without positive or without negative cal examples has no figure to choose by on examples: there rows
    choose, or nothing does.

    Args:
        scores: of all units of the SAE, by original id.
        rows: figures of all pairs on the same examples' rows.
        min_support: cal positives that a threshold must find.
        n_folds: folds of cal for ``fold_f1``, null where rows choose; 0 leaves it out.

    Raises:
        ArtifactError: a single fold, or rows of other units or concepts than the scores.
    """
    _expect_folds(n_folds)
    n_units, n_concepts = len(scores["cal"].starts) - 1, scores["cal"].labels.shape[1]
    if (rows.n_units, len(rows.concepts)) != (n_units, n_concepts):
        raise ArtifactError(
            f"Row figures are of {rows.n_units} units and {len(rows.concepts)} concepts, scores of {n_units} and "
            f"{n_concepts}. Materialize row_alignment again."
        )
    pairs = find_pairs(scores, min_support=min_support).only(two_classes_in(scores["cal"]))
    by_examples = pairs.units
    units, by_rows = by_examples.clone(), torch.zeros(n_concepts, dtype=torch.bool, device="cpu")
    if choose_by == "rows":
        # Pairs stand concept by concept, the best row F1 first: of those with a threshold, the first of each concept.
        concept, unit = rows.concept_ids.long(), rows.unit_ids.long()
        able = supported(scores["cal"], min_support)[unit, concept].nonzero().flatten()
        first = torch.full((n_concepts,), len(unit), dtype=torch.int64, device="cpu")
        first.scatter_reduce_(0, concept[able], able, "amin")
        by_rows = first < len(unit)
        units[by_rows] = unit[first[by_rows]]
        pairs = find_pairs(scores, min_support=min_support, units=units)
    chosen = units >= 0
    folds = _held_out(scores["cal"], by_rows, min_support, n_folds, seed) if n_folds else None
    return ChosenPairs(
        concepts=rows.concepts,
        selection="exact",
        choose_by=choose_by,
        min_support=min_support,
        unit_ids=units,
        thresholds=torch.where(chosen, pairs.thresholds, torch.nan),
        tail_fractions=torch.where(chosen, pairs.tail_fractions, torch.nan),
        support=torch.where(chosen, pairs.counts[0, :, 0], 0),
        by_rows=by_rows,
        row_thresholds=_row_thresholds(rows, units),
        example_unit_ids=by_examples,
        seed=seed,
        n_folds=n_folds,
        fold_f1=folds,
    )


@plain_arithmetic()
def choose_by_tails(
    stats: DetectionStats,
    thresholds: Thresholds,
    cal: ExampleScores,
    rows: RowAlignment,
    *,
    choose_by: str = "rows",
    min_support: int = MIN_SUPPORT,
    n_folds: int = 0,
    seed: int = 0,
) -> ChosenPairs:
    """Return the pair of each concept on the grid of tail fractions over kept units, by cal F1 of examples.

    Args:
        cal: scores of all units, by original id; needed for folds.
        choose_by, min_support: recorded; the grid is chosen by examples and knows no support.

    Raises:
        ArtifactError: a single fold.
    """
    _expect_folds(n_folds)
    n_concepts, folds = len(stats.concepts), None
    if n_folds:
        folds = held_out_f1(thresholds, cal.of_units(thresholds.kept_units), n_folds, seed)
        folds = torch.where(two_classes_in(cal), folds, torch.nan)
    units = torch.full((n_concepts,), -1, dtype=torch.int64, device="cpu")
    cutoffs, fractions = (torch.full((n_concepts,), torch.nan, dtype=torch.float64, device="cpu") for _ in range(2))
    support = torch.zeros(n_concepts, dtype=torch.int64, device="cpu")
    for concept in range(n_concepts):
        n_positive, n_negative = int(stats.n_positive[0, concept]), int(stats.n_negative[0, concept])
        true, false = stats.true_positives[0, concept], stats.false_positives[0, concept]
        pair = best_pair(true, false, n_positive, stats.valid[concept]) if n_negative else None
        if pair is not None:
            units[concept] = stats.kept_units[pair[0]]
            fractions[concept] = stats.tail_fractions[pair[1]]
            cutoffs[concept] = thresholds.values[concept][pair]
            support[concept] = true[pair]
    return ChosenPairs(
        concepts=stats.concepts,
        selection="tails",
        choose_by=choose_by,
        min_support=min_support,
        unit_ids=units,
        thresholds=cutoffs,
        tail_fractions=fractions,
        support=support,
        by_rows=torch.zeros(n_concepts, dtype=torch.bool, device="cpu"),
        row_thresholds=_row_thresholds(rows, units),
        example_unit_ids=units.clone(),
        seed=seed,
        n_folds=n_folds,
        fold_f1=folds,
    )


def _expect_folds(n_folds: int) -> None:
    if n_folds < 0 or n_folds == 1:
        raise ArtifactError(f"n_folds is {n_folds}, expected 0 (off) or at least 2.")


def _row_thresholds(rows: RowAlignment, units: Int[Tensor, " concepts"]) -> Float[Tensor, " concepts"]:
    """Return the row threshold of each concept's unit; NaN where the two do not meet on a calibration row."""
    pairs = [rows.find(concept, unit) for concept, unit in enumerate(units.tolist())]
    values = [float("nan") if pair is None else float(rows.thresholds[pair]) for pair in pairs]
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _held_out(
    cal: ExampleScores, by_rows: Bool[Tensor, " concepts"], min_support: int, n_folds: int, seed: int
) -> Float[Tensor, " concepts"]:
    """Return F1 on cal of pairs that examples choose without the fold they are counted on, as
    ``chance.held_out_f1``."""
    fold, n_concepts = deal_folds(len(cal.labels), n_folds, seed), cal.labels.shape[1]
    hits, detected = (torch.zeros(n_concepts, dtype=torch.float64, device="cpu") for _ in range(2))
    folds_with_positives = torch.zeros(n_concepts, dtype=torch.int64, device="cpu")
    for number in range(n_folds):
        inside = (fold == number).to(cal.keys.device)
        parts = {"cal": cal.of_examples(~inside), "test": cal.of_examples(inside)}
        true, false, missed, _ = find_pairs(parts, min_support=min_support).counts[1].unbind(-1)
        hits, detected = hits + true, detected + true + false
        folds_with_positives += (true + missed > 0).long()
    positive = cal.labels.sum(0).cpu().double()
    exists = (folds_with_positives >= 2) & two_classes_in(cal) & ~by_rows
    return torch.where(exists, 2 * hits / (detected + positive).clamp(min=1), torch.nan)
