"""SuperActivators: the pair of every concept by its F1 on test, where everything else here chooses on cal.

Choice: github.com/BrachioLab/SuperActivators, ``scripts/pretrained_saes/sae_detection_stats_dense.py`` and
``find_best_clusters_per_concept_from_detectionmetrics`` of ``utils/unsupervised_utils.py``. Only published tables that
were made so compare with it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import DetectionStats, Thresholds
from sae_assets.ops.choice import best_pair
from sae_assets.ops.process_state import plain_arithmetic


@dataclass(frozen=True)
class TestChosen:
    """The (unit, tail fraction) with the best F1 on test, of every concept.

    Attributes:
        unit_ids: int64 [n_concepts], original ids, -1 without a pair; tail_fractions, thresholds, f1: NaN there.
        n_positive: int64 [n_concepts], test examples of the concept, which weigh the mean.
    """

    unit_ids: Int[Tensor, " concepts"]
    tail_fractions: Float[Tensor, " concepts"]
    thresholds: Float[Tensor, " concepts"]
    f1: Float[Tensor, " concepts"]
    n_positive: Int[Tensor, " concepts"]

    @property
    def weighted_f1(self) -> float:
        """Return mean of F1 by test positives, of concepts that have one."""
        weight = torch.where(self.f1.isnan(), 0, self.n_positive).double()
        return float((weight * self.f1.nan_to_num(0)).sum() / weight.sum())


@plain_arithmetic()
def choose_on_test(stats: DetectionStats, thresholds: Thresholds) -> TestChosen:
    """Thresholds are those of cal rows; unit and tail fraction are chosen by what they detect on test."""
    n = len(stats.concepts)
    unit_ids = torch.full((n,), -1, dtype=torch.int64, device="cpu")
    fractions, cutoffs, f1 = (torch.full((n,), torch.nan, dtype=torch.float64, device="cpu") for _ in range(3))
    for concept in range(n):
        pair = best_pair(
            stats.true_positives[1, concept],
            stats.false_positives[1, concept],
            int(stats.n_positive[1, concept]),
            stats.valid[concept],
        )
        if pair is None:
            continue
        unit, fraction = pair
        unit_ids[concept], fractions[concept] = stats.kept_units[unit], stats.tail_fractions[fraction]
        cutoffs[concept], f1[concept] = thresholds.values[concept, unit, fraction], stats.f1[1, concept, unit, fraction]
    return TestChosen(unit_ids, fractions, cutoffs, f1, stats.n_positive[1])
