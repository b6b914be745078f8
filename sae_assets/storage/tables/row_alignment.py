"""The table says how well each unit falls on the rows of each concept."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts.row_alignment import RowAlignment
from sae_assets.storage.columns import Scalars, by_split, floats, integers, nullable

SPLITS = ("cal", "test")
COUNTS = {
    "tp": "rows of the concept at or above the threshold",
    "fp": "other rows at or above it",
    "fn": "rows of the concept below it",
}
RATES = {"precision": "row precision", "recall": "row recall", "f1": "row F1", "iou": "intersection over union of rows"}
COLUMNS = {
    "concept": "the concept",
    "unit_id": "original id of the unit in the SAE; units that fire on no calibration row of the concept are left out",
    "threshold": "the unit's value with the best row F1, and so IoU, on cal",
    **by_split(COUNTS | RATES | {"ap": "average precision over all thresholds"}),
    "test_auroc": "area under the ROC curve over all thresholds, on test",
    "test_purity_16": "share of the 16 test rows with the largest values that are the concept's",
    "test_pixel_iou": "intersection over union of the pixels of these patches and of masks, on test; null: no masks",
}


def encode(artifact: RowAlignment) -> tuple[pa.Table, Scalars]:
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()).take(pa.array(artifact.concept_ids.numpy())),
        "unit_id": artifact.unit_ids.numpy(),
        "threshold": artifact.thresholds.numpy(),
    }
    counts = {"tp": artifact.true_positives, "fp": artifact.false_positives, "fn": artifact.false_negatives}
    for index, split in enumerate(SPLITS):
        for name in COUNTS:
            columns[f"{split}_{name}"] = counts[name][index].contiguous().numpy()
        for name in RATES:
            columns[f"{split}_{name}"] = nullable(artifact.rate(name)[index])
        columns[f"{split}_ap"] = nullable(artifact.average_precision[index])
    columns["test_auroc"] = nullable(artifact.auroc)
    columns["test_purity_16"] = nullable(artifact.purity)
    columns["test_pixel_iou"] = nullable(artifact.pixel_iou)
    return pa.table(columns), {
        "concepts": list(artifact.concepts),
        "n_units": artifact.n_units,
        "n_rows": artifact.n_rows.tolist(),
        "n_positive": artifact.n_positive.tolist(),
        "n_unlocated": artifact.n_unlocated.tolist(),
        "intervals": [[None if end != end else end for end in ends] for ends in artifact.intervals.tolist()],
    }


def decode(table: pa.Table, scalars: Scalars) -> RowAlignment:
    concepts = tuple(scalars["concepts"])
    number = {name: index for index, name in enumerate(concepts)}
    names = table["concept"].to_pylist()
    true = torch.stack([integers(table[f"{split}_tp"], np.int32) for split in SPLITS])
    false = torch.stack([integers(table[f"{split}_fp"], np.int32) for split in SPLITS])
    ends = [[float("nan") if end is None else end for end in pair] for pair in scalars["intervals"]]
    return RowAlignment(
        concepts=concepts,
        n_units=scalars["n_units"],
        n_rows=torch.tensor(scalars["n_rows"], dtype=torch.int64, device="cpu"),
        n_positive=torch.tensor(scalars["n_positive"], dtype=torch.int64, device="cpu").view(2, len(concepts)),
        n_unlocated=torch.tensor(scalars["n_unlocated"], dtype=torch.int64, device="cpu").view(2, len(concepts)),
        concept_ids=torch.tensor([number[name] for name in names], dtype=torch.int32, device="cpu"),
        unit_ids=integers(table["unit_id"], np.int32),
        thresholds=floats(table["threshold"]),
        true_positives=true,
        predicted=true + false,
        average_precision=torch.stack([floats(table[f"{split}_ap"]) for split in SPLITS]),
        auroc=floats(table["test_auroc"]),
        purity=floats(table["test_purity_16"]),
        pixel_iou=floats(table["test_pixel_iou"]),
        intervals=torch.tensor(ends, dtype=torch.float64, device="cpu").view(len(concepts), 2),
    )
