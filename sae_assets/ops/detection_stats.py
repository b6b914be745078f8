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
from sae_assets.ops.example_scores import EVALUATED, ExampleScores, GatheredScores, some_units_of
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import zeros

LANES = 32
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
    if isinstance(scores, GatheredScores):
        labels, blocks = scores.labels, scores.blocks()
    else:
        labels, blocks = {split: scores[split].labels for split in EVALUATED}, iter([(0, scores)])
    for truth in labels.values():
        if truth.shape[1] != n_concepts:
            raise ArtifactError(f"Labels cover {truth.shape[1]} concepts, thresholds {n_concepts}.")
    shape = (len(EVALUATED), n_concepts, n_kept, n_fractions)
    true, false = (zeros(*shape, dtype=torch.int32) for _ in range(2))
    loops = loops_for(true.numel(), next(iter(labels.values())).device)
    padded = _padded(labels.values()) if loops else ()
    for first, block in blocks:
        for start, parts in some_units_of([block[split] for split in EVALUATED], SCORES_AT_ONCE):
            units = slice(first + start, first + start + len(parts[0].starts) - 1)
            cutoffs, counts = thresholds.values[:-1, units], (true[:, :, units], false[:, :, units])
            if loops:
                columns = tuple((part.keys.numpy(), part.starts.numpy(), part.example.numpy()) for part in parts)
                loops.count_detected(columns, padded, *(each.numpy() for each in (cutoffs, *counts)))
                del columns
            else:
                for part, hits, others in zip(parts, *counts, strict=True):
                    _count(part, cutoffs, hits, others)
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
    )


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


def _padded(labels: Collection[Bool[Tensor, "_ concepts"]]) -> tuple[Any, ...]:
    """Labels of splits as NumPy's, in a type that counts their examples, with concepts that no example has up to what
    a loop does at once."""
    most = max(len(truth) for truth in labels)
    dtype = torch.int16 if most <= torch.iinfo(torch.int16).max else torch.int32
    return tuple(torch.nn.functional.pad(truth.to(dtype), (0, -truth.shape[1] % LANES)).numpy() for truth in labels)
