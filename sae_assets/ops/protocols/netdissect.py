"""Network Dissection (Bau et al. 2017): which concept a unit is a detector of, by the IoU of its strongest rows.

Formula: github.com/CSAILVision/NetDissect, ``src/quantprobe.py``, ``src/labelprobe.py`` (``mask = up > thresh``) and
``src/makeresult.py`` (IoU over the data set); quantile .005 and IoU .04 of ``script/rundissect.sh``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.protocols.rows import above, in_place_of
from sae_assets.ops.row_chunks import RowChunk, gather_rows

TOP_SHARE, LEAST_IOU = 0.005, 0.04


@dataclass(frozen=True)
class Dissection:
    """Every unit at its own threshold, over all rows of all splits.

    Attributes:
        n_rows: of all splits; n_positive: int64 [n_concepts], rows of each concept.
        thresholds: float64 [n_units], quantile of the values of all rows, silent ones included.
        iou: float64 [n_units, n_concepts], of the rows above it with the concept's; 0 where neither is.
        located: bool [n_concepts]; others are no concept of any unit.
    """

    n_rows: int
    n_positive: Int[Tensor, " concepts"]
    thresholds: Float[Tensor, " units"]
    iou: Float[Tensor, "units concepts"]
    located: Bool[Tensor, " concepts"]

    @property
    def concept_of_unit(self) -> Int[Tensor, " units"]:
        """Return int64, the concept with the largest IoU, the first of equals; -1 unless that is above
        ``LEAST_IOU``."""
        iou, concept = torch.where(self.located, self.iou, -1.0).max(1)
        return torch.where(iou > LEAST_IOU, concept, -1)


@plain_arithmetic()
def dissect(
    chunks: Iterable[RowChunk],
    *,
    concepts: Sequence[str],
    n_units: int,
    located: Bool[Tensor, " concepts"],
    memory_budget: int = 256 * 2**20,
) -> Dissection:
    """Return threshold and IoU of every unit; ``P(a > T) = TOP_SHARE``, by linear interpolation and exactly.

    Raises:
        ArtifactError: as ``gather_rows``.
    """
    everything = in_place_of(chunks, {"train": "cal", "cal": "cal", "test": "cal"})
    rows = gather_rows(everything, concepts=concepts, n_units=n_units, memory_budget=memory_budget)
    truth = rows.splits["cal"].truth
    thresholds, iou = [], []
    for walk, _ in rows.walks():
        threshold = walk.quantile(1 - TOP_SHARE)
        true, predicted = walk.counts_at(above(threshold)[:, None].expand(-1, len(concepts)))
        union = predicted + truth.n_positive - true
        thresholds.append(threshold)
        iou.append(true.double() / union.clamp(min=1))
    return Dissection(truth.n_rows, truth.n_positive, torch.cat(thresholds), torch.cat(iou), located)
