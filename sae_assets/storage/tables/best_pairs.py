"""The chosen pair of each concept, with its figures."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sae_assets.artifacts import BestPairs
from sae_assets.storage.columns import CELLS, Scalars, by_split, floats, integers, nullable

RATES = {"precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy"}
CHANCE = {
    "always_positive_f1": "F1 of calling every example positive",
    "null_f1_mean": "mean F1 with shuffled labels",
    "null_f1_p95": "95 % point of F1 with shuffled labels",
    "p": "share of shuffles at least as good",
    "family_p": "the same over all concepts, by max T",
    "q": "the same by false discovery rate (Benjamini & Hochberg)",
}
ROW_CHANCE = {
    "null_f1_mean": "mean row F1 on test where truth maps change examples",
    "null_f1_p95": "95 % point of row F1 on test where truth maps change examples",
    "p": "share of these exchanges at least as good in row F1",
    "family_p": "the same over all concepts, by max T",
    "q": "the same by false discovery rate (Benjamini & Hochberg)",
}
SCORES = {
    "auroc": "area under the ROC curve of the unit's scores",
    "average_precision": "average precision of the unit's scores",
    "mcc": "Matthews' correlation",
    "balanced_accuracy": "mean of recall and specificity",
    "brier": "mean squared error of the probability calibrated on cal",
    "ece": "expected calibration error of that probability",
}
COLUMNS = {
    "concept": "the concept",
    "unit_id": "original id of the unit in the SAE; null if no pair could be chosen",
    "chosen_by": "what chose the unit: `rows` or `examples`",
    "tail_fraction": "share of what the threshold was taken from that reaches it",
    "threshold": "cut-off of example scores",
    **by_split(CELLS | RATES | CHANCE),
    **{f"test_{name}": f"{text} on test" for name, text in SCORES.items()},
    "test_f1_low": "lower end of the 95 % interval of the test F1",
    "test_f1_high": "upper end of the 95 % interval of the test F1",
    "test_auroc_low": "lower end of the 95 % interval of the test AUROC; null where that is",
    "test_auroc_high": "upper end of the 95 % interval of the test AUROC",
    "test_length_auroc": "area under the ROC curve on test of the number of rows alone",
    **{f"test_row_{name}": f"{text}, in rows of test" for name, text in list(CELLS.items())[:3]},
    "test_row_f1_low": "lower end of the 95 % interval of the row F1 on test; null where rows are not known",
    "test_row_f1_high": "upper end of the 95 % interval of the row F1 on test",
    **{f"test_row_{name}": text for name, text in ROW_CHANCE.items()},
}
SPLITS = ("cal", "test")


def encode(artifact: BestPairs) -> tuple[pa.Table, Scalars]:
    unit_ids = artifact.unit_ids.numpy()
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()),
        "unit_id": pa.array(unit_ids.astype(np.int32), mask=unit_ids < 0),
        "chosen_by": pa.array(["rows" if rows else "examples" for rows in artifact.by_rows.tolist()], pa.string()),
        "tail_fraction": nullable(artifact.tail_fractions),
        "threshold": nullable(artifact.thresholds),
    }
    for position, split in enumerate(SPLITS):
        for cell, name in enumerate(CELLS):
            columns[f"{split}_{name}"] = artifact.counts[position, :, cell].contiguous().numpy()
        for name in RATES:
            columns[f"{split}_{name}"] = nullable(artifact.rate(name)[position])
        columns[f"{split}_always_positive_f1"] = nullable(artifact.always_positive_f1[position])
        columns[f"{split}_null_f1_mean"] = nullable(artifact.null_f1[position, :, 0])
        columns[f"{split}_null_f1_p95"] = nullable(artifact.null_f1[position, :, 1])
        for name in ("p", "family_p", "q"):
            columns[f"{split}_{name}"] = nullable(getattr(artifact, name)[position])
    for column, name in enumerate(SCORES):
        columns[f"test_{name}"] = nullable(artifact.scores[:, column])
    columns["test_f1_low"] = nullable(artifact.test_interval[:, 0])
    columns["test_f1_high"] = nullable(artifact.test_interval[:, 1])
    columns["test_auroc_low"] = nullable(artifact.auroc_interval[:, 0])
    columns["test_auroc_high"] = nullable(artifact.auroc_interval[:, 1])
    columns["test_length_auroc"] = nullable(artifact.length_auroc)
    for cell, name in enumerate(list(CELLS)[:3]):
        columns[f"test_row_{name}"] = artifact.row_counts[:, cell].contiguous().numpy()
    columns["test_row_f1_low"] = nullable(artifact.row_interval[:, 0])
    columns["test_row_f1_high"] = nullable(artifact.row_interval[:, 1])
    columns["test_row_null_f1_mean"] = nullable(artifact.row_null_f1[:, 0])
    columns["test_row_null_f1_p95"] = nullable(artifact.row_null_f1[:, 1])
    for name in ("p", "family_p", "q"):
        columns[f"test_row_{name}"] = nullable(getattr(artifact, f"row_{name}"))
    return pa.table(columns), {
        "weighted_test_f1": artifact.weighted(artifact.rate("f1")[1]),
        "weighted_always_positive_f1": artifact.weighted(artifact.always_positive_f1[1]),
        "weighted_interval": artifact.weighted_interval.tolist(),
        "weighted_null": artifact.weighted_null.tolist(),
        "n_permutations": artifact.n_permutations,
        "seed": artifact.seed,
    }


def decode(table: pa.Table, scalars: Scalars) -> BestPairs:
    def by_splits(name: str) -> Tensor:
        return torch.stack([floats(table[f"{split}_{name}"]) for split in SPLITS])

    return BestPairs(
        concepts=tuple(table["concept"].to_pylist()),
        unit_ids=integers(table["unit_id"].fill_null(-1)),
        tail_fractions=floats(table["tail_fraction"]),
        thresholds=floats(table["threshold"]),
        by_rows=torch.tensor([by == "rows" for by in table["chosen_by"].to_pylist()], dtype=torch.bool, device="cpu"),
        counts=torch.stack(
            [torch.stack([integers(table[f"{split}_{name}"]) for name in CELLS], -1) for split in SPLITS]
        ),
        null_f1=torch.stack([by_splits("null_f1_mean"), by_splits("null_f1_p95")], -1),
        p=by_splits("p"),
        family_p=by_splits("family_p"),
        q=by_splits("q"),
        test_interval=torch.stack([floats(table["test_f1_low"]), floats(table["test_f1_high"])], -1),
        scores=torch.stack([floats(table[f"test_{name}"]) for name in SCORES], -1),
        auroc_interval=torch.stack([floats(table["test_auroc_low"]), floats(table["test_auroc_high"])], -1),
        length_auroc=floats(table["test_length_auroc"]),
        row_counts=torch.stack([integers(table[f"test_row_{name}"]) for name in list(CELLS)[:3]], -1),
        row_interval=torch.stack([floats(table["test_row_f1_low"]), floats(table["test_row_f1_high"])], -1),
        row_null_f1=torch.stack([floats(table["test_row_null_f1_mean"]), floats(table["test_row_null_f1_p95"])], -1),
        row_p=floats(table["test_row_p"]),
        row_family_p=floats(table["test_row_family_p"]),
        row_q=floats(table["test_row_q"]),
        weighted_interval=torch.tensor(scalars["weighted_interval"], dtype=torch.float64, device="cpu"),
        weighted_null=torch.tensor(scalars["weighted_null"], dtype=torch.float64, device="cpu"),
        n_permutations=scalars["n_permutations"],
        seed=scalars["seed"],
    )
