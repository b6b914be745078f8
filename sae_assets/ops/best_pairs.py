"""Best pairs: what each concept's chosen pair is worth on both splits, beside chance, with intervals (numerics 6, 10).

The choice itself is ``ops.chosen_pairs``'s and has seen cal alone. What shuffled labels reach lives in
``ops.held_out_null`` (test) and ``ops.significance`` (cal), what rows reach by chance in ``ops.row_chance``, intervals
in ``ops.intervals``.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import BestPairs
from sae_assets.artifacts.chosen_pairs import ChosenPairs
from sae_assets.artifacts.counts import two_classes
from sae_assets.errors import ArtifactError
from sae_assets.ops import prevalence_free
from sae_assets.ops.held_out_null import shuffle_held_out
from sae_assets.ops.intervals import auroc_interval, counts_of, f1_interval, weighted_f1_interval
from sae_assets.ops.pooling import length_auroc
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chance import PairRows, exchange_maps, row_intervals
from sae_assets.ops.significance import search_null
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores


@plain_arithmetic()
def figure_pairs(
    chosen: ChosenPairs,
    scores: dict[str, ExampleScores],
    lengths: Mapping[str, Sequence[Int[Tensor, " _"]]],
    rows: PairRows,
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> BestPairs:
    """Return the figures of every chosen pair.

    Args:
        scores: of all units, by original id.
        lengths: number of rows of each example, by split, chunk by chunk.
        rows: what the chosen units are worth on rows of test, at their row thresholds.
        n_permutations: shuffles of the labels over the examples of a split, jointly for all concepts. On cal the whole
            exact choice is repeated on each; a choice by rows or on the grid of tail fractions has no null there. And
            as many exchanges of truth maps between examples of test.
        seed: of all draws, made on the CPU so that devices agree.

    Raises:
        ArtifactError: scores of other concepts than the choice.
    """
    n_concepts = len(chosen.concepts)
    if scores["test"].labels.shape[1] != n_concepts:
        raise ArtifactError(
            f"Labels cover {scores['test'].labels.shape[1]} concepts, the choice {n_concepts}. Choose pairs again."
        )
    units, thresholds = chosen.unit_ids, chosen.thresholds
    of_units = {split: prevalence_free.unit_scores(scores[split], units).cpu() for split in EVALUATED}
    detected = {split: of_units[split].double() >= thresholds[:, None] for split in EVALUATED}
    truths = {split: scores[split].labels.T.cpu().contiguous() for split in EVALUATED}
    counts = torch.stack([_counts(detected[split], truths[split]) for split in EVALUATED])
    both = two_classes(counts)
    counted = both.all(0)
    each = counts_of(detected["test"][counted], truths["test"][counted])
    true_positive, false_positive, false_negative, _ = counts[1].unbind(-1)
    interval = f1_interval(true_positive, false_positive, false_negative)
    ranked = both[1] & (units >= 0)
    of_auroc = auroc_interval(of_units["test"], truths["test"])[:, 1:]
    null = shuffle_held_out(scores["test"], units, thresholds, counted, n_shuffles=n_permutations, seed=seed)
    of_rows = exchange_maps(rows, n_draws=n_permutations, seed=seed)
    null_f1, p, family_p, q = _null_of_cal(chosen, scores, both[0], n_permutations, seed)
    return BestPairs(
        concepts=chosen.concepts,
        unit_ids=units,
        tail_fractions=chosen.tail_fractions,
        thresholds=thresholds,
        by_rows=chosen.by_rows,
        counts=counts,
        null_f1=torch.stack([null_f1, null.null_f1]),
        p=torch.stack([p, null.p]),
        family_p=torch.stack([family_p, null.family_p]),
        q=torch.stack([q, null.q]),
        test_interval=torch.where(both[1][:, None], interval, torch.nan),
        scores=_scores(of_units, truths, counts[1], ranked),
        auroc_interval=torch.where(ranked[:, None], of_auroc, torch.nan),
        length_auroc=length_auroc(torch.cat([*lengths["test"]]), scores["test"].labels.cpu()),
        row_counts=rows.counts.sum(1) * rows.located[:, None],
        row_interval=row_intervals(rows),
        row_null_f1=of_rows.null_f1,
        row_p=of_rows.p,
        row_family_p=of_rows.family_p,
        row_q=of_rows.q,
        weighted_interval=weighted_f1_interval(each)[1:],
        weighted_null=null.weighted,
        n_permutations=n_permutations,
        seed=seed,
    )


def _counts(detected: Tensor, truth: Tensor) -> Int[Tensor, "concepts 4"]:
    """Return TP, FP, FN, TN of each concept."""
    cells = (detected & truth, detected & ~truth, ~detected & truth, ~detected & ~truth)
    return torch.stack([cell.sum(1) for cell in cells], -1)


def _null_of_cal(
    chosen: ChosenPairs, scores: dict[str, ExampleScores], both: Tensor, n_permutations: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return null_f1, p, family_p and q of cal: of the concepts that examples chose by exact search."""
    n_concepts = len(chosen.concepts)
    null_f1 = torch.full((n_concepts, 2), torch.nan, dtype=torch.float64, device="cpu")
    p, family_p, q = (torch.full((n_concepts,), torch.nan, dtype=torch.float64, device="cpu") for _ in range(3))
    some = ~chosen.by_rows & both
    if chosen.selection == "exact" and n_permutations and bool(some.any()):
        part = {split: _of_concepts(scores[split], some) for split in EVALUATED}
        null = search_null(part, n_shuffles=n_permutations, min_support=chosen.min_support, seed=seed)
        null_f1[some], p[some], family_p[some], q[some] = null.null_f1[0], null.p[0], null.family_p[0], null.q[0]
    return null_f1, p, family_p, q


def _of_concepts(scores: ExampleScores, concepts: Tensor) -> ExampleScores:
    """Return the same scores with the truth of these concepts alone."""
    labels = scores.labels[:, concepts.to(scores.labels.device)]
    return ExampleScores(scores.keys, scores.starts, scores.example, labels)


def _scores(
    of_units: dict[str, Tensor], truths: dict[str, Tensor], counts: Tensor, ranked: Tensor
) -> Float[Tensor, "concepts 6"]:
    """``BestPairs.SCORES`` on test; NaN where not ``ranked``: without a pair, and where the split lacks a class."""
    test, truth = of_units["test"], truths["test"]
    probabilities = torch.stack(
        [
            prevalence_free.isotonic_probabilities(cal, label, score)
            for cal, label, score in zip(of_units["cal"], truths["cal"], test, strict=True)
        ]
    )
    figures = torch.stack(
        [
            prevalence_free.auroc(test, truth),
            prevalence_free.average_precision(test, truth),
            prevalence_free.matthews(*counts.unbind(-1)),
            prevalence_free.balanced_accuracy(*counts.unbind(-1)),
            prevalence_free.brier(probabilities, truth),
            prevalence_free.calibration_error(probabilities.nan_to_num(), truth),
        ],
        -1,
    )
    return torch.where(ranked[:, None], figures, torch.nan)
