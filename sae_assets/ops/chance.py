"""What stands beside a best pair's figure: chance level, interval of the mean, and the figure on held-out folds of cal.

Each repeats or resamples over examples, never over rows. The choice itself lives in ``ops.choice``, what is reported of
it in ``ops.best_pairs``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_assets.artifacts import Thresholds
from sae_assets.ops.choice import best_places
from sae_assets.ops.detection_stats import EVALUATED, ExampleScores

CELLS_AT_ONCE = 2**22  # (unit, tail fraction, draw) cells in hand, about 20 bytes each


def permutation_null(
    thresholds: Thresholds, scores: dict[str, ExampleScores], n_permutations: int, generator: torch.Generator
) -> tuple[Float[Tensor, "2 concepts 2"], Float[Tensor, " 2"]]:
    """Mean and 95 % point of the F1 on cal and test when labels are shuffled and the selection is repeated.

    Labels are shuffled over the examples of each split, jointly for all concepts; thresholds stay as calibrated. The
    second answer is of the F1 weighted by test positives.
    """
    n_concepts = len(thresholds.concepts)
    cal, test = (scores[split] for split in EVALUATED)
    reached = torch.full((2, n_concepts, n_permutations), torch.nan, dtype=torch.float64, device="cpu")
    drawn = [
        tuple(torch.randperm(len(scores[split].labels), generator=generator, device="cpu") for split in EVALUATED)
        for _ in range(n_permutations)
    ]
    if n_permutations:
        orders = [torch.stack(column).to(cal.keys.device) for column in zip(*drawn, strict=True)]
    for concept in range(n_concepts if n_permutations else 0):
        values = thresholds.values[concept].to(cal.keys.device)
        valid = thresholds.n_positive[concept].to(cal.keys.device) > 0
        n_cal, n_test = (int(scores[split].labels[:, concept].sum()) for split in EVALUATED)
        if n_cal == 0 or not bool(valid.any()):
            continue
        places = [scores[split].places(values) for split in EVALUATED]
        predicted = [p - scores[split].starts[:-1, None] for p, split in zip(places, EVALUATED, strict=True)]
        for draws in torch.arange(n_permutations, device="cpu").split(max(1, CELLS_AT_ONCE // values.numel())):
            shuffled = [scores[s].labels[:, concept][o[draws]].T for s, o in zip(EVALUATED, orders, strict=True)]
            true = cal.sums(places[0], shuffled[0].float())
            unit, fraction = best_places(true, (predicted[0] + n_cal).float()[..., None], valid)
            hits = true[unit, fraction, torch.arange(len(unit), device=unit.device)].double()
            reached[0, concept, draws] = (2 * hits / (predicted[0][unit, fraction] + n_cal)).cpu()
            if n_test:
                hits = test.hits(unit, places[1][unit, fraction], shuffled[1]).double()
                reached[1, concept, draws] = (2 * hits / (predicted[1][unit, fraction] + n_test)).cpu()
    points = torch.stack([reached.nanmean(-1), quantile(reached, 0.95)], -1)
    weight = test.labels.sum(0).cpu().double()
    weighted = (reached[1].nan_to_num() * weight[:, None]).sum(0) / (((~reached[1].isnan()) * weight[:, None]).sum(0))
    return points, torch.stack([weighted.nanmean(), quantile(weighted[None], 0.95)[0]])


def bootstrap_interval(
    detected: Bool[Tensor, "concepts examples"],
    truth: Bool[Tensor, "concepts examples"],
    chosen: Bool[Tensor, " concepts"],
    n_bootstrap: int,
    generator: torch.Generator,
) -> Float[Tensor, " 2"]:
    """95 % percentile interval of the weighted mean of F1; examples resampled for all concepts at once.

    It has no width where nothing was missed: no resample holds an error that the sample does not.
    """
    n = truth.shape[1]
    if n == 0 or n_bootstrap == 0:
        return torch.full((2,), torch.nan, dtype=torch.float64, device="cpu")
    weights = torch.stack(
        [
            torch.bincount(torch.randint(n, (n,), generator=generator, device="cpu"), minlength=n)
            for _ in range(n_bootstrap)
        ],
        1,
    ).double()
    true = (detected & truth).double() @ weights
    false = (detected & ~truth).double() @ weights
    positive = truth.double() @ weights
    f1 = 2 * true / (true + false + positive).clamp(min=1)
    f1 = torch.where((positive > 0) & chosen[:, None], f1, torch.nan)
    share = torch.where(f1.isnan(), 0.0, positive)
    weighted = (f1.nan_to_num() * share).sum(0) / share.sum(0)
    return torch.stack([quantile(weighted[None], 0.025)[0], quantile(weighted[None], 0.975)[0]])


def held_out_f1(thresholds: Thresholds, cal: ExampleScores, n_folds: int, seed: int) -> Float[Tensor, " concepts"]:
    """F1 on cal of pairs that were chosen without the examples they are counted on.

    The examples are dealt to folds at random. For each fold the pair is chosen on the others and counted on it; counts
    of all folds are added up before F1 is taken (Forman & Scholz 2010). Thresholds stay as calibrated on all of cal.
    Null where fewer than two folds hold a positive example, and where no pair is valid.
    """
    n, device = len(cal.labels), cal.keys.device
    fold = torch.empty(n, dtype=torch.int64, device="cpu")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    fold[order] = torch.arange(n, device="cpu") % n_folds
    inside = torch.nn.functional.one_hot(fold, n_folds).float().to(device)  # [examples, folds]
    f1 = torch.full((len(thresholds.concepts),), torch.nan, dtype=torch.float64, device="cpu")
    for concept in range(len(f1)):
        labels = cal.labels[:, concept]
        valid = thresholds.n_positive[concept].to(device) > 0
        positive = inside[labels].sum(0)
        if int((positive > 0).sum()) < 2 or not bool(valid.any()):
            continue
        places = cal.places(thresholds.values[concept].to(device))
        n_positive = int(labels.sum())
        every = cal.positives(places, labels)[..., None]
        bottom = (places - cal.starts[:-1, None])[..., None] + n_positive
        hits = n_detected = 0
        for folds in torch.arange(n_folds, device=device).split(max(1, CELLS_AT_ONCE // (2 * places.numel()))):
            true = cal.sums(places, inside[:, folds] * labels[:, None])
            detected = cal.sums(places, inside[:, folds])
            pair = best_places(every - true, bottom - detected - positive[folds], valid)
            at = (*pair, torch.arange(len(folds), device=device))
            hits += int(true[at].sum(dtype=torch.float64))
            n_detected += int(detected[at].sum(dtype=torch.float64))
        f1[concept] = 2 * hits / (n_detected + n_positive)
    return f1


def quantile(values: Float[Tensor, "*n draws"], q: float) -> Float[Tensor, "*n"]:
    """Linear quantile over the last axis, nulls left out; null where nothing is left."""
    if values.shape[-1] == 0:
        return torch.full(values.shape[:-1], torch.nan, dtype=torch.float64, device="cpu")
    return values.nanquantile(q, dim=-1)
