"""Detection: is a concept present in an example? Confusion counts of every (concept, unit, tail fraction) (numerics 6).

Scores of examples are merged with the thresholds of their unit; positives are then differences of prefix sums. Choosing
pairs and chance levels live in ``ops.best_pairs``.
"""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import DetectionStats, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import loops_for
from sae_assets.ops.example_scores import EVALUATED, ExampleScores, GatheredScores
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import zeros
from sae_assets.ops.sorted_scores import some_units_of, tagged

LANES = 32
HALVES = {8: torch.int16, 16: torch.int32, 32: torch.int64}  # bits of a count, and a type for two of them
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
    loops = loops_for(true.numel(), next(iter(labels.values())).device)
    if loops:
        examined = _count_by_loops(scores, labels, thresholds, true, false, loops)
    else:
        examined = False
        for first, block in scores.blocks() if isinstance(scores, GatheredScores) else ((0, scores),):
            for start, parts in some_units_of([block[split] for split in EVALUATED], SCORES_AT_ONCE):
                units = slice(first + start, first + start + len(parts[0].starts) - 1)
                for split, part in enumerate(parts):
                    _count(part, thresholds.values[:-1, units], true[split, :, units], false[split, :, units])
                del parts
            del block
    return DetectionStats(
        concepts=thresholds.concepts,
        kept_units=thresholds.kept_units,
        tail_fractions=thresholds.tail_fractions,
        n_positive=torch.stack([truth.sum(0).cpu() for truth in labels.values()]),
        n_negative=torch.stack([(~truth).sum(0).cpu() for truth in labels.values()]),
        true_positives=true,
        false_positives=false,
        valid=(thresholds.n_positive[:-1] > 0),
        examined=examined,
    )


def _count_by_loops(
    scores: dict[str, ExampleScores] | GatheredScores,
    labels: dict[str, Bool[Tensor, "_ concepts"]],
    thresholds: Thresholds,
    true: Int[Tensor, "2 concepts units fractions"],
    false: Int[Tensor, "2 concepts units fractions"],
    loops: Any,
) -> bool:
    """Fill the counts; returns whether thresholds do not rise, from which follows that no count falls."""
    truths, half = _packed(labels.values())
    tables = (each.contiguous().flatten(-2).numpy() for each in (thresholds.values[:-1], true, false))
    (cutoffs, *counts), n_fractions = tables, true.shape[-1]
    in_order = True
    for first, *columns in scores.tagged() if isinstance(scores, GatheredScores) else tagged(scores):
        some = [column.numpy() for column in columns]
        del columns
        in_order &= loops.count_detected(*some, truths, half, cutoffs, first, n_fractions, *counts)
        del some
    return bool(in_order)


def _count(
    scores: ExampleScores,
    thresholds: Float[Tensor, "concepts units fractions"],
    true: Int[Tensor, "concepts units fractions"],
    false: Int[Tensor, "concepts units fractions"],
) -> None:
    """Fill the counts of these units, concept by concept."""
    for concept in range(len(thresholds)):
        places = scores.places(thresholds[concept].to(scores.keys.device))
        hits = scores.positives(places, scores.labels[:, concept])
        true[concept] = hits.cpu()
        false[concept] = (places - scores.starts[:-1, None] - hits).int().cpu()


def _packed(labels: Collection[Bool[Tensor, "_ concepts"]]) -> tuple[Any, int]:
    """Labels of both splits by tag, as a loop counts them (``detection_kernels``), with concepts that no example has up
    to what it does at once; and of how many bits the count of a split is."""
    most, n_concepts = max(1, *map(len, labels)), next(iter(labels)).shape[1]
    half, dtype = next((bits, dtype) for bits, dtype in HALVES.items() if most < 1 << bits)
    table = torch.zeros(most, len(labels), n_concepts + -n_concepts % LANES, dtype=dtype, device="cpu")
    for split, truth in enumerate(labels):
        table[: len(truth), split, :n_concepts] = truth.to(dtype) << half * split
    return table.flatten(0, 1).numpy().view(f"uint{2 * half}"), half
