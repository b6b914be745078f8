"""The chosen unit and thresholds of each concept."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts.chosen_pairs import ChosenPairs
from sae_assets.storage.columns import Scalars, floats, integers, nullable

COLUMNS = {
    "concept": "the concept",
    "unit_id": "original id of the unit in the SAE; null if no pair could be chosen",
    "threshold": "cut-off of example scores",
    "tail_fraction": "share of what the threshold was taken from that reaches it",
    "n_support": "cal positives that the pair detects",
    "chosen_by": "what chose the unit: `rows` or `examples`",
    "row_threshold": "cut-off of rows with the unit's best cal row F1; null where it has none",
    "example_unit_id": "the unit that examples would choose; null without one",
    "cal_fold_f1": "F1 over held-out folds of cal, each counted on the pair chosen without it; null if n_folds is 0",
}


def encode(artifact: ChosenPairs) -> tuple[pa.Table, Scalars]:
    def ids(units: Any) -> pa.Array:
        return pa.array(units.numpy().astype(np.int32), mask=units.numpy() < 0)

    folds, n = artifact.fold_f1, len(artifact.concepts)
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()),
        "unit_id": ids(artifact.unit_ids),
        "threshold": nullable(artifact.thresholds),
        "tail_fraction": nullable(artifact.tail_fractions),
        "n_support": artifact.support.numpy(),
        "chosen_by": pa.array(["rows" if rows else "examples" for rows in artifact.by_rows.tolist()], pa.string()),
        "row_threshold": nullable(artifact.row_thresholds),
        "example_unit_id": ids(artifact.example_unit_ids),
        "cal_fold_f1": pa.nulls(n, pa.float64()) if folds is None else nullable(folds),
    }
    names = ("selection", "choose_by", "min_support", "n_folds", "seed")
    return pa.table(columns), {name: getattr(artifact, name) for name in names}


def decode(table: pa.Table, scalars: Scalars) -> ChosenPairs:
    return ChosenPairs(
        concepts=tuple(table["concept"].to_pylist()),
        selection=scalars["selection"],
        choose_by=scalars["choose_by"],
        min_support=scalars["min_support"],
        unit_ids=integers(table["unit_id"].fill_null(-1)),
        thresholds=floats(table["threshold"]),
        tail_fractions=floats(table["tail_fraction"]),
        support=integers(table["n_support"]),
        by_rows=torch.tensor([by == "rows" for by in table["chosen_by"].to_pylist()], dtype=torch.bool, device="cpu"),
        row_thresholds=floats(table["row_threshold"]),
        example_unit_ids=integers(table["example_unit_id"].fill_null(-1)),
        seed=scalars["seed"],
        n_folds=scalars["n_folds"],
        fold_f1=floats(table["cal_fold_f1"]) if scalars["n_folds"] else None,
    )
