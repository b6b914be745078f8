"""Row alignment: how well do a unit's activations fall on the rows of a concept, over all thresholds? (numerics 11)

Every figure is exact: best F1 and IoU, average precision, AUROC, purity and, of patches cut from masks, the IoU of
pixels of every (unit, concept). How rows are
read is in ``ops.row_chunks``; chance levels of these figures live in ``ops.row_chance``.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import Labels
from sae_assets.artifacts.row_alignment import RowAlignment, row_rate
from sae_assets.errors import ArtifactError
from sae_assets.ops.choice import best_units
from sae_assets.ops.incidences import ENTRIES_AT_ONCE, Walk
from sae_assets.ops.intervals import clustered_f1_intervals
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk, count_per_example, gather_rows, shared_pixels
from sae_assets.ops.sorted_scores import EVALUATED

PURITY_ROWS = 16


@dataclass(frozen=True)
class RowFigures:
    """Row figures of every (unit, concept): thresholds chosen on cal, counts on both splits, and threshold-free ones.

    Attributes:
        n_rows: of cal and of test.
        n_positive: int64 [2, n_concepts], rows of each concept.
        thresholds: float64 [n_units, n_concepts], the value of a cal row; NaN (null) where the unit fires on no
            positive cal row. Such a pair predicts nothing.
        true_positives, predicted: int32 [2, n_units, n_concepts], rows at or above the threshold.
        average_precision: float64 [2, n_units, n_concepts]; NaN where a concept has no rows in the split.
        auroc: float64 [n_units, n_concepts], of test; NaN where the concept has no rows, or all of them.
        purity: float64 [n_units, n_concepts], share of the 16 test rows with the largest values that are the concept's.
    """

    n_rows: tuple[int, int]
    n_positive: Int[Tensor, "2 concepts"]
    thresholds: Float[Tensor, "units concepts"]
    true_positives: Int[Tensor, "2 units concepts"]
    predicted: Int[Tensor, "2 units concepts"]
    average_precision: Float[Tensor, "2 units concepts"]
    auroc: Float[Tensor, "units concepts"]
    purity: Float[Tensor, "units concepts"]

    @property
    def counts(self) -> Int[Tensor, "2 units concepts 3"]:
        """Return TP, FP, FN in rows, int64."""
        true, false = self.true_positives.long(), (self.predicted - self.true_positives).long()
        return torch.stack([true, false, self.n_positive[:, None] - true], -1)

    def rate(self, name: str) -> Float[Tensor, "2 units concepts"]:
        """``precision``, ``recall``, ``f1`` or ``iou``; 0/0 is 0, NaN without a threshold or without positive rows."""
        rate = row_rate(name, self.true_positives, self.predicted, self.n_positive[:, None])
        return torch.where(self.thresholds.isnan(), torch.nan, rate)

    @property
    def best_units(self) -> Int[Tensor, " concepts"]:
        """Return int64, the unit with the best cal F1, and so IoU; ties: higher recall, higher threshold, lower
        unit."""
        return best_units(self.rate("f1")[0], self.true_positives[0], self.thresholds)


@plain_arithmetic()
def align_rows(
    chunks: Iterable[RowChunk],
    *,
    concepts: Sequence[str],
    n_units: int,
    device: torch.device | str = "cpu",
    memory_budget: int = 256 * 2**20,
    entries_at_once: int = ENTRIES_AT_ONCE,
) -> RowFigures:
    """Return row figures of every (unit, concept), over all thresholds.

    One pass over the chunks collects truth and values; those of as many units as fit the budget are then sorted and
    walked a few units at a time: Σ values × concepts of their rows.

    Args:
        chunks: gone through once.
        memory_budget: as of :func:`gather_rows`; the result comes on top.
        entries_at_once: as of :meth:`GatheredRows.walks`.

    Raises:
        ArtifactError: no chunks, or chunks of another width or of other concepts.
    """
    rows = gather_rows(chunks, concepts=concepts, n_units=n_units, device=device, memory_budget=memory_budget)
    cal, test = (rows.splits[name] for name in EVALUATED)
    parts = [_align(row_walk, truth_walk) for row_walk, truth_walk in rows.walks(entries_at_once)]
    thresholds, true, predicted, precision, auroc, purity = zip(*parts, strict=True)
    return RowFigures(
        n_rows=(cal.truth.n_rows, test.truth.n_rows),
        n_positive=torch.stack([split.truth.n_positive.cpu() for split in (cal, test)]),
        thresholds=torch.cat(thresholds),
        true_positives=torch.cat(true, 1),
        predicted=torch.cat(predicted, 1),
        average_precision=torch.cat(precision, 1),
        auroc=torch.cat(auroc),
        purity=torch.cat(purity),
    )


def _align(cal: Walk, test: Walk) -> tuple[Tensor, ...]:
    """Return the tables of ``RowFigures`` for the units of these walks."""
    thresholds, true, predicted = cal.best_thresholds()
    true_test, predicted_test = test.counts_at(thresholds)
    tables = (
        thresholds,
        torch.stack([true, true_test]).int(),
        torch.stack([predicted, predicted_test]).int(),
        torch.stack([cal.average_precision(), test.average_precision()]),
        test.auroc(),
        test.purity(PURITY_ROWS),
    )
    return tuple(table.cpu() for table in tables)


@plain_arithmetic()
def count_unlocated(chunks: Iterable[Labels], inherited: str | None) -> Int[Tensor, "2 concepts"]:
    """Return positive examples on cal and on test that do not say where a concept is, int64.

    Args:
        inherited: what stands in ``region_hashes`` of a concept whose rows inherit the example's label; None where
            every row's truth is its own.

    Raises:
        ArtifactError: no chunks.
    """
    total = None
    for labels in chunks:
        counts = torch.zeros(len(EVALUATED), len(labels.concepts), dtype=torch.int64, device="cpu")
        for split, text in zip(labels.splits, labels.region_hashes, strict=True):
            if split in EVALUATED and inherited is not None:
                regions = json.loads(text)
                weak = [number for number, name in enumerate(labels.concepts) if regions.get(name) == inherited]
                counts[EVALUATED.index(split), weak] += 1
        total = counts if total is None else total + counts
    if total is None:
        raise ArtifactError("There are no chunks to align rows in.")
    return total


@plain_arithmetic()
def rank_pairs(
    figures: RowFigures, chunks: Iterable[RowChunk], *, concepts: Sequence[str], n_unlocated: Int[Tensor, "2 concepts"]
) -> RowAlignment:
    """Return the pairs that have a threshold, the best of each concept first, with an interval of that one's test F1.

    Concepts whose truth is not located in some example get no pairs.

    Args:
        chunks: gone through once more, for the pixels of patches and for the rows of each example that the first pairs
            predict.
        n_unlocated: positive examples of cal and of test whose rows inherit the example's label.
    """
    located = n_unlocated.sum(0) == 0
    f1, order = figures.rate("f1")[0], []
    first = torch.full((len(concepts),), -1, dtype=torch.int64, device="cpu")
    for concept in located.nonzero().flatten().tolist():
        units = (~figures.thresholds[:, concept].isnan()).nonzero().flatten()
        for column, descending in (  # the last sort decides first
            (figures.thresholds, True),
            (figures.true_positives[0], True),
            (f1, True),
        ):
            units = units[column[units, concept].sort(descending=descending, stable=True).indices]
        order.append(torch.stack([torch.full_like(units, concept), units]))
        if len(units):
            first[concept] = units[0]
    concept_ids, unit_ids = torch.cat(order, 1) if order else torch.zeros(2, 0, dtype=torch.int64, device="cpu")
    pixels, intervals = _second_look(figures, chunks, first)
    return RowAlignment(
        concepts=tuple(concepts),
        n_units=len(figures.thresholds),
        n_rows=torch.tensor(figures.n_rows, dtype=torch.int64, device="cpu"),
        n_positive=figures.n_positive,
        n_unlocated=n_unlocated,
        concept_ids=concept_ids.int(),
        unit_ids=unit_ids.int(),
        thresholds=figures.thresholds[unit_ids, concept_ids],
        true_positives=figures.true_positives[:, unit_ids, concept_ids],
        predicted=figures.predicted[:, unit_ids, concept_ids],
        average_precision=figures.average_precision[:, unit_ids, concept_ids],
        auroc=figures.auroc[unit_ids, concept_ids],
        purity=figures.purity[unit_ids, concept_ids],
        pixel_iou=pixels[unit_ids, concept_ids],
        intervals=intervals,
    )


class PixelCounts:
    """Pixels of test that show a concept, and those of patches at or above the threshold of each (unit, concept).

    Patches tile the model's input, so every pixel of it lies in one.
    """

    def __init__(self, thresholds: Float[Tensor, "units concepts"]):
        self._thresholds, self._sizes = thresholds, set[int | None]()
        self._shared = torch.zeros_like(thresholds, dtype=torch.int64)
        self._area = torch.zeros(thresholds.shape[1], dtype=torch.int64, device="cpu")

    def add(self, chunk: RowChunk) -> None:
        """Count a chunk; nothing more is counted once a chunk of test examples says nothing of pixels."""
        if chunk.examples_in("test").any():
            self._sizes.add(chunk.truth.patch_pixels)
            if None not in self._sizes:
                shared, area = shared_pixels(chunk, "test", self._thresholds)
                self._shared, self._area = self._shared + shared, self._area + area

    def iou(self, predicted: Int[Tensor, "units concepts"]) -> Float[Tensor, "units concepts"]:
        """Return intersection over union, float64.

        NaN without a threshold, of a concept without pixels, and everywhere if a chunk of test examples does not say
        which pixels show a concept.

        Args:
            predicted: rows of test at or above the threshold.

        Raises:
            ArtifactError: patches of different sizes.
        """
        if None in self._sizes or not self._sizes:
            return torch.full_like(self._thresholds, torch.nan)
        if len(self._sizes) > 1:
            raise ArtifactError(f"Patches of different chunks have {sorted(map(str, self._sizes))} pixels.")
        (size,) = self._sizes
        union = predicted.long() * int(size or 0) + self._area - self._shared
        nothing = self._thresholds.isnan() | (self._area == 0)
        return torch.where(nothing, torch.nan, self._shared.double() / union)


@plain_arithmetic()
def _second_look(
    figures: RowFigures, chunks: Iterable[RowChunk], units: Int[Tensor, " concepts"]
) -> tuple[Float[Tensor, "units concepts"], Float[Tensor, "concepts 2"]]:
    """Return IoU of pixels of every pair; and the interval of the test F1 of one unit per concept (-1: none), from its
    counts in each test example."""
    concepts = torch.arange(len(units), device="cpu")
    thresholds = torch.where(units >= 0, figures.thresholds[units.clamp(min=0), concepts], torch.nan)
    pixels, counts = PixelCounts(figures.thresholds), []
    for chunk in chunks:
        pixels.add(chunk)
        counts.append(count_per_example(chunk, units, concepts, thresholds)[:, chunk.examples_in("test")])
    exists = (units >= 0) & (figures.n_positive[1] > 0)
    intervals = torch.where(exists[:, None], clustered_f1_intervals(torch.cat(counts, 1)), torch.nan)
    return pixels.iou(figures.predicted[1]), intervals
