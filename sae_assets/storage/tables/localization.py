"""The table has one row per concept and way to mark rows, and says where in its examples each concept is."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import offsets_of
from sae_assets.artifacts.localization import METHODS, Localization
from sae_assets.storage.columns import (
    CELLS,
    Scalars,
    by_split,
    flat,
    floats,
    integers,
    lists,
    nullable,
    plain_numbers,
)

SPLITS = ("cal", "test")
WHOLE = "whole_examples"
RATES = {"precision": "row precision", "recall": "row recall", "f1": "row F1", "iou": "intersection over union of rows"}
COLUMNS = {
    "concept": "the concept",
    "method": "what marks rows: `superactivators`, `regular`, `two_stage`, or `whole_examples`, all of detected ones",
    "located": "whether every positive example of cal and test says where the concept is; others have no figures",
    "unit_id": "original id of the unit in the SAE; null if no pair could be chosen",
    "cutoff": "value of the unit from which rows are marked, or cosine similarity; null where none could be chosen",
    "tail_fraction": "share that the cut-off keeps: of the unit's values on cal rows of the concept, or of the rows of "
    "detected cal examples",
    **by_split({name: f"{text} (rows)" for name, text in CELLS.items()} | RATES),
    "test_f1_low": "lower end of the 95 % interval of the test row F1",
    "test_f1_high": "upper end of the 95 % interval of the test row F1",
    "superactivators": "rows of train and cal at or above the threshold of detection",
    "direction_units": "of `two_stage`: units of the direction of these rows, ascending; empty elsewhere",
    "direction_weights": "their weights, of length 1 together",
}


def encode(artifact: Localization) -> tuple[pa.Table, Scalars]:
    n, methods = len(artifact.concepts), (*METHODS, WHOLE)
    concept = pa.array(np.repeat(np.arange(n, dtype=np.int32), len(methods)))
    units = artifact.unit_ids.repeat_interleave(len(methods)).numpy()
    nothing = torch.full((1, n), torch.nan, dtype=torch.float64, device="cpu")
    lengths = torch.zeros(n, len(methods), dtype=torch.int64, device="cpu")
    lengths[:, METHODS.index("two_stage")] = artifact.direction_offsets.diff()
    offsets = offsets_of(lengths.flatten())
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()).take(concept),
        "method": pa.array(methods * n, pa.string()),
        "located": artifact.located.repeat_interleave(len(methods)).numpy(),
        "unit_id": pa.array(units.astype(np.int32), mask=units < 0),
        "cutoff": nullable(torch.cat([artifact.cutoffs, nothing]).T),
        "tail_fraction": nullable(torch.cat([artifact.tail_fractions, nothing]).T),
    }
    counts = torch.cat([artifact.counts, artifact.whole[None]])
    for index, split in enumerate(SPLITS):
        for cell, name in enumerate(CELLS):
            columns[f"{split}_{name}"] = counts[:, index, :, cell].T.flatten().numpy()
        for name in RATES:
            rates = torch.cat([artifact.rate(name)[:, index], artifact.whole_rate(name)[None, index]])
            columns[f"{split}_{name}"] = nullable(rates.T)
    for end, name in enumerate(("test_f1_low", "test_f1_high")):
        columns[name] = nullable(torch.cat([artifact.intervals[..., end], nothing]).T)
    columns["superactivators"] = artifact.n_superactivators.repeat_interleave(len(methods)).numpy()
    columns["direction_units"] = lists(offsets, artifact.direction_units.numpy())
    columns["direction_weights"] = lists(offsets, artifact.direction_weights.numpy())
    return pa.table(columns), {"n_units": artifact.n_units}


def decode(table: pa.Table, scalars: Scalars) -> Localization:
    rows = len(METHODS) + 1
    offsets, direction_units = flat(table["direction_units"])
    _, weights = flat(table["direction_weights"])
    cells = [[integers(table[f"{split}_{name}"]).view(-1, rows).T for name in CELLS] for split in SPLITS]
    counts = torch.stack([torch.stack(of_split, -1) for of_split in cells], 1)
    one = slice(None, None, rows)  # what every row of a concept says
    return Localization(
        concepts=tuple(table["concept"].to_pylist()[one]),
        n_units=scalars["n_units"],
        located=torch.tensor(table["located"].to_pylist()[one], dtype=torch.bool, device="cpu"),
        unit_ids=integers(table["unit_id"].fill_null(-1))[one].contiguous(),
        cutoffs=_methods(table["cutoff"]),
        tail_fractions=_methods(table["tail_fraction"]),
        counts=counts[:-1].contiguous(),
        whole=counts[-1].contiguous(),
        intervals=torch.stack([_methods(table[name]) for name in ("test_f1_low", "test_f1_high")], -1),
        n_superactivators=integers(table["superactivators"])[one].contiguous(),
        direction_offsets=offsets[::rows].contiguous(),
        direction_units=torch.from_numpy(plain_numbers(direction_units, np.int32)),
        direction_weights=torch.from_numpy(plain_numbers(weights, np.float64)),
    )


def _methods(column: pa.ChunkedArray) -> torch.Tensor:
    """Return a column as float64 [3, n_concepts]; of whole examples it holds nothing."""
    return floats(column).view(-1, len(METHODS) + 1).T[:-1].contiguous()
