"""Units as detectors: given ones, those that a search on cal finds, and dimensions of embeddings as units.

Nothing is fitted here; that is ``ops.detectors``'s.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts.counts import f1_of
from sae_assets.ops.concept_pairs import MIN_SUPPORT, counts_of_pairs, search_pairs, supported
from sae_assets.ops.exact_search import ExactSearch
from sae_assets.ops.items import DetectorScores, Items, UnitScores
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import positions
from sae_assets.ops.sorted_scores import ExampleScores, sort_scores

CAL = 1  # of ``Items.split``
VALUES_AT_ONCE = 2**21  # of dimensions that are searched together, about 100 bytes each


@plain_arithmetic()
def given_units(
    items: Items,
    units: Int[Tensor, " concepts"],
    thresholds: Float[Tensor, " concepts"],
    scores: UnitScores | None = None,
) -> DetectorScores:
    """Return one unit per concept (−1: none) at its threshold; ``scores`` where they are not the items' own."""
    scores = items.units if scores is None else scores
    units, thresholds = units.to(scores.starts.device), thresholds.to(scores.starts.device)
    of_test = scores.dense(units, len(items.labels))[:, items.tests]
    return DetectorScores(of_test, of_test.double() >= thresholds[:, None], units, scores.n_bytes)


@plain_arithmetic()
def searched_units(
    items: Items,
    scores: UnitScores | None = None,
    min_support: int = MIN_SUPPORT,
    units: Int[Tensor, " concepts"] | None = None,
) -> DetectorScores:
    """Return unit and threshold of the best F1 on cal, over all units and thresholds (``ops.exact_search``).

    Args:
        units: of concepts whose unit was chosen otherwise, so that only its threshold is searched; -1 of others.
    """
    scores = items.units if scores is None else scores
    cal = _of_cal(items, scores)
    unit_ids = torch.full(cal.labels.shape[1:], -1, dtype=torch.int64, device="cpu") if units is None else units.cpu()
    best, thresholds = search_pairs(cal, min_support=min_support, units=unit_ids)
    rest = (unit_ids < 0).to(best.device)
    if bool(rest.any()):
        cal = replace(cal, labels=cal.labels[:, rest])
        best[rest], thresholds[rest] = search_pairs(cal, min_support=min_support)
    return given_units(items, best, thresholds, scores)


@plain_arithmetic()
def units_by_rows(
    examples: Items,
    scores: UnitScores,
    rows: Items,
    on_rows: UnitScores,
    concepts: Bool[Tensor, " concepts"],
    min_support: int = MIN_SUPPORT,
) -> Int[Tensor, " concepts"]:
    """Return the unit of the best F1 on rows of cal of these concepts, among those with a threshold on examples; -1 of
    others.

    int64, on the CPU. Rows choose as in ``ops.chosen_pairs``, of the rows that are here.
    """
    able = supported(_of_cal(examples, scores), min_support)
    cal, units = _of_cal(rows, on_rows), torch.full((len(concepts),), -1, dtype=torch.int64, device="cpu")
    asked = concepts.nonzero().flatten()
    # The best of all units is the best of those that it is among; where it is not, these are searched by themselves.
    best_units = ExactSearch(cal, min_support=1).best(cal.labels[:, asked.to(cal.labels.device)]).units.tolist()
    for concept, unit in zip(asked.tolist(), best_units, strict=True):
        if unit < 0 or able[unit, concept]:
            units[concept] = unit
            continue
        some = able[:, concept].nonzero().flatten().to(cal.keys.device)
        if len(some):
            best = ExactSearch(cal.of_units(some), min_support=1).best(cal.labels[:, [concept]]).units
            units[concept] = some[best[0]] if int(best[0]) >= 0 else -1
    return units


def _of_cal(items: Items, scores: UnitScores) -> ExampleScores:
    """Return sorted scores of the items of cal, which are numbered anew."""
    inside = items.split == CAL
    chosen, index = positions(inside[scores.items]), inside.long().cumsum(0) - 1
    entries = (scores.units()[chosen], scores.values[chosen], index[scores.items[chosen]])
    return sort_scores(*entries, items.labels[inside], scores.n_units)


@plain_arithmetic()
def dimensions(items: Items, embeddings: Float[Tensor, "items d"], min_support: int = MIN_SUPPORT) -> DetectorScores:
    """Return dimensions of embeddings as units, d of them upwards and then d downwards (choice d + i: −x_i).

    The search needs positive scores: a value is replaced by its rank among all items, which moves no comparison. Some
    dimensions at a time are searched, which changes nothing: of the best of each part the best one is taken, by the
    search's own order (higher F1, higher recall, higher threshold, lower unit).
    """
    (n, d), n_concepts = embeddings.shape, items.labels.shape[1]
    best = DetectorScores.nothing(items, 4 * embeddings.numel())
    orders: list[tuple[float, ...]] = [(-1.0,)] * n_concepts
    for some in torch.arange(d, device=embeddings.device).split(max(1, VALUES_AT_ONCE // max(1, 2 * n))):
        ranks = torch.stack([column.unique(return_inverse=True)[1] + 1 for column in embeddings[:, some].T])
        ranks = torch.cat([ranks, ranks.amax(1, keepdim=True) + 1 - ranks]) if n else torch.cat([ranks, ranks])
        item = torch.arange(n, device=ranks.device).expand(len(ranks), -1).flatten()
        scores = UnitScores(torch.arange(len(ranks) + 1, device=ranks.device) * n, item, ranks.float().flatten())
        cal = _of_cal(items, scores)
        units, thresholds = search_pairs(cal, min_support=min_support)
        counts = counts_of_pairs(cal, units, thresholds)
        detector = given_units(items, units, thresholds, scores)
        ids = torch.cat([some, some + d]).tolist()
        columns = (units, f1_of(counts), counts[:, 0], thresholds)
        for concept, (unit, *figures) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            order = (*figures, -ids[unit])
            if unit >= 0 and order > orders[concept]:
                orders[concept] = order
                best.choices[concept] = ids[unit]
                best.scores[concept], best.detected[concept] = detector.scores[concept], detector.detected[concept]
    return best
