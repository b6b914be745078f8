"""A best pair's figure on cal stands beside that on held-out folds, of examples and never of rows.

The choice itself lives in ``ops.choice``, what is reported of it in
``ops.best_pairs``, what shuffled labels reach in ``ops.held_out_null`` and ``ops.significance``.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import Thresholds
from sae_assets.ops.choice import best_places
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.sorted_scores import ExampleScores

CELLS_AT_ONCE = 2**22  # (unit, tail fraction, draw) cells in hand, about 20 bytes each


def deal_folds(n_examples: int, n_folds: int, seed: int) -> Int[Tensor, " examples"]:
    """Return the fold of each example, int64, dealt at random so that sizes differ by one at most."""
    fold = torch.empty(n_examples, dtype=torch.int64, device="cpu")
    order = torch.randperm(n_examples, generator=torch.Generator().manual_seed(seed), device="cpu")
    fold[order] = torch.arange(n_examples, device="cpu") % n_folds
    return fold


@plain_arithmetic()
def held_out_f1(thresholds: Thresholds, cal: ExampleScores, n_folds: int, seed: int) -> Float[Tensor, " concepts"]:
    """Return F1 on cal of pairs that were chosen without the examples they are counted on.

    The examples are dealt to folds at random. For each fold the pair is chosen on the others and counted on it; counts
    of all folds are added up before F1 is taken (Forman & Scholz 2010). Thresholds stay as calibrated on all of cal.
    Null where fewer than two folds hold a positive example, and where no pair is valid.
    """
    device = cal.keys.device
    fold = deal_folds(len(cal.labels), n_folds, seed)
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


@plain_arithmetic()
def quantile(values: Float[Tensor, "*n draws"], q: float) -> Float[Tensor, "*n"]:
    """Return linear quantile over the last axis, nulls left out; null where nothing is left."""
    if values.shape[-1] == 0:
        return torch.full(values.shape[:-1], torch.nan, dtype=torch.float64, device="cpu")
    return values.nanquantile(q, dim=-1)
