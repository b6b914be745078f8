"""The chosen pair of each concept, with its figures."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import BestPairs
from sae_assets.storage.columns import CELLS, Scalars, by_split, floats, integers, nullable

RATES = {"precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy"}
CHANCE = {
    "always_positive_f1": "F1 of calling every example positive",
    "null_f1_mean": "mean F1 with shuffled labels",
    "null_f1_p95": "95 % point of F1 with shuffled labels",
}
COLUMNS = {
    "concept": "the concept",
    "unit_id": "original id of the unit in the SAE; null if no pair could be chosen",
    "tail_fraction": "share of the positive values that the threshold keeps",
    "threshold": "detection cut-off",
    **by_split(CELLS | RATES | CHANCE),
    "test_f1_low": "lower end of the 95 % interval of the test F1",
    "test_f1_high": "upper end of the 95 % interval of the test F1",
    "cal_fold_f1": "F1 over held-out folds of cal, each counted on the pair chosen without it; null if n_folds is 0",
}


def encode(artifact: BestPairs) -> tuple[pa.Table, Scalars]:
    unit_ids = artifact.unit_ids.numpy()
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()),
        "unit_id": pa.array(unit_ids.astype(np.int32), mask=unit_ids < 0),
        "tail_fraction": nullable(artifact.tail_fractions),
        "threshold": nullable(artifact.thresholds),
    }
    for position, split in enumerate(("cal", "test")):
        for cell, name in enumerate(CELLS):
            columns[f"{split}_{name}"] = artifact.counts[position, :, cell].numpy()
        for name in ("precision", "recall", "f1", "accuracy"):
            columns[f"{split}_{name}"] = nullable(artifact.rate(name)[position])
        columns[f"{split}_always_positive_f1"] = nullable(artifact.always_positive_f1[position])
        columns[f"{split}_null_f1_mean"] = nullable(artifact.null_f1[position, :, 0])
        columns[f"{split}_null_f1_p95"] = nullable(artifact.null_f1[position, :, 1])
    columns["test_f1_low"] = nullable(artifact.test_interval[:, 0])
    columns["test_f1_high"] = nullable(artifact.test_interval[:, 1])
    folds = artifact.fold_f1
    columns["cal_fold_f1"] = pa.nulls(len(unit_ids), pa.float64()) if folds is None else nullable(folds)
    return pa.table(columns), {
        "weighted_test_f1": artifact.weighted(artifact.rate("f1")[1]),
        "weighted_always_positive_f1": artifact.weighted(artifact.always_positive_f1[1]),
        "weighted_interval": artifact.weighted_interval.tolist(),
        "weighted_null": artifact.weighted_null.tolist(),
        "n_permutations": artifact.n_permutations,
        "n_bootstrap": artifact.n_bootstrap,
        "seed": artifact.seed,
        "n_folds": artifact.n_folds,
    }


def decode(table: pa.Table, scalars: Scalars) -> BestPairs:
    unit_ids = table["unit_id"].fill_null(-1)
    return BestPairs(
        concepts=tuple(table["concept"].to_pylist()),
        unit_ids=integers(unit_ids),
        tail_fractions=floats(table["tail_fraction"]),
        thresholds=floats(table["threshold"]),
        counts=torch.stack(
            [torch.stack([integers(table[f"{split}_{name}"]) for name in CELLS], -1) for split in ("cal", "test")]
        ),
        null_f1=torch.stack(
            [torch.stack([floats(table[f"{s}_null_f1_{n}"]) for n in ("mean", "p95")], -1) for s in ("cal", "test")]
        ),
        test_interval=torch.stack([floats(table["test_f1_low"]), floats(table["test_f1_high"])], -1),
        weighted_interval=torch.tensor(scalars["weighted_interval"], dtype=torch.float64, device="cpu"),
        weighted_null=torch.tensor(scalars["weighted_null"], dtype=torch.float64, device="cpu"),
        n_permutations=scalars["n_permutations"],
        n_bootstrap=scalars["n_bootstrap"],
        seed=scalars["seed"],
        n_folds=scalars["n_folds"],
        fold_f1=floats(table["cal_fold_f1"]) if scalars["n_folds"] else None,
    )
