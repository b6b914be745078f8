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

from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.artifacts.localization import METHODS, Localization
from sae_assets.errors import ArtifactError
from sae_assets.ops.detection_stats import EVALUATED
from sae_assets.ops.incidences import spread
from sae_assets.ops.intervals import weighted_f1_interval
from sae_assets.ops.pooling import MAXIMUM, Pooling, pool_rows
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk, entries_of_pairs
from sae_assets.ops.segments import linear_quantiles, plan_blocks
from sae_assets.ops.thresholds import TAIL_FRACTIONS

FITTED = ("train", "cal")  # splits whose superactivators make a direction
SIMILARITY_BYTES = 32  # of one similarity while a cut-off is chosen, with its sorted copy and its truth


@dataclass(frozen=True)
class _Choice:
    """Units and thresholds of scores by which examples are detected, one each per concept, and what is located."""

    units: Int[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    located: Bool[Tensor, " concepts"]
    pooling: Pooling


class _Rows:
    """The rows of a chunk, seen by the chosen units. A unit's values are float64, 0 where none is stored."""

    def __init__(self, rows: SparseRows, units: Int[Tensor, " concepts"], pooling: Pooling):
        self.rows, self.example, self._units = rows, rows.example_of_row(), units
        # The largest row of an example is seen by its rows alone.
        self._pooled = None if pooling == MAXIMUM else pool_rows(rows, pooling)
        pair, entry = entries_of_pairs(rows, units)
        order = pair.sort(stable=True).indices
        self._row, self._value = rows.row_of_entry()[entry[order]], rows.values[entry[order]].double()
        self._starts = offsets_of(torch.bincount(pair, minlength=len(units)))

    def values(self, concept: int) -> Float[Tensor, " rows"]:
        low, high = self._starts[concept : concept + 2].tolist()
        values = torch.zeros(self.rows.n_rows, dtype=torch.float64, device="cpu")
        values[self._row[low:high]] = self._value[low:high]
        return values

    def detected(self, concept: int, values: Float[Tensor, " rows"], threshold: float) -> Bool[Tensor, " rows"]:
        """Rows of examples whose score reaches the threshold; ``values`` are the unit's on the rows."""
        examples = torch.zeros(self.rows.n_examples, dtype=torch.bool, device="cpu")
        if self._pooled is None:
            examples[self.example[values >= threshold]] = True
        else:
            unit, score, example = self._pooled
            examples[example[(unit == self._units[concept]) & (score.double() >= threshold)]] = True
        return examples[self.example]

    def similarities(self, direction: Float[Tensor, " units"], row: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Cosine of these rows with a direction of length 1, in 0..1; 0 of rows that store nothing.

        Entries of a row are added in their order, so the bits depend on nothing else. The result is rounded to float32,
        so that rows that are alike tie, as by definition.
        """
        lengths = self.rows.entries_per_row()[row]
        entry, _ = spread(self.rows.row_offsets[row], lengths)
        value = self.rows.values[entry].double()
        products = value * direction[self.rows.unit_ids[entry].long()]
        dot, square = (
            torch.segment_reduce(terms, "sum", lengths=lengths, unsafe=True) for terms in (products, value.square())
        )
        cosine = torch.where(square > 0, dot / square.clamp(min=1e-300).sqrt(), 0.0)
        return cosine.clamp(max=1).float().double()

    def marks(
        self, concept: int, cutoffs: Float[Tensor, " 3"], direction: Float[Tensor, " units"]
    ) -> tuple[Bool[Tensor, "3 rows"], Bool[Tensor, " rows"]]:
        """Rows that each method marks, none without a cut-off, and all rows of the detected examples."""
        values = self.values(concept)
        detected = self.detected(concept, values, float(cutoffs[0]))
        marks = torch.stack(
            [detected & (values >= cutoffs[0]), detected & (values >= cutoffs[1]), torch.zeros_like(detected)]
        )
        if not bool(cutoffs[2].isnan()):
            row = detected.nonzero().flatten()
            similarity = self.similarities(direction, row)
            marks[2, row] = (similarity >= cutoffs[2]) & (similarity > 0)
        return marks, detected


def _truth(chunk: RowChunk) -> list[Bool[Tensor, " rows"]]:
    """Which rows are each concept's."""
    truth = torch.zeros(len(chunk.truth.concepts), chunk.truth.n_rows, dtype=torch.bool, device="cpu")
    truth[chunk.truth.concept_ids.long(), chunk.truth.row_of_positive()] = True
    return list(truth)


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

    Raises:
        ArtifactError: no chunks, or chunks of another width or of other concepts.
    """
    choice = _Choice(unit_ids, thresholds, located, pooling)
    shares = 1 - torch.tensor(list(tail_fractions), dtype=torch.float64, device="cpu")
    tops, n_fitted, n_cells, values = _survey(chunks, concepts, n_units, choice)
    directions = _directions(chunks, n_units, choice, tops)
    n_values = torch.tensor([len(each) for each in values], dtype=torch.int64, device="cpu")
    quantiles = linear_quantiles(torch.cat(values), n_values, shares)
    candidates = torch.cat([thresholds[:, None], torch.where(quantiles < thresholds[:, None], quantiles, torch.nan)], 1)
    cutoffs = torch.full((len(METHODS), len(concepts)), torch.nan, dtype=torch.float64, device="cpu")
    fractions = torch.full_like(cutoffs, torch.nan)
    cutoffs[0] = thresholds
    kept = [float((each >= thresholds[number]).double().mean()) for number, each in enumerate(values)]
    fractions[0] = torch.tensor(kept, dtype=torch.float64, device="cpu")
    for first, stop in plan_blocks(n_cells, max(1, memory_budget // SIMILARITY_BYTES)):
        block = [number for number in range(first, stop) if bool(located[number]) and int(unit_ids[number]) >= 0]
        for concept, chosen in _choose(chunks, block, choice, directions, candidates, shares).items():
            for method, (cutoff, number) in enumerate(chosen, 1):
                cutoffs[method, concept] = cutoff
                quantile = number if method == 2 else number - 1
                fractions[method, concept] = fractions[0, concept] if quantile < 0 else tail_fractions[quantile]
    counts, whole, intervals = _count(chunks, choice, cutoffs, directions)
    members = [direction.nonzero().flatten() for direction in directions]
    return Localization(
        concepts=tuple(concepts),
        n_units=n_units,
        located=located,
        unit_ids=unit_ids,
        cutoffs=cutoffs,
        tail_fractions=fractions,
        counts=counts,
        whole=whole,
        intervals=intervals,
        n_superactivators=n_fitted,
        direction_offsets=offsets_of(torch.tensor([len(each) for each in members], dtype=torch.int64, device="cpu")),
        direction_units=torch.cat(members).int(),
        direction_weights=torch.cat([each[units] for each, units in zip(directions, members, strict=True)]),
    )


@plain_arithmetic()
def mark_rows(
    rows: SparseRows, localization: Localization, pooling: Pooling = MAXIMUM
) -> Bool[Tensor, "3 concepts rows"]:
    """The rows of a chunk that each method marks for each concept, in the order of ``METHODS``.

    Args:
        pooling: as of :func:`localize`.

    Raises:
        ArtifactError: a chunk of another width.
    """
    if rows.n_units != localization.n_units:
        raise ArtifactError(f"A chunk has {rows.n_units} units, the localization {localization.n_units}.")
    seen = _Rows(rows, localization.unit_ids, pooling)
    cutoffs = localization.cutoffs.T
    marks = [seen.marks(n, cutoffs[n], localization.direction(n))[0] for n in range(len(localization.concepts))]
    return torch.stack(marks, 1)


def _survey(
    chunks: Iterable[RowChunk], concepts: Sequence[str], n_units: int, choice: _Choice
) -> tuple[list[float], Int[Tensor, " concepts"], Int[Tensor, " concepts"], list[Float[Tensor, " _"]]]:
    """Per concept: largest value and number of superactivators of train and cal, number of rows of detected cal
    examples, and the unit's values on cal rows of the concept, ascending."""
    n = len(concepts)
    tops = [0.0] * n
    n_fitted, n_cells = torch.zeros(2, n, dtype=torch.int64, device="cpu")
    values: list[list[Tensor]] = [[] for _ in concepts]
    seen = False
    for chunk in chunks:
        if chunk.activations.n_units != n_units:
            raise ArtifactError(f"A chunk has {chunk.activations.n_units} units, expected {n_units}.")
        if chunk.truth.concepts != tuple(concepts):
            named = list(chunk.truth.concepts)
            raise ArtifactError(f"Ground truth is of concepts {named}, expected {list(concepts)}.")
        rows, truth, seen = _Rows(chunk.activations, choice.units, choice.pooling), _truth(chunk), True
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
    chunks: Iterable[RowChunk], n_units: int, choice: _Choice, tops: list[float]
) -> Float[Tensor, "concepts units"]:
    """``Σ softmax(A[R, u]) · A[r]`` over the superactivators R of train and cal, at length 1; 0 without any.

    Rows are added one after another in their order, and the exponential is the C library's, so that neither chunks nor
    threads change a bit.
    """
    directions = torch.zeros(len(tops), n_units, dtype=torch.float64, device="cpu")
    for chunk in chunks:
        rows, fitted = (
            _Rows(chunk.activations, choice.units, choice.pooling),
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
    choice: _Choice,
    directions: Float[Tensor, "all_concepts units"],
    candidates: Float[Tensor, "all_concepts candidates"],
    shares: Float[Tensor, " fractions"],
) -> dict[int, list[tuple[float, int]]]:
    """Of these concepts the cut-off of ``regular`` and of ``two_stage``, each with its place among the candidates.

    Left out are concepts without cal rows; without detected cal examples there is nothing that ``two_stage`` marks.
    """
    counts = torch.zeros(len(concepts), 2, candidates.shape[1], dtype=torch.int64, device="cpu")
    n_positive = [0] * len(concepts)
    parts: list[list[Tensor]] = [[] for _ in concepts]
    truths: list[list[Tensor]] = [[] for _ in concepts]
    for chunk in chunks if concepts else ():
        rows, truth, cal = _Rows(chunk.activations, choice.units, choice.pooling), _truth(chunk), chunk.rows_in("cal")
        for number, concept in enumerate(concepts):
            n_positive[number] += int((cal & truth[concept]).sum())
            values = rows.values(concept)
            row = (cal & rows.detected(concept, values, float(choice.thresholds[concept]))).nonzero().flatten()
            marked, there = values[row, None] >= candidates[concept], truth[concept][row]
            counts[number] += torch.stack([(marked & there[:, None]).sum(0), marked.sum(0)])
            parts[number].append(rows.similarities(directions[concept], row))
            truths[number].append(there)
    chosen = {}
    for number, concept in enumerate(concepts):
        if not n_positive[number]:
            continue
        chosen[concept] = [_best(candidates[concept], counts[number, 0], counts[number, 1], n_positive[number])]
        similarity, there = torch.cat(parts[number]), torch.cat(truths[number])
        if len(similarity):
            lengths = torch.tensor([len(similarity)], dtype=torch.int64, device="cpu")
            cuts = linear_quantiles(similarity.sort().values, lengths, shares)[0]
            marks = [(similarity >= cut) & (similarity > 0) for cut in cuts]
            true = torch.stack([(mark & there).sum() for mark in marks])
            predicted = torch.stack([mark.sum() for mark in marks])
            chosen[concept].append(_best(cuts, true, predicted, n_positive[number]))
    return chosen


def _best(
    cutoffs: Float[Tensor, " n"], true: Int[Tensor, " n"], predicted: Int[Tensor, " n"], n_positive: int
) -> tuple[float, int]:
    """The cut-off with the best F1 and its place; ties: higher recall, higher cut-off. Those that are null are none."""
    half_f1 = true.double() / (predicted + n_positive)
    ranked = zip(half_f1.tolist(), true.tolist(), cutoffs.tolist(), range(len(cutoffs)), strict=True)
    _, _, cutoff, place = max((rank for rank in ranked if rank[2] == rank[2]), key=lambda rank: (*rank[:3], -rank[3]))
    return cutoff, place


def _count(
    chunks: Iterable[RowChunk],
    choice: _Choice,
    cutoffs: Float[Tensor, "3 concepts"],
    directions: Float[Tensor, "concepts units"],
) -> tuple[Int[Tensor, "3 2 concepts 4"], Int[Tensor, "2 concepts 4"], Float[Tensor, "3 concepts 2"]]:
    """Row counts of every method, of whole detected examples, and intervals of the F1 on test."""
    judged = (choice.located & (choice.units >= 0)).nonzero().flatten().tolist()
    n = len(choice.units)
    counts = torch.zeros(len(METHODS) + 1, len(EVALUATED), n, 4, dtype=torch.int64, device="cpu")
    per_example: list[Tensor] = []
    for chunk in chunks:
        rows, truth = _Rows(chunk.activations, choice.units, choice.pooling), _truth(chunk)
        inside = [chunk.rows_in(split) for split in EVALUATED]
        each = torch.zeros(len(METHODS), n, chunk.activations.n_examples, 3, dtype=torch.int64, device="cpu")
        for concept in judged:
            marks, detected = rows.marks(concept, cutoffs[:, concept], directions[concept])
            for method, marked in enumerate([*marks, detected]):
                if method < len(METHODS) and bool(cutoffs[method, concept].isnan()):
                    continue
                there = truth[concept]
                cells = [marked & there, marked & ~there, ~marked & there, ~marked & ~there]
                for place, chosen in enumerate(inside):
                    counts[method, place, concept] += torch.stack([(cell & chosen).sum() for cell in cells])
                if method < len(METHODS):
                    for column, cell in enumerate(cells[:3]):
                        where = rows.example[cell]
                        each[method, concept, :, column] = torch.bincount(where, minlength=each.shape[2])
        per_example.append(each[:, :, chunk.examples_in("test")])
    of_examples = torch.cat(per_example, 2)
    intervals = torch.full((len(METHODS), n, 2), torch.nan, dtype=torch.float64, device="cpu")
    for method in range(len(METHODS)):
        for concept in judged:
            if not bool(cutoffs[method, concept].isnan()) and int(counts[-1, 1, concept, [0, 2]].sum()):
                intervals[method, concept] = weighted_f1_interval(of_examples[method, [concept]])[1:]
    return counts[:-1], counts[-1], intervals
