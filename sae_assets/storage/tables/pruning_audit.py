"""The best unit of all and the best that is kept, of each concept."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import REASONS
from sae_assets.artifacts.pruning_audit import PruningAudit
from sae_assets.storage.columns import CELLS, Scalars, by_split, floats, integers, nullable

SPLITS, PREFIXES = ("cal", "test"), ("", "kept_")
UNIT = {
    "unit_id": "original id of {}; null where none has a threshold",
    "threshold": "the example score with its best cal F1",
}
COUNTS = by_split(CELLS | {"f1": "F1"})
COLUMNS = {
    "concept": "the concept",
    "removed_by": "rule of the pruning that removed the best unit; null if it is kept",
    "cal_loss": "cal F1 that pruning costs",
} | {
    f"{prefix}{name}": text.format(whose) if name in UNIT else f"{text}, {whose}"
    for prefix, whose in (("", "the best unit of all by cal F1"), ("kept_", "the best unit that is kept"))
    for name, text in (UNIT | COUNTS).items()
}


def encode(artifact: PruningAudit) -> tuple[pa.Table, Scalars]:
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()),
        "removed_by": pa.array([artifact.removed_by(n) for n in range(len(artifact.concepts))], pa.string()),
        "cal_loss": nullable(artifact.loss),
    }
    for choice, prefix in enumerate(PREFIXES):
        units = artifact.unit_ids[choice].numpy()
        columns[f"{prefix}unit_id"] = pa.array(units.astype(np.int32), mask=units < 0)
        columns[f"{prefix}threshold"] = nullable(artifact.thresholds[choice])
        for index, split in enumerate(SPLITS):
            for cell, name in enumerate(CELLS):
                columns[f"{prefix}{split}_{name}"] = artifact.counts[choice, index, :, cell].contiguous().numpy()
            columns[f"{prefix}{split}_f1"] = nullable(artifact.f1[choice, index])
    return pa.table(columns), {
        "min_support": artifact.min_support,
        "units_by_reason": dict(zip(REASONS, artifact.units_by_reason.tolist(), strict=True)),
    }


def decode(table: pa.Table, scalars: Scalars) -> PruningAudit:
    unit_ids = torch.stack([integers(table[f"{prefix}unit_id"].fill_null(-1)) for prefix in PREFIXES])
    removed = [None if name is None else REASONS.index(name) for name in table["removed_by"].to_pylist()]
    reasons = [
        (-1 if unit < 0 else 0) if reason is None else reason
        for unit, reason in zip(unit_ids[0].tolist(), removed, strict=True)
    ]
    counts = [
        [torch.stack([integers(table[f"{prefix}{split}_{name}"]) for name in CELLS], -1) for split in SPLITS]
        for prefix in PREFIXES
    ]
    return PruningAudit(
        concepts=tuple(table["concept"].to_pylist()),
        min_support=scalars["min_support"],
        units_by_reason=torch.tensor(
            [scalars["units_by_reason"][name] for name in REASONS], dtype=torch.int64, device="cpu"
        ),
        unit_ids=unit_ids,
        thresholds=torch.stack([floats(table[f"{prefix}threshold"]) for prefix in PREFIXES]),
        counts=torch.stack([torch.stack(of) for of in counts]),
        reasons=torch.tensor(reasons, dtype=torch.int64, device="cpu"),
    )
