"""Detection: is a concept present in an example? Confusion counts of every (concept, unit, tail fraction) (numerics 6).

Scores of both splits are merged with the thresholds of their unit; positives are then differences of prefix sums, in
one number of both splits. Choosing pairs and chance levels live in ``ops.best_pairs``.
"""

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import DetectionStats, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import loops_for
from sae_assets.ops.example_scores import GatheredScores
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import zeros
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores, tagged

LANES = 32
HALVES = {8: torch.int16, 16: torch.int32, 32: torch.int64}  # bits of a count, and a type for two of them
UNITS_AT_ONCE = 32  # whose thresholds a loop fetches and whose counts it writes together, of all concepts,
CELLS_AT_ONCE = 2**17  # or as many as a cache holds
SCORES_AT_ONCE = 2**17  # that are counted together, for one concept after another


@plain_arithmetic()
def count_detections(scores: dict[str, ExampleScores] | GatheredScores, thresholds: Thresholds) -> DetectionStats:
    """True and false positives of every triple on both splits (numerics 6).

    Args:
        scores: all of them, or gathered ones, of which no more are held than they may be.

    Raises:
        ArtifactError: labels of another number of concepts than the thresholds.
    """
    n_concepts, n_kept, n_fractions = len(thresholds.concepts), *thresholds.values.shape[1:]
    labels = scores.labels if isinstance(scores, GatheredScores) else {name: scores[name].labels for name in EVALUATED}
    for truth in labels.values():
        if truth.shape[1] != n_concepts:
            raise ArtifactError(f"Labels cover {truth.shape[1]} concepts, thresholds {n_concepts}.")
    shape = (len(EVALUATED), n_concepts, n_kept, n_fractions)
    true, false = (zeros(*shape, dtype=torch.int32) for _ in range(2))
    truths, half = _packed(labels.values())
    loops, in_order = loops_for(true.numel(), truths.device), True
    some_units = max(1, min(UNITS_AT_ONCE, CELLS_AT_ONCE // max(1, n_concepts * n_fractions)))
    wide = torch.promote_types(truths.dtype, torch.int32)
    staged = torch.empty(2, n_concepts, some_units * n_fractions, dtype=wide, device="cpu")
    for first, keys, tags, starts in scores.tagged() if isinstance(scores, GatheredScores) else tagged(scores):
        if loops:
            columns = (*(each.numpy() for each in (keys, tags, starts)), truths.numpy().view(f"uint{2 * half}"))
            cutoffs = thresholds.values[:-1].contiguous().flatten(-2)
            tables = (each.numpy() for each in (staged, cutoffs, true.view(-1), false.view(-1)))
            in_order &= loops.detection.count_detected(*columns, half, *tables, first, n_fractions)
            del columns, tables
        else:
            together = ExampleScores(keys, starts, tags.long(), truths[:, :0].bool())
            for start, some in together.some_units(SCORES_AT_ONCE):
                units = slice(first + start, first + start + len(some.starts) - 1)
                _count(some, truths, half, thresholds.values[:-1, units], true[:, :, units], false[:, :, units])
                del some
            del together
        del keys, tags, starts
    return DetectionStats(
        concepts=thresholds.concepts,
        kept_units=thresholds.kept_units,
        tail_fractions=thresholds.tail_fractions,
        n_positive=torch.stack([truth.sum(0).cpu() for truth in labels.values()]),
        n_negative=torch.stack([(~truth).sum(0).cpu() for truth in labels.values()]),
        true_positives=true,
        false_positives=false,
        valid=(thresholds.n_positive[:-1] > 0),
        examined=loops is not None and bool(in_order),
    )


def _count(
    scores: ExampleScores,
    truths: Int[Tensor, "tags padded"],
    half: int,
    thresholds: Float[Tensor, "concepts units fractions"],
    true: Int[Tensor, "2 concepts units fractions"],
    false: Int[Tensor, "2 concepts units fractions"],
) -> None:
    """Fill the counts of these units, concept by concept.

    Args:
        scores: of both splits, with tags for examples.
        truths, half: as of :func:`_packed`.
    """
    tags, starts, mask = scores.example, scores.starts[:-1], (1 << half) - 1
    detected = _running((1 << half * (tags & 1)).to(truths.dtype))
    for concept in range(len(thresholds)):
        places = scores.places(thresholds[concept].to(tags.device))
        hits = _running(truths[:, concept].index_select(0, tags))
        some, each = (
            counts.index_select(0, places.flatten()).view_as(places) - counts.index_select(0, starts)[:, None]
            for counts in (hits, detected)
        )
        for counts, table in ((some, true), (each - some, false)):
            for split in range(len(table)):
                table[split, concept] = (counts >> half * split & mask).cpu()


def _running(amounts: Int[Tensor, " n"]) -> Int[Tensor, " n_1"]:
    """Return sums of the first of them, from none to all; of the same type, so that what is above its bits is lost."""
    return torch.nn.functional.pad(amounts.cumsum(0, dtype=amounts.dtype), (1, 0))


def _packed(labels: Collection[Bool[Tensor, "_ concepts"]]) -> tuple[Int[Tensor, "tags padded"], int]:
    """Return labels of both splits by tag, 1 of the first split, 2^half of the second; and half, of whose bits a count
    is.

    Concepts that no example has fill them up to what a loop does at once.
    """
    truth = next(iter(labels))
    most, n_concepts = max(1, *map(len, labels)), truth.shape[1]
    half, dtype = next((bits, dtype) for bits, dtype in HALVES.items() if most < 1 << bits)
    table = torch.zeros(most, len(labels), n_concepts + -n_concepts % LANES, dtype=dtype, device=truth.device)
    for split, each in enumerate(labels):
        table[: len(each), split, :n_concepts] = each.to(dtype) << half * split
    return table.flatten(0, 1), half
