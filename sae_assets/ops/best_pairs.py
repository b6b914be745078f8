"""Best pairs: the (unit, tail fraction) of each concept by calibration F1, with chance and intervals (numerics 6).

The test split takes no part in the choice. Counting lives in ``ops.detection_stats``, the rule of the choice in
``ops.choice``, what stands beside a figure in ``ops.chance``.
"""

import torch

from sae_assets.artifacts import BestPairs, DetectionStats, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops.chance import bootstrap_interval, held_out_f1, permutation_null
from sae_assets.ops.choice import best_pair
from sae_assets.ops.detection_stats import ExampleScores
from sae_assets.ops.intervals import f1_interval
from sae_assets.ops.process_state import plain_arithmetic


@plain_arithmetic()
def choose_best_pairs(
    stats: DetectionStats,
    thresholds: Thresholds,
    scores: dict[str, ExampleScores],
    *,
    n_permutations: int = 100,
    n_bootstrap: int = 1000,
    n_folds: int = 0,
    seed: int = 0,
) -> BestPairs:
    """The best pair of every concept, its counts on both splits, its chance level and its interval.

    Args:
        n_permutations: shuffles of the labels over the examples of each split, jointly for all concepts; the selection
            is repeated on each, thresholds as calibrated.
        n_bootstrap: resamples of the test examples, for the interval of the weighted mean.
        n_folds: folds of the cal examples for ``fold_f1``; 0 leaves it out.
        seed: of all draws, made on the CPU so that devices agree.

    Raises:
        ArtifactError: a single fold, or a negative number of them.
    """
    if n_folds < 0 or n_folds == 1:
        raise ArtifactError(f"n_folds is {n_folds}, expected 0 (off) or at least 2.")
    n_concepts = len(stats.concepts)
    unit_ids = torch.full((n_concepts,), -1, dtype=torch.int64, device="cpu")
    fractions = torch.full((n_concepts,), torch.nan, dtype=torch.float64, device="cpu")
    cutoffs = torch.full((n_concepts,), torch.nan, dtype=torch.float64, device="cpu")
    counts = torch.stack(
        [torch.zeros_like(stats.n_positive), torch.zeros_like(stats.n_positive), stats.n_positive, stats.n_negative], -1
    )
    test = scores["test"]
    detected = torch.zeros(n_concepts, len(test.labels), dtype=torch.bool, device="cpu")
    for concept in range(n_concepts):
        pair = best_pair(
            stats.true_positives[0, concept],
            stats.false_positives[0, concept],
            int(stats.n_positive[0, concept]),
            stats.valid[concept],
        )
        if pair is None:
            continue
        unit, fraction = pair
        unit_ids[concept] = stats.kept_units[unit]
        fractions[concept] = stats.tail_fractions[fraction]
        cutoffs[concept] = thresholds.values[concept, unit, fraction]
        true = stats.true_positives[:, concept, unit, fraction].long()
        false = stats.false_positives[:, concept, unit, fraction].long()
        counts[:, concept] = torch.stack(
            [true, false, stats.n_positive[:, concept] - true, stats.n_negative[:, concept] - false], -1
        )
        detected[concept] = test.detected(unit, float(cutoffs[concept])).cpu()
    generator = torch.Generator().manual_seed(seed)
    null_f1, weighted_null = permutation_null(thresholds, scores, n_permutations, generator)
    weighted_interval = bootstrap_interval(detected, test.labels.T.cpu(), unit_ids >= 0, n_bootstrap, generator)
    exists = (unit_ids >= 0) & (stats.n_positive[1] > 0)
    true_positive, false_positive, false_negative, _ = counts[1].unbind(-1)
    interval = f1_interval(true_positive, false_positive, false_negative)
    interval = torch.where(exists[:, None], interval, torch.nan)
    return BestPairs(
        concepts=stats.concepts,
        unit_ids=unit_ids,
        tail_fractions=fractions,
        thresholds=cutoffs,
        counts=counts,
        null_f1=null_f1,
        test_interval=interval,
        weighted_interval=weighted_interval,
        weighted_null=weighted_null,
        n_permutations=n_permutations,
        n_bootstrap=n_bootstrap,
        seed=seed,
        n_folds=n_folds,
        fold_f1=held_out_f1(thresholds, scores["cal"], n_folds, seed) if n_folds else None,
    )
