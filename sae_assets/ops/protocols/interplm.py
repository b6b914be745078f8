"""InterPLM (Simon & Zou 2024, arXiv:2412.12101): F1 of precision over rows and recall over regions.

Formula: github.com/ElanaPearl/InterPLM, ``interplm/analysis/concepts/compare_activations.py`` (counts, ``>``),
``calculate_f1.py`` (precision per row, recall per domain) and ``report_metrics.py`` (which pairs are reported).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.errors import ArtifactError
from sae_assets.ops.incidences import Walk
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.protocols.rows import above, connected_regions
from sae_assets.ops.row_chunks import RowChunk, gather_rows
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores, sort_scores
from sae_assets.ops.truth_sets import spread

SHARES = (0.0, 0.15, 0.5, 0.6, 0.8)
LEAST_F1 = 0.5


@dataclass(frozen=True)
class RegionFigures:
    """F1 of every (unit, concept), thresholds being shares of the unit's largest value on train.

    Attributes:
        n_regions: int64 [2, n_concepts], of cal and of test.
        f1: float64 [2, n_units, n_concepts], the best over thresholds, on cal and on test each by itself; NaN without a
            true row, as where the unit does not fire on train.
        shares: float64 [n_units, n_concepts], the threshold of the best cal F1; NaN where that is. row_f1: the F1 of
            rows there, which decides between equals.
        carried_f1: float64 [n_units, n_concepts], test F1 at that threshold; 0 without a true row on test.
        located: bool [n_concepts]; others have no figures.
    """

    n_regions: Int[Tensor, "2 concepts"]
    f1: Float[Tensor, "2 units concepts"]
    shares: Float[Tensor, "units concepts"]
    row_f1: Float[Tensor, "units concepts"]
    carried_f1: Float[Tensor, "units concepts"]
    located: Bool[Tensor, " concepts"]

    @property
    def best_units(self) -> Int[Tensor, " concepts"]:
        """Return int64, the unit with the best cal F1; ties: higher F1 of rows, lower unit. -1 where none has one."""
        f1 = self.f1[0].nan_to_num(-1)
        best = f1.amax(0)
        unit = torch.where(f1 == best, self.row_f1.nan_to_num(-1), -2.0).argmax(0)
        return torch.where(best >= 0, unit, -1)

    @property
    def pairs(self) -> Bool[Tensor, "units concepts"]:
        """Return pairs with an F1 above ``LEAST_F1`` on cal and on test."""
        return (self.f1 > LEAST_F1).all(0)


@plain_arithmetic()
def score_regions(
    chunks: Iterable[RowChunk],
    *,
    concepts: Sequence[str],
    n_units: int,
    located: Bool[Tensor, " concepts"],
    width: int | None,
    memory_budget: int = 256 * 2**20,
) -> RegionFigures:
    """Return F1 of precision over rows and recall over regions, on cal and on test.

    Precision is the share of rows above the threshold that are the concept's, recall the share of its regions with such
    a row. Ties between thresholds: higher F1 of rows, then the lower threshold.

    Args:
        width: of the grid of patches, whose neighbours make regions; None where rows stand in a line.

    Raises:
        ArtifactError: no train rows, or as ``gather_rows``.
    """
    rows = gather_rows(chunks, concepts=concepts, n_units=n_units, memory_budget=memory_budget)
    tops, scores = _survey(chunks, n_units, len(concepts), width)
    thresholds = above(tops[:, None] * torch.tensor(SHARES, dtype=torch.float64, device="cpu"))
    thresholds[tops == 0] = torch.nan
    regions = [scores[split].labels.sum(0) for split in EVALUATED]
    hits = [_regions_found(scores[split], thresholds) for split in EVALUATED]
    parts, first = [], 0
    for walks in rows.walks():
        stop = first + walks[0].n_units
        of_rows = [_counts(walk, thresholds[first:stop]) for walk in walks]
        parts.append(_figures(of_rows, [hit[:, first:stop] for hit in hits], rows.splits, regions))
        first = stop
    f1, shares, row_f1, carried = zip(*parts, strict=True)
    nothing = ~located
    figures = RegionFigures(
        n_regions=torch.stack(regions),
        f1=torch.cat(f1, 1),
        shares=torch.cat(shares),
        row_f1=torch.cat(row_f1),
        carried_f1=torch.cat(carried),
        located=located,
    )
    for table in (figures.f1, figures.shares, figures.row_f1, figures.carried_f1):
        table[..., nothing] = torch.nan
    return figures


def _counts(walk: Walk, thresholds: Float[Tensor, "units shares"]) -> tuple[Tensor, Tensor]:
    """True and predicted at every share, int64 [shares, units, concepts]."""
    n_concepts = walk.truth.n_concepts
    each = [walk.counts_at(column[:, None].expand(-1, n_concepts)) for column in thresholds.T]
    true, predicted = zip(*each, strict=True)
    return torch.stack(true), torch.stack(predicted)


def _regions_found(
    scores: ExampleScores, thresholds: Float[Tensor, "units shares"]
) -> Int[Tensor, "shares units concepts"]:
    """Return regions of each concept that each unit finds at each threshold, scores being of regions."""
    places = scores.places(thresholds)
    return torch.stack([scores.positives(places, truth) for truth in scores.labels.T], -1).transpose(0, 1)


def _figures(of_rows: list, of_regions: list, rows: dict, regions: list) -> tuple[Tensor, ...]:
    """Return best F1 of both splits, the share of cal's, the F1 of rows there, and test's F1 at that share."""
    best, at_share = [], []
    for (true, predicted), hits, split, n_regions in zip(of_rows, of_regions, EVALUATED, regions, strict=True):
        precision = true.double() / predicted.clamp(min=1)
        recall = hits.double() / n_regions.clamp(min=1)
        f1 = torch.where(true > 0, 2 * precision * recall / (precision + recall).clamp(min=1e-300), torch.nan)
        plain = 2 * true.double() / (predicted + rows[split].truth.n_positive).clamp(min=1)
        best.append(f1.nan_to_num(-1).amax(0))
        at_share.append((f1, plain))
    f1, plain = at_share[0]
    ties = f1.nan_to_num(-1) == best[0]
    chosen = torch.where(ties, plain, -1.0).argmax(0)
    exists = best[0] >= 0
    shares = torch.tensor(SHARES, dtype=torch.float64, device="cpu")[chosen]
    carried = at_share[1][0].nan_to_num(0).gather(0, chosen[None])[0]
    row_f1 = plain.gather(0, chosen[None])[0]
    reached = torch.stack([torch.where(each >= 0, each, torch.nan) for each in best])
    return reached, *(torch.where(exists, table, torch.nan) for table in (shares, row_f1, carried))


def _survey(
    chunks: Iterable[RowChunk], n_units: int, n_concepts: int, width: int | None
) -> tuple[Float[Tensor, " units"], dict[str, ExampleScores]]:
    """Return largest value of each unit on train, and its largest value in every region of cal and of test."""
    tops = torch.zeros(n_units, dtype=torch.float32, device="cpu")
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {split: [] for split in EVALUATED}
    labels: dict[str, list[Tensor]] = {split: [] for split in EVALUATED}
    n_regions = dict.fromkeys(EVALUATED, 0)
    trained = False
    for chunk in chunks:
        activations, truth = chunk.activations, chunk.truth
        row, unit = activations.row_of_entry(), activations.unit_ids.long()
        train = chunk.rows_in("train")
        trained = trained or bool(train.any())
        tops.scatter_reduce_(0, unit[train[row]], activations.values[train[row]], "amax")
        region, concept = connected_regions(truth, width), truth.concept_ids.long()
        row_of_positive = truth.row_of_positive()
        for split in EVALUATED:
            inside = chunk.rows_in(split)[row_of_positive]
            regions, number = region[inside].unique(return_inverse=True)
            member = torch.zeros(len(regions), n_concepts, dtype=torch.bool, device="cpu")
            member[number, concept[inside]] = True
            region_of = torch.full_like(region, -1)
            region_of[inside] = number
            lengths = truth.row_offsets.diff()[row]
            positive, entry = spread(truth.row_offsets[row], lengths)
            index = region_of[positive]
            chosen = (index >= 0).nonzero().flatten()
            pairs, inverse = (unit[entry[chosen]] * max(len(regions), 1) + index[chosen]).unique(return_inverse=True)
            largest = torch.zeros(len(pairs), dtype=torch.float32, device="cpu")
            largest.scatter_reduce_(0, inverse, activations.values[entry[chosen]], "amax")
            width_of = max(len(regions), 1)
            parts[split].append((pairs // width_of, largest, pairs % width_of + n_regions[split]))
            labels[split].append(member)
            n_regions[split] += len(regions)
    if not trained:
        raise ArtifactError("There are no train rows: the largest value of every unit is to be that on train.")
    scores = {}
    for split in EVALUATED:
        unit, value, index = (torch.cat(column) for column in zip(*parts[split], strict=True))
        scores[split] = sort_scores(unit, value, index, torch.cat(labels[split]), n_units)
    return tops.double(), scores
