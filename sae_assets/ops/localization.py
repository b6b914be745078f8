"""Localisation: which rows of an example show a concept, by the unit that detects it? (numerics 7 and 16)

``regular`` lowers the unit's threshold within detected examples; ``two_stage`` asks which of their rows are like those
where the unit fires strongest, over all units. The unit and its threshold were chosen before (``ops.best_pairs``);
cut-offs are chosen here, on cal alone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.artifacts.localization import METHODS, Localization
from sae_assets.errors import ArtifactError
from sae_assets.ops.pooling import MAXIMUM, Pooling
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.row_marks import Choice, SeenRows, count_marks, expect_rows_of, truth_of
from sae_assets.ops.segments import cut_blocks, linear_quantiles
from sae_assets.ops.thresholds import TAIL_FRACTIONS
from sae_assets.ops.truth_sets import spread

FITTED = ("train", "cal")  # splits whose superactivators make a direction
SIMILARITY_BYTES = 32  # of one similarity while a cut-off is chosen, with its sorted copy and its truth


@dataclass(frozen=True)
class _Found:
    """Cut-offs [3, concepts], the share that each keeps, directions [concepts, units], and what these are made of."""

    cutoffs: Float[Tensor, "3 concepts"]
    tail_fractions: Float[Tensor, "3 concepts"]
    directions: Float[Tensor, "concepts units"]
    n_superactivators: Int[Tensor, " concepts"]


@plain_arithmetic()
def localize(
    chunks: Iterable[RowChunk],
    *,
    concepts: Sequence[str],
    unit_ids: Int[Tensor, " concepts"],
    thresholds: Float[Tensor, " concepts"],
    located: Bool[Tensor, " concepts"],
    n_units: int,
    tail_fractions: Sequence[float] = TAIL_FRACTIONS,
    pooling: Pooling = MAXIMUM,
    memory_budget: int = 256 * 2**20,
    earlier: Localization | None = None,
) -> Localization:
    """Choose the cut-offs of every concept by row F1 on cal, and count what they mark on cal and on test.

    ``regular`` chooses among the threshold of detection and those quantiles of the unit's values on cal rows of the
    concept that lie below it. ``two_stage`` chooses among quantiles of the similarities of all rows of detected cal
    examples; the value is carried over to test. Ties: higher recall, then the higher cut-off. Rows of examples that are
    not detected are never marked, and count.

    Args:
        chunks: iterable, more than once and in the same order: for values, for directions, to choose (more often where
            the similarities do not fit the budget), and to count.
        unit_ids: int64, original ids, -1 where no unit stands for the concept; thresholds: float64, NaN there.
        located: concepts whose rows have a truth of their own; others get a direction and no figures.
        tail_fractions: shares that the quantiles keep.
        pooling: of rows to the score of an example that reaches the threshold, or does not.
        memory_budget: bytes for the similarities; one concept's are always held together. Directions take 8 bytes per
            concept and unit of the SAE on top, counts 72 per concept and test example.
        earlier: cut-offs and directions that were chosen before, of the same concepts: of those whose pair is still the
            same they are kept, and figures counted.

    Raises:
        ArtifactError: no chunks, or chunks of another width or of other concepts.
    """
    choice = Choice(unit_ids, thresholds, located, pooling)
    cuts = _earlier_cuts(earlier, choice) or _find(chunks, concepts, n_units, choice, tail_fractions, memory_budget)
    counts, whole, intervals = count_marks(chunks, concepts, choice, cuts.cutoffs, cuts.directions)
    members = [direction.nonzero().flatten() for direction in cuts.directions]
    return Localization(
        concepts=tuple(concepts),
        n_units=n_units,
        located=located,
        unit_ids=unit_ids,
        cutoffs=cuts.cutoffs,
        tail_fractions=cuts.tail_fractions,
        counts=counts,
        whole=whole,
        intervals=intervals,
        n_superactivators=cuts.n_superactivators,
        direction_offsets=offsets_of(torch.tensor([len(each) for each in members], dtype=torch.int64, device="cpu")),
        direction_units=torch.cat(members).int(),
        direction_weights=torch.cat([each[units] for each, units in zip(cuts.directions, members, strict=True)]),
    )


def _earlier_cuts(earlier: Localization | None, choice: Choice) -> "_Found | None":
    """Return what was chosen before, if it was for the same pairs, of which the first cut-offs are the thresholds."""
    if earlier is None or not torch.equal(earlier.unit_ids, choice.units):
        return None
    if not torch.equal(earlier.cutoffs[0].nan_to_num(-1), choice.thresholds.nan_to_num(-1)):
        return None
    directions = [earlier.direction(concept) for concept in range(len(choice.units))]
    return _Found(earlier.cutoffs, earlier.tail_fractions, torch.stack(directions), earlier.n_superactivators)


def _find(
    chunks: Iterable[RowChunk],
    concepts: Sequence[str],
    n_units: int,
    choice: Choice,
    tail_fractions: Sequence[float],
    memory_budget: int,
) -> "_Found":
    """Return directions of train and cal, and the cut-offs with the best row F1 on cal."""
    thresholds, located = choice.thresholds, choice.located
    shares = 1 - torch.tensor(list(tail_fractions), dtype=torch.float64, device="cpu")
    tops, n_fitted, n_cells, values = _survey(chunks, concepts, n_units, choice)
    directions = _directions(chunks, n_units, choice, tops)
    n_values = torch.tensor([len(each) for each in values], dtype=torch.int64, device="cpu")
    quantiles = linear_quantiles(torch.cat(values), n_values, shares)
    candidates = torch.cat([thresholds[:, None], torch.where(quantiles < thresholds[:, None], quantiles, torch.nan)], 1)
    cutoffs = torch.full((len(METHODS), len(concepts)), torch.nan, dtype=torch.float64, device="cpu")
    fractions = torch.full_like(cutoffs, torch.nan)
    cutoffs[0] = thresholds
    shares_kept = [float((each >= thresholds[number]).double().mean()) for number, each in enumerate(values)]
    fractions[0] = torch.tensor(shares_kept, dtype=torch.float64, device="cpu")
    for first, stop in cut_blocks(n_cells, max(1, memory_budget // SIMILARITY_BYTES)):
        block = [number for number in range(first, stop) if bool(located[number]) and int(choice.units[number]) >= 0]
        for concept, chosen in _choose(chunks, block, choice, directions, candidates, shares).items():
            for method, (cutoff, number) in enumerate(chosen, 1):
                cutoffs[method, concept] = cutoff
                quantile = number if method == 2 else number - 1
                fractions[method, concept] = fractions[0, concept] if quantile < 0 else tail_fractions[quantile]
    return _Found(cutoffs, fractions, directions, n_fitted)


def _survey(
    chunks: Iterable[RowChunk], concepts: Sequence[str], n_units: int, choice: Choice
) -> tuple[list[float], Int[Tensor, " concepts"], Int[Tensor, " concepts"], list[Float[Tensor, " _"]]]:
    """Per concept: largest value and number of superactivators of train and cal, number of rows of detected cal
    examples, and the unit's values on cal rows of the concept, ascending."""
    n = len(concepts)
    tops = [0.0] * n
    n_fitted, n_cells = torch.zeros(2, n, dtype=torch.int64, device="cpu")
    values: list[list[Tensor]] = [[] for _ in concepts]
    seen = False
    for chunk in chunks:
        expect_rows_of(chunk, concepts, n_units)
        rows, truth, seen = SeenRows(chunk.activations, choice.units, choice.pooling), truth_of(chunk), True
        cal = chunk.rows_in("cal")
        fitted = chunk.rows_in("train") | cal
        for concept in range(n):
            threshold, column = float(choice.thresholds[concept]), rows.values(concept)
            detected = rows.detected(concept, column, threshold)
            strongest = column[fitted & detected & (column >= threshold)]
            if len(strongest):
                tops[concept] = max(tops[concept], float(strongest.max()))
                n_fitted[concept] += len(strongest)
            n_cells[concept] += int((cal & detected).sum())
            values[concept].append(column[cal & truth[concept] & (column > 0)])
    if not seen:
        raise ArtifactError("There are no chunks to localise in.")
    return tops, n_fitted, n_cells, [torch.cat(each).sort().values for each in values]


def _directions(
    chunks: Iterable[RowChunk], n_units: int, choice: Choice, tops: list[float]
) -> Float[Tensor, "concepts units"]:
    """``Σ softmax(A[R, u]) · A[r]`` over the superactivators R of train and cal, at length 1; 0 without any.

    Rows are added one after another in their order, and the exponential is the C library's, so that neither chunks nor
    threads change a bit.
    """
    directions = torch.zeros(len(tops), n_units, dtype=torch.float64, device="cpu")
    for chunk in chunks:
        rows, fitted = (
            SeenRows(chunk.activations, choice.units, choice.pooling),
            chunk.rows_in("train") | chunk.rows_in("cal"),
        )
        for concept, top in enumerate(tops):
            values = rows.values(concept)
            threshold = float(choice.thresholds[concept])
            inside = fitted & rows.detected(concept, values, threshold)
            row = (inside & (values >= threshold)).nonzero().flatten()
            if not len(row):
                continue
            weights = [math.exp(value - top) for value in values[row].tolist()]
            entry, position = spread(chunk.activations.row_offsets[row], chunk.activations.entries_per_row()[row])
            weight = torch.tensor(weights, dtype=torch.float64, device="cpu")[position]
            terms = weight * chunk.activations.values[entry].double()
            directions[concept].index_add_(0, chunk.activations.unit_ids[entry].long(), terms)
    for direction in directions:
        members = direction.nonzero().flatten()
        if len(members):
            # Scaled first: the square of a subnormal sum would be 0.
            direction /= direction.max()
            direction /= math.sqrt(math.fsum(direction[members].square().tolist()))
    return directions


def _choose(
    chunks: Iterable[RowChunk],
    concepts: list[int],
    choice: Choice,
    directions: Float[Tensor, "all_concepts units"],
    candidates: Float[Tensor, "all_concepts candidates"],
    shares: Float[Tensor, " fractions"],
) -> dict[int, list[tuple[float, int]]]:
    """Return these concepts' cut-offs of ``regular`` and of ``two_stage``, each with its index among the candidates.

    Left out are concepts without cal rows; without detected cal examples there is nothing that ``two_stage`` marks.
    """
    counts = torch.zeros(len(concepts), 2, candidates.shape[1], dtype=torch.int64, device="cpu")
    n_positive = [0] * len(concepts)
    parts: list[list[Tensor]] = [[] for _ in concepts]
    truths: list[list[Tensor]] = [[] for _ in concepts]
    for chunk in chunks if concepts else ():
        rows, truth, cal = (
            SeenRows(chunk.activations, choice.units, choice.pooling),
            truth_of(chunk),
            chunk.rows_in("cal"),
        )
        for number, concept in enumerate(concepts):
            n_positive[number] += int((cal & truth[concept]).sum())
            values = rows.values(concept)
            row = (cal & rows.detected(concept, values, float(choice.thresholds[concept]))).nonzero().flatten()
            marked, positive = values[row, None] >= candidates[concept], truth[concept][row]
            counts[number] += torch.stack([(marked & positive[:, None]).sum(0), marked.sum(0)])
            parts[number].append(rows.similarities(directions[concept], row))
            truths[number].append(positive)
    chosen = {}
    for number, concept in enumerate(concepts):
        if not n_positive[number]:
            continue
        chosen[concept] = [_best(candidates[concept], counts[number, 0], counts[number, 1], n_positive[number])]
        similarity, positive = torch.cat(parts[number]), torch.cat(truths[number])
        if len(similarity):
            lengths = torch.tensor([len(similarity)], dtype=torch.int64, device="cpu")
            cuts = linear_quantiles(similarity.sort().values, lengths, shares)[0]
            marks = [(similarity >= cut) & (similarity > 0) for cut in cuts]
            true = torch.stack([(mark & positive).sum() for mark in marks])
            predicted = torch.stack([mark.sum() for mark in marks])
            chosen[concept].append(_best(cuts, true, predicted, n_positive[number]))
    return chosen


def _best(
    cutoffs: Float[Tensor, " n"], true: Int[Tensor, " n"], predicted: Int[Tensor, " n"], n_positive: int
) -> tuple[float, int]:
    """Return the cut-off with the best F1 and its place; ties: higher recall, higher cut-off. Those that are null are
    none."""
    half_f1 = true.double() / (predicted + n_positive)
    ranked = zip(half_f1.tolist(), true.tolist(), cutoffs.tolist(), range(len(cutoffs)), strict=True)
    _, _, cutoff, index = max((rank for rank in ranked if rank[2] == rank[2]), key=lambda rank: (*rank[:3], -rank[3]))
    return cutoff, index
