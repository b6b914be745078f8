"""Detection: is a concept present in an example? Confusion counts of every (concept, unit, tail fraction) (numerics 6).

Scores of examples are merged with the thresholds of their unit; positives are then differences of prefix sums. Choosing
pairs and chance levels live in ``ops.best_pairs``.
"""

import torch

from sae_assets.artifacts import DetectionStats, Thresholds
from sae_assets.errors import ArtifactError
from sae_assets.ops.example_scores import EVALUATED, ExampleScores, GatheredScores
from sae_assets.ops.process_state import plain_arithmetic


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
    true, false = (torch.zeros(shape, dtype=torch.int32, device="cpu") for _ in range(2))
    for first, block in blocks:
        for place, split in enumerate(EVALUATED):
            for start, part in block[split].some_units():
                units = slice(first + start, first + start + len(part.starts) - 1)
                for concept in range(n_concepts):
                    places = part.places(thresholds.values[concept, units].to(part.keys.device))
                    hits = part.positives(places, part.labels[:, concept])
                    true[place, concept, units] = hits.cpu()
                    false[place, concept, units] = (places - part.starts[:-1, None] - hits).int().cpu()
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
