"""Confusion counts of each (concept, kept unit, tail fraction)."""

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import DetectionStats
from sae_assets.storage.columns import (
    CELLS,
    TRIPLES,
    Scalars,
    by_split,
    integers,
    nullable,
    triple_columns,
    triple_fields,
    triple_scalars,
)

COLUMNS = TRIPLES | {"valid": "whether the pair has a threshold"} | by_split(CELLS | {"f1": "F1"})


def encode(artifact: DetectionStats) -> tuple[pa.Table, Scalars]:
    columns = triple_columns(list(artifact.concepts), artifact.kept_units, artifact.tail_fractions)
    counts = (
        artifact.true_positives,
        artifact.false_positives,
        artifact.false_negatives,
        artifact.true_negatives,
    )
    columns["valid"] = np.repeat(artifact.valid.flatten().numpy(), len(artifact.tail_fractions))
    for position, split in enumerate(("cal", "test")):
        for name, count in zip(CELLS, counts, strict=True):
            columns[f"{split}_{name}"] = count[position].flatten().numpy()
        columns[f"{split}_f1"] = nullable(artifact.f1[position])
    scalars = triple_scalars(artifact)
    for name in ("n_positive", "n_negative"):
        scalars[name] = getattr(artifact, name).tolist()
    return pa.table(columns), scalars


def decode(table: pa.Table, scalars: Scalars) -> DetectionStats:
    fields, shape = triple_fields(scalars)
    counts = {
        name: torch.stack([integers(table[f"{split}_{name}"], np.int32).view(shape) for split in ("cal", "test")])
        for name in ("tp", "fp")
    }
    return DetectionStats(
        **fields,
        n_positive=torch.tensor(scalars["n_positive"], dtype=torch.int64, device="cpu").view(2, shape[0]),
        n_negative=torch.tensor(scalars["n_negative"], dtype=torch.int64, device="cpu").view(2, shape[0]),
        true_positives=counts["tp"],
        false_positives=counts["fp"],
        valid=torch.from_numpy(table["valid"].to_numpy().astype(bool)).view(shape)[..., 0].contiguous(),
    )
