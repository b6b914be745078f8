"""Best pairs: the (unit, tail fraction) of each concept by calibration F1, with chance and intervals (numerics 6).

The test split takes no part in the choice. Chance is what the same selection reaches on shuffled labels; intervals
resample examples, jointly for all concepts. Counting lives in ``ops.detection_stats``.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import BestPairs, DetectionStats, Thresholds
from sae_assets.ops.detection_stats import EVALUATED, ExampleScores


def best_pair(
    true: Int[Tensor, "units fractions"],
    false: Int[Tensor, "units fractions"],
    n_positive: int,
    valid: Bool[Tensor, " units"],
) -> tuple[int, int] | None:
    """(kept index, fraction index) of the best F1; ties: higher recall, smaller p, lower unit. None if none is valid.

    Equal fractions divide to equal float64, so ties are exact.
    """
    if n_positive == 0 or not bool(valid.any()):
        return None
    doubled = 2.0 * true.double()
    f1 = doubled / (true + false + n_positive).clamp(min=1)
    f1 = torch.where(valid[:, None], f1, -1.0)
    tied = f1 == f1.max()
    tied &= true == true[tied].max()
    by_fraction = tied.T.contiguous().flatten().nonzero()[0, 0]
    return int(by_fraction % len(valid)), int(by_fraction // len(valid))


def choose_best_pairs(
    stats: DetectionStats,
    thresholds: Thresholds,
    scores: dict[str, ExampleScores],
    *,
    n_permutations: int = 100,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> BestPairs:
    """The best pair of every concept, its counts on both splits, its chance level and its bootstrap interval.

    Args:
        n_permutations: shuffles of the labels over the examples of each split, jointly for all concepts; the selection
            is repeated on each, thresholds as calibrated.
        n_bootstrap: resamples of the test examples.
        seed: of both, drawn on the CPU so that devices agree.
    """
    n_concepts = len(stats.concepts)
    unit_ids = torch.full((n_concepts,), -1, dtype=torch.int64)
    fractions = torch.full((n_concepts,), torch.nan, dtype=torch.float64)
    cutoffs = torch.full((n_concepts,), torch.nan, dtype=torch.float64)
    counts = torch.stack(
        [torch.zeros_like(stats.n_positive), torch.zeros_like(stats.n_positive), stats.n_positive, stats.n_negative], -1
    )
    test = scores["test"]
    detected = torch.zeros(n_concepts, len(test.labels), dtype=torch.bool)
    for concept in range(n_concepts):
        pair = best_pair(
            stats.true_positives[0, concept],
            stats.false_positives[0, concept],
            int(stats.n_positive[0, concept]),
            stats.valid[concept],
        )
        if pair is None:
            continue
        unit, place = pair
        unit_ids[concept] = stats.kept_units[unit]
        fractions[concept] = stats.tail_fractions[place]
        cutoffs[concept] = thresholds.values[concept, unit, place]
        true = stats.true_positives[:, concept, unit, place].long()
        false = stats.false_positives[:, concept, unit, place].long()
        counts[:, concept] = torch.stack(
            [true, false, stats.n_positive[:, concept] - true, stats.n_negative[:, concept] - false], -1
        )
        detected[concept] = test.detected(unit, float(cutoffs[concept])).cpu()
    generator = torch.Generator().manual_seed(seed)
    null_f1, weighted_null = _permutation_null(thresholds, scores, n_permutations, generator)
    interval, weighted_interval = _bootstrap(detected, test.labels.T.cpu(), unit_ids >= 0, n_bootstrap, generator)
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
    )


def _f1(true: Tensor, false: Tensor, n_positive: Tensor) -> Tensor:
    doubled = 2.0 * true.double()
    return doubled / (doubled + false + (n_positive - true)).clamp(min=1)


def _permutation_null(
    thresholds: Thresholds, scores: dict[str, ExampleScores], n_permutations: int, generator: torch.Generator
) -> tuple[Float[Tensor, "2 concepts 2"], Float[Tensor, " 2"]]:
    """Mean and 95 % point of the F1 on cal and test when labels are shuffled and the selection is repeated."""
    n_concepts = len(thresholds.concepts)
    cal, test = (scores[split] for split in EVALUATED)
    reached = torch.full((2, n_concepts, n_permutations), torch.nan, dtype=torch.float64)
    orders = [
        (torch.randperm(len(cal.labels), generator=generator), torch.randperm(len(test.labels), generator=generator))
        for _ in range(n_permutations)
    ]
    for concept in range(n_concepts):
        values = thresholds.values[concept].to(cal.keys.device)
        valid = thresholds.n_positive[concept].to(cal.keys.device) > 0
        places = {split: scores[split].places(values) for split in EVALUATED}
        predicted = {split: places[split] - scores[split].starts[:-1, None] for split in EVALUATED}
        n_cal, n_test = (int(scores[split].labels[:, concept].sum()) for split in EVALUATED)
        for number, (cal_order, test_order) in enumerate(orders):
            true = cal.positives(places["cal"], cal.labels[cal_order.to(cal.labels.device), concept])
            pair = best_pair(true, predicted["cal"] - true, n_cal, valid)
            if pair is None:
                break
            shuffled = test.labels[test_order.to(test.labels.device), concept]
            hits = int(shuffled[test.detected(pair[0], float(values[pair]))].sum())
            for split, hit, total in ((0, int(true[pair]), n_cal), (1, hits, n_test)):
                if total:
                    false = int(predicted[EVALUATED[split]][pair]) - hit
                    reached[split, concept, number] = 2 * hit / max(2 * hit + false + total - hit, 1)
    points = torch.stack([reached.nanmean(-1), _quantile(reached, 0.95)], -1)
    weight = test.labels.sum(0).cpu().double()
    weighted = (reached[1].nan_to_num() * weight[:, None]).sum(0) / (((~reached[1].isnan()) * weight[:, None]).sum(0))
    return points, torch.stack([weighted.nanmean(), _quantile(weighted[None], 0.95)[0]])


def _bootstrap(
    detected: Bool[Tensor, "concepts examples"],
    truth: Bool[Tensor, "concepts examples"],
    chosen: Bool[Tensor, " concepts"],
    n_bootstrap: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "concepts 2"], Float[Tensor, " 2"]]:
    """95 % percentile intervals of F1 per concept and of their weighted mean; examples resampled for all at once."""
    n = truth.shape[1]
    if n == 0 or n_bootstrap == 0:
        return torch.full((len(truth), 2), torch.nan, dtype=torch.float64), torch.full((2,), torch.nan).double()
    weights = torch.stack(
        [torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n) for _ in range(n_bootstrap)], 1
    ).double()
    true = (detected & truth).double() @ weights
    false = (detected & ~truth).double() @ weights
    positive = truth.double() @ weights
    f1 = torch.where((positive > 0) & chosen[:, None], _f1(true, false, positive), torch.nan)
    share = torch.where(f1.isnan(), 0.0, positive)
    weighted = (f1.nan_to_num() * share).sum(0) / share.sum(0)
    return (
        torch.stack([_quantile(f1, 0.025), _quantile(f1, 0.975)], -1),
        torch.stack([_quantile(weighted[None], 0.025)[0], _quantile(weighted[None], 0.975)[0]]),
    )


def _quantile(values: Float[Tensor, "*n draws"], q: float) -> Float[Tensor, "*n"]:
    """Linear quantile over the last axis, nulls left out; null where nothing is left."""
    if values.shape[-1] == 0:
        return torch.full(values.shape[:-1], torch.nan, dtype=torch.float64)
    return values.nanquantile(q, dim=-1)
