"""The table says whether each unit is kept, under which number, and why not."""

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import REASONS, UnitMapping
from sae_assets.storage.columns import Scalars

COLUMNS = {
    "unit_id": "original id of the unit in the SAE",
    "kept_index": "number of the unit after pruning; null if it is not kept",
    "reason": "kept, or the first rule that the unit fails",
}


def mapping_scalars(artifact: UnitMapping) -> Scalars:
    names = ("mode", "min_active", "max_active", "strength_percentile", "strength_cutoff", "target_units")
    return {name: getattr(artifact, name) for name in names}


def encode(artifact: UnitMapping) -> tuple[pa.Table, Scalars]:
    index = artifact.kept_index.numpy()
    reasons = pa.DictionaryArray.from_arrays(pa.array(artifact.reasons.numpy().astype(np.int32)), pa.array(REASONS))
    table = pa.table(
        {
            "unit_id": pa.array(range(artifact.n_original), pa.int32()),
            "kept_index": pa.array(index.astype(np.int32), mask=index < 0),
            "reason": reasons.cast(pa.string()),
        }
    )
    return table, mapping_scalars(artifact)


def decode(table: pa.Table, scalars: Scalars) -> UnitMapping:
    reasons = [REASONS.index(reason) for reason in table["reason"].to_pylist()]
    return UnitMapping(reasons=torch.tensor(reasons, dtype=torch.uint8, device="cpu"), **scalars)
