"""Detection: is a concept present in an example? Confusion counts of every (concept, unit, tail fraction) (numerics 6).

Scores of examples are merged with the thresholds of their unit; positives are then differences of prefix sums. Choosing
pairs and chance levels live in ``ops.best_pairs``.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import DetectionStats, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import loops_for
from sae_assets.ops.example_scores import EVALUATED, ExampleScores, GatheredScores
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import zeros

LANES = 32


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
    for first, block in blocks:
        for place, split in enumerate(EVALUATED):
            loops = loops_for(true.numel(), block[split].keys.device)
            for start, part in block[split].some_units():
                units = slice(first + start, first + start + len(part.starts) - 1)
                columns = thresholds.values[:-1, units], true[place, :, units], false[place, :, units]
                if loops:
                    sorted_scores = part.keys, part.starts, part.example, _padded(part.labels)
                    loops.count_detected(*(column.numpy() for column in (*sorted_scores, *columns)))
                    del sorted_scores
                else:
                    _count(part, *columns)
        del block, part
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


def _padded(labels: Bool[Tensor, "examples concepts"]) -> Int[Tensor, "examples width"]:
    """Labels in a type that counts the examples, with concepts that no example has up to what a loop does at once."""
    dtype = torch.int16 if len(labels) <= torch.iinfo(torch.int16).max else torch.int32
    padded = torch.zeros(len(labels), -(-labels.shape[1] // LANES) * LANES, dtype=dtype, device="cpu")
    padded[:, : labels.shape[1]] = labels
    return padded
